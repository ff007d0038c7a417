//! Another issuer whose tokens are believed: its keys are fetched when they are needed, by one at a time, and kept.
//!
//! They are fresh for as long as the answer's `cache-control` says, within limits; after that they go on being used while one
//! request fetches them again, and for a day where the issuer does not answer. A key that is not among them has them fetched
//! again, but not more often than every half minute: anybody can send a token that names one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tessera_kernel::{Clock, Timestamp};
use tokio::sync::Semaphore;

use super::token::{self, Claims, Expected, Jwk, Names, PublicKey, Unverified};
use super::{Config, Identity, Origin};
use crate::Error;

/// How long keys are fresh where the answer does not say.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// They are not fetched more often than this because they are not fresh, whatever the answer says.
const FRESH_AT_LEAST: Duration = Duration::from_secs(60);
/// They are fetched this often, whatever the answer says: a key may be taken back.
const FRESH_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// How long keys are used whose issuer does not answer any more.
const STALE_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long after a fetch an unknown key may have another one made.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(30);
/// The same after one that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long the issuer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Requests that wait for a fetch; each keeps a connection of its caller open.
pub(super) const MAX_WAITING: usize = 1_000;
/// A document above this is none of theirs.
const MAX_DOCUMENT_BYTES: usize = 512 * 1_024;
/// Keys beyond these are not read.
const MAX_KEYS: usize = 256;

/// An OpenID Connect issuer. Nothing is fetched before the first of its tokens comes.
pub struct Issuer {
    name: [String; 1],
    config: Config,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    /// Places for those who wait for a fetch.
    pub(super) waiting: Semaphore,
}

type Fetching = Shared<BoxFuture<'static, Result<(), String>>>;

#[derive(Default)]
struct State {
    keys: Option<Arc<Fetched>>,
    /// When the next fetch may begin.
    next_at: Option<Timestamp>,
    fetching: Option<Fetching>,
    failure: Option<String>,
}

struct Fetched {
    by_kid: HashMap<String, PublicKey>,
    at: Timestamp,
    fresh_until: Timestamp,
}

/// What of an issuer's own document is read (OpenID Connect Discovery 1.0, 3; RFC 8414).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    jwks_uri: String,
    /// Where people sign in.
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are redeemed.
    pub token_endpoint: Option<String>,
    /// Where tokens are given back.
    pub revocation_endpoint: Option<String>,
    /// How a client shows its secret.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

impl Issuer {
    /// The issuer that the settings name, if any.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where it is no address, and where the client cannot be made.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Self>, Error> {
        let Some(name) = &config.issuer else { return Ok(None) };
        for (key, address) in [(Config::ISSUER, Some(name)), ("identity.jwks_url", config.jwks_url.as_ref())] {
            let fit = |address: &String| {
                reqwest::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            };
            if let Some(address) = address.filter(|address| !fit(address)) {
                let reason = "give an address such as https://login.example.com".to_owned();
                let (key, value) = (key.to_owned(), format!("`{address}`"));
                return Err(Error::BadSetting { origin: "config".into(), key, value, reason });
            }
        }
        let client = crate::client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).build()?;
        let (name, config, waiting) = ([name.clone()], config.clone(), Semaphore::new(MAX_WAITING));
        Ok(Some(Self { name, config, client, clock, state: Arc::default(), waiting }))
    }

    pub(super) fn name(&self) -> &str {
        &self.name[0]
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub(super) async fn verify(&self, token: &str, unverified: &Unverified) -> Result<Identity, Error> {
        let key = self.key(unverified.kid.as_deref()).await?;
        key.verify(token, &self.expected(&self.config.audience))
    }

    /// What an id token says, which is for this client.
    pub(super) async fn id_token(&self, token: &str, client: &str) -> Result<Claims, Error> {
        let unverified = Unverified::read(token)?;
        let key = self.key(unverified.kid.as_deref()).await?;
        key.claims(token, &self.expected(client))
    }

    fn expected<'a>(&'a self, audience: &'a str) -> Expected<'a> {
        Expected {
            names: Names::OneOf(&self.name),
            audience,
            roles_claim: &self.config.roles_claim,
            origin: Origin::Issuer,
            now: self.clock.now(),
        }
    }

    /// Its own document.
    pub(super) async fn discover(&self) -> Result<Discovery, String> {
        discover(&self.client, self.name()).await
    }

    async fn key(&self, kid: Option<&str>) -> Result<PublicKey, Error> {
        let fetching = {
            let mut state = self.state();
            let now = self.clock.now();
            let known = state.usable(now).and_then(|keys| Some((keys.find(kid)?, now < keys.fresh_until)));
            match known {
                Some((key, true)) => return Ok(key),
                Some((key, false)) => {
                    // It goes on without us: whoever asks has an answer already.
                    if let Some(fetching) = self.fetch(&mut state, now) {
                        tokio::spawn(fetching);
                    }
                    return Ok(key);
                }
                None => self.fetch(&mut state, now),
            }
        };
        let is_crowded = match (fetching, self.waiting.try_acquire()) {
            (Some(fetching), Ok(_place)) => {
                // What went wrong is in the state.
                let _ = fetching.await;
                false
            }
            (fetching, _) => fetching.is_some(),
        };
        let state = self.state();
        match state.usable(self.clock.now()) {
            Some(keys) => keys.find(kid).ok_or_else(token::unknown_key),
            None if is_crowded => {
                let reason = format!("{MAX_WAITING} requests wait for them already");
                Err(Error::IssuerAway { issuer: self.name().to_owned(), reason })
            }
            None => {
                let reason = state.failure.clone().unwrap_or_else(|| "it has not answered yet".to_owned());
                Err(Error::IssuerAway { issuer: self.name().to_owned(), reason })
            }
        }
    }

    /// The fetch that is under way, or a new one where one may begin.
    fn fetch(&self, state: &mut State, now: Timestamp) -> Option<Fetching> {
        if let Some(fetching) = &state.fetching {
            return Some(fetching.clone());
        }
        if state.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let (client, config) = (self.client.clone(), self.config.clone());
        let (clock, shared) = (Arc::clone(&self.clock), Arc::clone(&self.state));
        let fetching = async move {
            let fetched = fetch(&client, &config, &*clock).await;
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock.now();
            state.fetching = None;
            match fetched {
                Ok(keys) => {
                    (state.keys, state.failure) = (Some(Arc::new(keys)), None);
                    state.next_at = Some(now.plus(COOL_DOWN));
                    Ok(())
                }
                Err(reason) => {
                    tracing::warn!(error.detail = reason, "the keys of the issuer were not fetched");
                    state.next_at = Some(now.plus(RETRY_AFTER));
                    state.failure = Some(reason.clone());
                    Err(reason)
                }
            }
        };
        let fetching = fetching.boxed().shared();
        state.fetching = Some(fetching.clone());
        // Whoever waits for it may go away.
        tokio::spawn(fetching.clone());
        Some(fetching)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Issuer").field(&self.name[0]).finish()
    }
}

