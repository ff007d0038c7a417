//! Key sets of issuers (RFC 7517): fetched once for all who wait, kept as long as their headers say, asked for again when
//! a token names a key that is not there — but not more often than every half minute — and used further while the issuer
//! is down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use ring::digest::{SHA256, digest};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::jwt::Key;
use crate::Error;
use crate::spec::Algorithm;

/// Between two fetches, whatever tokens name.
const COOL_DOWN: Duration = Duration::from_secs(30);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 100;
/// How long a set is fresh where its headers say nothing, and the bounds of what they may say.
const FRESH: Duration = Duration::from_secs(600);
const FRESH_AT_LEAST: Duration = Duration::from_secs(60);
const FRESH_AT_MOST: Duration = Duration::from_secs(86_400);
/// Passwords stretched at the same time.
const MOST_AT_WORK: usize = 4;
/// Callers that wait for that; more are refused at once.
const MOST_WAITING: usize = 64;
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Does what a worker must not wait for in its own thread: fetching, and long computations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    handle: Handle,
    client: reqwest::Client,
    at_work: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Fetcher {
    /// On this runtime, with this client.
    pub fn new(handle: Handle, client: reqwest::Client) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { handle, client, at_work: places(MOST_AT_WORK), waiting: places(MOST_WAITING) }
    }

    /// The runtime that goes on whatever becomes of a worker.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Computes something long on a thread for that.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where too many wait already, it is not their turn in time, or the process stops.
    pub async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = match self.at_work.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _turn = self.waiting.try_acquire().map_err(|_| Error::Overloaded)?;
                let waited = timeout(WAIT_TIMEOUT, self.at_work.clone().acquire_owned()).await;
                waited.ok().and_then(Result::ok).ok_or(Error::Overloaded)?
            }
        };
        // The place goes with the work: a caller who leaves makes no room for more of it.
        let placed = move || {
            let _place = place;
            work()
        };
        self.handle.spawn_blocking(placed).await.map_err(|_| Error::Overloaded)
    }

    /// The body of an URL and how long it is fresh.
    async fn get(&self, url: &str) -> Result<(Vec<u8>, Duration), String> {
        let request = self.client.get(url).timeout(FETCH_TIMEOUT);
        let url = url.to_owned();
        let fetching = async move {
            let failed = |error: reqwest::Error| format!("`{url}`: {}", error.without_url());
            let mut answer = request.send().await.map_err(failed)?;
            if !answer.status().is_success() {
                return Err(format!("`{url}` answered {}", answer.status()));
            }
            let fresh =
                answer.headers().get(http::header::CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_BYTES {
                    return Err(format!("`{url}` is larger than {MAX_BYTES} bytes"));
                }
            }
            Ok((body, fresh.unwrap_or(FRESH).clamp(FRESH_AT_LEAST, FRESH_AT_MOST)))
        };
        self.handle.spawn(fetching).await.map_err(|error| error.to_string())?
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    directives.find_map(|one| one.strip_prefix("max-age=")?.parse().ok()).map(Duration::from_secs)
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// At this URL.
    Url(String),
    /// Where this issuer says (OpenID Connect Discovery 1.0).
    Issuer(String),
}

/// What of an issuer's own document is read.
#[derive(serde::Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    async fn url(&self, fetcher: &Fetcher) -> Result<String, String> {
        let name = match self {
            Self::Url(url) => return Ok(url.clone()),
            Self::Issuer(name) => name,
        };
        let address = format!("{}/.well-known/openid-configuration", name.trim_end_matches('/'));
        let (body, _) = fetcher.get(&address).await?;
        let found: Discovery = serde_json::from_slice(&body).map_err(|error| format!("`{address}`: {error}"))?;
        // Otherwise one issuer could speak for another (4.3 there).
        if found.issuer != *name {
            return Err(format!("`{address}` is about another issuer, `{}`", found.issuer));
        }
        if name.starts_with("https:") && !found.jwks_uri.starts_with("https:") {
            return Err(format!("`{}` is not https", found.jwks_uri));
        }
        Ok(found.jwks_uri)
    }
}

/// The key set of an issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Jwks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: String,
    source: Source,
    algorithms: Vec<Algorithm>,
    state: Mutex<State>,
    /// `state.number`, to be read without a lock.
    number: AtomicU64,
    began: Instant,
    /// From when on it should be fetched again, in microseconds since it began; 0 before the first fetch.
    due_us: AtomicU64,
}

/// A fetch under way. It goes on whoever stops waiting for it.
type Flight = Shared<BoxFuture<'static, ()>>;

