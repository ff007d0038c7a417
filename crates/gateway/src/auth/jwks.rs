//! Key sets of issuers (RFC 7517): fetched once for all who wait, kept as long as their headers say, asked for again when
//! a token names a key that is not there — but not more often than every half minute — and used further while the issuer
//! is down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

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

/// Does what a worker must not wait for in its own thread: fetching, and long computations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    handle: Handle,
    client: reqwest::Client,
    at_work: Arc<Semaphore>,
}

impl Fetcher {
    /// On this runtime, with this client.
    pub fn new(handle: Handle, client: reqwest::Client) -> Self {
        Self { handle, client, at_work: Arc::new(Semaphore::new(MOST_AT_WORK)) }
    }

    /// Computes something long on a thread for that.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where the process stops.
    pub async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _place = self.at_work.acquire().await.map_err(|_| Error::Overloaded)?;
        self.handle.spawn_blocking(work).await.map_err(|_| Error::Overloaded)
    }

    /// The body of an URL and how long it is fresh.
    async fn get(&self, url: &str) -> Result<(Vec<u8>, Duration), String> {
        let request = self.client.get(url).timeout(FETCH_TIMEOUT);
        let fetching = async move {
            let mut answer = request.send().await.map_err(|error| error.without_url().to_string())?;
            if !answer.status().is_success() {
                return Err(format!("it answered {}", answer.status()));
            }
            let fresh =
                answer.headers().get(http::header::CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_BYTES {
                    return Err(format!("it is larger than {MAX_BYTES} bytes"));
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

/// The key set of an issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Jwks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: String,
    url: String,
    algorithms: Vec<Algorithm>,
    state: Mutex<State>,
    number: AtomicU64,
    /// Held by whoever fetches.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Vec<Key>>,
    fresh_until: Option<Instant>,
    tried_at: Option<Instant>,
    failure: Option<String>,
}

impl Jwks {
    pub(super) fn new(provider: &str, url: &str, algorithms: &[Algorithm]) -> Self {
        Self(Arc::new(Inner {
            provider: provider.to_owned(),
            url: url.to_owned(),
            algorithms: algorithms.to_vec(),
            state: Mutex::default(),
            number: AtomicU64::new(0),
            flight: tokio::sync::Mutex::default(),
        }))
    }

    /// Counts the sets: what was checked with another one is not remembered.
    pub(super) fn number(&self) -> u64 {
        self.0.number.load(Ordering::Acquire)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that a token with this `kid` may be signed with.
    ///
    /// # Errors
    /// [`Error::KeysUnavailable`] where there never were any.
    pub(super) async fn keys_for(&self, kid: Option<&str>, fetcher: &Fetcher) -> Result<Arc<Vec<Key>>, Error> {
        let (keys, is_fresh, may_try) = {
            let state = self.state();
            let now = Instant::now();
            let is_fresh = state.fresh_until.is_some_and(|until| now < until);
            (state.keys.clone(), is_fresh, state.tried_at.is_none_or(|at| now >= at + COOL_DOWN))
        };
        let knows = kid.is_none_or(|kid| keys.iter().any(|key| key.id.as_deref() == Some(kid)));
        if !keys.is_empty() && knows {
            if !is_fresh && may_try {
                let (this, fetcher) = (self.clone(), fetcher.clone());
                // The next one finds them fresh; this one need not wait.
                fetcher.handle.clone().spawn(async move { this.fetch(&fetcher).await });
            }
            return Ok(keys);
        }
        // With no keys at all somebody may be fetching them right now.
        if may_try || keys.is_empty() {
            self.fetch(fetcher).await;
        }
        let state = self.state();
        if state.keys.is_empty() {
            let reason = state.failure.clone().unwrap_or_else(|| "it has no key that can be used".into());
            return Err(Error::KeysUnavailable { provider: self.0.provider.clone(), reason });
        }
        Ok(state.keys.clone())
    }

    /// Fetches the set, unless somebody else just has.
    async fn fetch(&self, fetcher: &Fetcher) {
        let _flight = self.0.flight.lock().await;
        let cools_down = |state: &State| state.tried_at.is_some_and(|at| Instant::now() < at + COOL_DOWN);
        if cools_down(&self.state()) {
            return;
        }
        let fetched = fetcher.get(&self.0.url).await;
        let read = fetched.and_then(|(body, fresh)| Ok((read_set(&body, &self.0.algorithms)?, fresh)));
        let mut state = self.state();
        state.tried_at = Some(Instant::now());
        match read {
            Ok((keys, fresh)) => {
                state.keys = Arc::new(keys);
                state.fresh_until = Some(Instant::now() + fresh);
                state.failure = None;
                self.0.number.fetch_add(1, Ordering::Release);
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