impl State {
    fn usable(&self, now: Timestamp) -> Option<&Arc<Fetched>> {
        self.keys.as_ref().filter(|keys| now < keys.fresh_until || now < keys.at.plus(STALE_FOR))
    }
}

impl Fetched {
    /// The key of that name; where the token names none, the only one there is.
    fn find(&self, kid: Option<&str>) -> Option<PublicKey> {
        match kid {
            Some(kid) => self.by_kid.get(kid).cloned(),
            None if self.by_kid.len() == 1 => self.by_kid.values().next().cloned(),
            None => None,
        }
    }
}

async fn fetch(client: &reqwest::Client, config: &Config, clock: &dyn Clock) -> Result<Fetched, String> {
    let name = config.issuer.as_deref().unwrap_or_default();
    let url = match &config.jwks_url {
        Some(url) => url.clone(),
        None => discover(client, name).await?.jwks_uri,
    };
    let (set, max_age): (JwkSet, Option<Duration>) = document(client, &url).await?;
    let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let by_kid: HashMap<_, _> =
        jwks.filter_map(|jwk| PublicKey::of_jwk(&jwk)).map(|key| (key.kid.clone(), key)).collect();
    if by_kid.is_empty() {
        return Err(format!(
            "`{url}` has no key for signatures with EdDSA, ES256, ES384, RS256, RS384, RS512 or PS256"
        ));
    }
    let at = clock.now();
    let fresh_for = max_age.unwrap_or(FRESH_FOR).clamp(FRESH_AT_LEAST, FRESH_AT_MOST);
    Ok(Fetched { by_kid, at, fresh_until: at.plus(fresh_for) })
}

async fn discover(client: &reqwest::Client, name: &str) -> Result<Discovery, String> {
    let address = format!("{}/.well-known/openid-configuration", name.trim_end_matches('/'));
    let (discovery, _): (Discovery, _) = document(client, &address).await?;
    // Otherwise one issuer could speak for another (OpenID Connect Discovery 1.0, 4.3).
    if discovery.issuer != name {
        return Err(format!("`{address}` is about another issuer, `{}`", discovery.issuer));
    }
    let Discovery { authorization_endpoint, token_endpoint, revocation_endpoint, .. } = &discovery;
    let others = [authorization_endpoint, token_endpoint, revocation_endpoint].into_iter().flatten();
    for address in others.chain([&discovery.jwks_uri]) {
        if name.starts_with("https:") && !address.starts_with("https:") {
            return Err(format!("`{address}` is not https"));
        }
    }
    Ok(discovery)
}

async fn document<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<(T, Option<Duration>), String> {
    let failed = |error: &dyn std::fmt::Display| format!("`{url}`: {error}");
    let response = client.get(url).send().await.map_err(|error| failed(&error))?;
    if !response.status().is_success() {
        return Err(failed(&format_args!("it answers {}", response.status())));
    }
    let control = response.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let directives = control.split(',').map(str::trim);
    let max_age = directives.filter_map(|part| part.strip_prefix("max-age=")?.parse().ok()).next();
    let body = body_of(response).await.map_err(|reason| failed(&reason))?;
    let parsed = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    Ok((parsed, max_age.map(Duration::from_secs)))
}

/// What was answered, up to a length.
pub(super) async fn body_of(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
            return Err("it is too long".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