#[derive(Debug, Default)]
struct State {
    flight: Option<Flight>,
    keys: Arc<Vec<Key>>,
    /// Counts the sets that were unlike the one before.
    number: u64,
    digest: Vec<u8>,
    tried_at: Option<Instant>,
    failure: Option<String>,
}

impl Jwks {
    pub(super) fn new(provider: &str, source: Source, algorithms: &[Algorithm]) -> Self {
        Self(Arc::new(Inner {
            provider: provider.to_owned(),
            source,
            algorithms: algorithms.to_vec(),
            state: Mutex::default(),
            number: AtomicU64::new(0),
            began: Instant::now(),
            due_us: AtomicU64::new(0),
        }))
    }

    /// Counts the sets: what was checked with another one is not remembered. Has the set fetched again where it is not
    /// fresh any more, so that a key that was taken back is not believed for as long as its tokens are remembered.
    pub(super) fn number(&self, fetcher: &Fetcher) -> u64 {
        let due_us = self.0.due_us.load(Ordering::Relaxed);
        if due_us != 0 && self.now_us() >= due_us {
            self.fetch(fetcher);
        }
        self.0.number.load(Ordering::Acquire)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that a token with this `kid` may be signed with, and the number of their set.
    ///
    /// # Errors
    /// [`Error::KeysUnavailable`] where there never were any.
    pub(super) async fn keys_for(&self, kid: Option<&str>, fetcher: &Fetcher) -> Result<(Arc<Vec<Key>>, u64), Error> {
        let (keys, number) = {
            let state = self.state();
            (state.keys.clone(), state.number)
        };
        let knows = kid.is_none_or(|kid| keys.iter().any(|key| key.id.as_deref() == Some(kid)));
        if !keys.is_empty() && knows {
            return Ok((keys, number));
        }
        // With no keys at all somebody may be fetching them right now.
        if let Some(flight) = self.fetch(fetcher) {
            flight.await;
        }
        let state = self.state();
        if state.keys.is_empty() {
            let reason = state.failure.clone().unwrap_or_else(|| "it has no key that can be used".into());
            return Err(Error::KeysUnavailable { provider: self.0.provider.clone(), reason });
        }
        Ok((state.keys.clone(), state.number))
    }

    /// The fetch that is under way, or a new one, unless there just was one.
    fn fetch(&self, fetcher: &Fetcher) -> Option<Flight> {
        let mut state = self.state();
        // One that is over without a word was given up with its runtime.
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.peek().is_none()) {
            return Some(flight.clone());
        }
        if state.tried_at.is_some_and(|at| Instant::now() < at + COOL_DOWN) {
            return None;
        }
        let (this, with) = (self.clone(), fetcher.clone());
        let task = fetcher.handle.spawn(async move {
            let fetched = match this.0.source.url(&with).await {
                Ok(url) => with.get(&url).await,
                Err(reason) => Err(reason),
            };
            let read = fetched.and_then(|(body, fresh)| {
                let digest = digest(&SHA256, &body).as_ref().to_vec();
                Ok((read_set(&body, &this.0.algorithms)?, digest, fresh))
            });
            this.take(read);
        });
        let flight = task.map(drop).boxed().shared();
        state.flight = Some(flight.clone());
        Some(flight)
    }

    /// Takes what was fetched.
    fn take(&self, read: Result<(Vec<Key>, Vec<u8>, Duration), String>) {
        let mut state = self.state();
        state.flight = None;
        state.tried_at = Some(Instant::now());
        let again_in = read.as_ref().map_or(COOL_DOWN, |(_, _, fresh)| *fresh);
        let again_us = u64::try_from(again_in.as_micros()).unwrap_or(u64::MAX);
        self.0.due_us.store(self.now_us().saturating_add(again_us), Ordering::Relaxed);
        match read {
            Ok((keys, digest, _)) => {
                state.failure = None;
                if digest != state.digest {
                    (state.keys, state.digest) = (Arc::new(keys), digest);
                    state.number += 1;
                    self.0.number.store(state.number, Ordering::Release);
                }
            }
            Err(reason) => {
                tracing::warn!(provider = self.0.provider, reason, "the key set cannot be fetched; known keys stay");
                state.failure = Some(reason);
            }
        }
    }
}

/// The keys of a set that can be used: for signatures, of an algorithm that is allowed, and public.
fn read_set(body: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|error| format!("it is not a key set: {error}"))?;
    // Keys of kinds that are not known here are none of our business.
    let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|key| usable(&key, algorithms)).collect())
}

fn usable(jwk: &Jwk, algorithms: &[Algorithm]) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let named = jwk.common.key_algorithm.map(|named| named.to_string());
    let fits = algorithms.contains(&algorithm) && named.is_none_or(|named| named == format!("{algorithm:?}"));
    let decoding = DecodingKey::from_jwk(jwk).ok().filter(|_| fits)?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm, decoding })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use axum::http::header::CACHE_CONTROL;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderMap;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::{Value, json};
    use tessera_kernel::{Clock, SystemClock};

    use super::*;
    use crate::auth::jwt::Jwt;
    use crate::auth::{Guesses, Kind, Proof, Remembered, Shown, Way};
    use crate::spec::Auth;

    fn fetcher() -> Fetcher {
        Fetcher::new(Handle::current(), tessera_service::client::build().unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_goes_away_makes_no_room_for_more_work() {
        let fetcher = fetcher();
        let began = Arc::new(AtomicUsize::new(0));
        let (ends, waits): (Vec<_>, Vec<_>) = (0..3 * MOST_AT_WORK).map(|_| mpsc::channel::<()>()).unzip();
        for wait in waits {
            let began = began.clone();
            let mut work = Box::pin(fetcher.work(move || {
                began.fetch_add(1, Ordering::SeqCst);
                let _ = wait.recv();
            }));
            // It is asked for, and then nobody waits for it any more.
            assert!((&mut work).now_or_never().is_none());
        }
        drop(ends);
        fetcher.work(|| ()).await.unwrap();
        // Those that were let in have ended, since all places are free.
        let _all = fetcher.at_work.acquire_many(MOST_AT_WORK as u32).await.unwrap();
        assert!(began.load(Ordering::SeqCst) <= MOST_AT_WORK, "{began:?}");
    }

    /// An issuer that serves these keys.
    async fn issuer(keys: Arc<Mutex<Value>>, asked: Arc<AtomicUsize>) -> String {
        let answer = move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let body = keys.lock().unwrap().to_string();
            async move { ([(CACHE_CONTROL, "max-age=60")], body) }
        };
        let router = axum::Router::new().route("/keys", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_key_that_is_taken_back_is_not_believed_for_as_long_as_its_tokens() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": URL_SAFE_NO_PAD.encode(pair.public_key()) });
        let (keys, asked) = (Arc::new(Mutex::new(json!({ "keys": [jwk] }))), Arc::new(AtomicUsize::new(0)));
        let url = issuer(keys.clone(), asked.clone()).await;
        let spec: Auth = serde_saphyr::from_str(&format!("jwt: {{ jwks: \"{url}\" }}")).unwrap();
        let way = Arc::new(Way::new("main", &spec, std::path::Path::new(".")).unwrap());
        let now_s = SystemClock.now().micros() / 1_000_000;
        let header = Header { kid: Some("a".into()), ..Header::new(jsonwebtoken::Algorithm::EdDSA) };
        let claims = json!({ "sub": "ann", "exp": now_s + 3_600 });
        let token = encode(&header, &claims, &EncodingKey::from_ed_der(pkcs8.as_ref())).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let (remembered, fetcher) = (Remembered::default(), fetcher());
        let shown = Shown {
            headers: &headers,
            certificate: None,
            clock: &SystemClock,
            remembered: &remembered,
            fetcher: &fetcher,
            guesses: Guesses { limiter: None, caller: [127, 0, 0, 1].into(), now_us: 0 },
        };
        let later = || async {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(61)).await;
            tokio::time::resume();
        };
        let holds = || async { matches!(way.check(shown).await.unwrap(), Proof::Holds(_)) };
        let Kind::Jwt(Jwt { fetched: Some(jwks), .. }) = &way.kind else { panic!("{way:?}") };
        let fetched = |count: usize| {
            let asked = asked.clone();
            async move {
                while asked.load(Ordering::SeqCst) < count || jwks.state().flight.is_some() {
                    tokio::task::yield_now().await;
                }
            }
        };
        assert!(holds().await && holds().await);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The same keys, fetched again beside the requests: what is remembered stays.
        later().await;
        assert!(holds().await);
        tokio::time::timeout(Duration::from_secs(20), fetched(2)).await.unwrap();
        *keys.lock().unwrap() = json!({ "keys": [] });
        later().await;
        assert!(holds().await, "the request that finds them old does not wait");
        tokio::time::timeout(Duration::from_secs(20), fetched(3)).await.unwrap();
        let gone = async {
            while way.check(shown).await.is_ok_and(|proof| matches!(proof, Proof::Holds(_))) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the key is gone, and so is its token");
    }
}
