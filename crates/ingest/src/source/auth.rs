//! Proof of who we are: made once, renewed before it expires and after a 401, one renewal at a time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tessera_kernel::{Clock, Timestamp};
use tokio::sync::Mutex;

use super::explain;
use super::page::lookup;
use crate::Error;
use crate::spec::{Auth, ClientAuth, KeyPlace, Secrets};

/// What a request carries. The generation tells a renewal from the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) generation: u64,
}

/// Makes and renews proofs.
pub(super) struct Authenticator {
    auth: Auth,
    base_url: String,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    secrets: Arc<std::sync::RwLock<Secrets>>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    proof: Proof,
    /// When it should be renewed; none: never by time.
    renew_at: Option<Timestamp>,
    refresh_token: Option<String>,
}

/// Tries for a proof: few, since the request behind it is tried again too.
const ATTEMPTS: u32 = 3;

/// Renewed this long before it expires, or at a tenth of its life if that is less.
const EARLY: Duration = Duration::from_secs(60);

impl Authenticator {
    pub(super) fn new(
        auth: &Auth,
        base_url: &str,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
        secrets: Arc<std::sync::RwLock<Secrets>>,
    ) -> Self {
        let (auth, base_url) = (auth.clone(), base_url.to_owned());
        Self { auth, base_url, http, clock, secrets, held: Mutex::default() }
    }

    /// The proof for the next request. After a 401, `refused` is the generation that was refused: if nobody has
    /// renewed it since, it is renewed now.
    pub(super) async fn proof(&self, refused: Option<u64>) -> Result<Proof, Error> {
        let fixed = |headers: Vec<(String, String)>, query| Ok(Proof { headers, query, generation: 0 });
        match &self.auth {
            Auth::None => return fixed(vec![], vec![]),
            Auth::Bearer { token } => return fixed(vec![("authorization".into(), format!("Bearer {token}"))], vec![]),
            Auth::Basic { username, password } => {
                let both = STANDARD.encode(format!("{username}:{password}"));
                return fixed(vec![("authorization".into(), format!("Basic {both}"))], vec![]);
            }
            Auth::ApiKey { name, value, place } => {
                return match place {
                    KeyPlace::Header => fixed(vec![(name.clone(), value.clone())], vec![]),
                    KeyPlace::Query => fixed(vec![], vec![(name.clone(), value.clone())]),
                    KeyPlace::Cookie => fixed(vec![("cookie".into(), format!("{name}={value}"))], vec![]),
                };
            }
            Auth::Oauth2 { .. } | Auth::Session { .. } | Auth::Jwt { .. } => {}
        }
        let mut held = self.held.lock().await;
        let stale = held.proof.generation == 0
            || refused == Some(held.proof.generation)
            || held.renew_at.is_some_and(|at| at <= self.clock.now());
        if stale {
            self.renew(&mut held).await?;
        }
        Ok(held.proof.clone())
    }

    /// Whether a 401 may be cured by a renewal.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.auth, Auth::Oauth2 { .. } | Auth::Session { .. } | Auth::Jwt { .. })
    }

    async fn renew(&self, held: &mut Held) -> Result<(), Error> {
        let now = self.clock.now();
        let (header, value, life) = match &self.auth {
            Auth::Jwt { algorithm, key, key_id, claims, ttl } => {
                let token = sign(algorithm, key, key_id.clone(), claims.clone().into_iter().collect(), ttl.0, now)?;
                ("authorization".to_owned(), format!("Bearer {token}"), Some(ttl.0))
            }
            Auth::Oauth2 { .. } => {
                let (token, life) = self.ask_for_token(held).await?;
                ("authorization".to_owned(), format!("Bearer {token}"), life)
            }
            Auth::Session { login_path, body, token_path, header, prefix } => {
                let answer = self.log_in(login_path, body).await?;
                match token_path {
                    None => (String::new(), String::new(), None),
                    Some(path) => {
                        let token = lookup(&answer, path).and_then(Value::as_str).ok_or_else(|| {
                            self.refused(
                                login_path,
                                200,
                                format!("the answer has no text at `{path}`; correct auth.token_path"),
                            )
                        })?;
                        (header.to_ascii_lowercase(), format!("{prefix}{token}"), None)
                    }
                }
            }
            _ => return Ok(()),
        };
        if let Ok(mut secrets) = self.secrets.write() {
            secrets.add(value.rsplit(' ').next().unwrap_or_default().to_owned());
        }
        held.proof.headers = if header.is_empty() { vec![] } else { vec![(header, value)] };
        held.proof.generation += 1;
        held.renew_at = life.map(|life| now.plus(life.saturating_sub(EARLY.min(life / 10))));
        Ok(())
    }

    fn refused(&self, path: &str, status: u16, detail: String) -> Error {
        Error::Credentials { url: path.to_owned(), status, detail: format!("; {detail}") }
    }

    /// The beginning of what was said, without secrets.
    fn words(&self, body: &[u8]) -> String {
        let secrets = self.secrets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        secrets.redact(&String::from_utf8_lossy(&body[..body.len().min(4096)])).chars().take(200).collect()
    }

    async fn ask_for_token(&self, held: &mut Held) -> Result<(String, Option<Duration>), Error> {
        let Auth::Oauth2 { token_url, client_id, client_secret, refresh_token, scope, audience, client_auth } =
            &self.auth
        else {
            return Err(Error::Internal("no OAuth configuration".into()));
        };
        let url = self.absolute(token_url)?;
        let refresh_token = held.refresh_token.clone().or_else(|| refresh_token.clone());
        let mut form = vec![];
        match &refresh_token {
            Some(token) => form.extend([("grant_type", "refresh_token"), ("refresh_token", token)]),
            None => form.push(("grant_type", "client_credentials")),
        }
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(audience.as_deref().map(|audience| ("audience", audience)));
        let mut request = self.http.post(&url);
        match client_auth {
            ClientAuth::Basic => request = request.basic_auth(client_id, Some(client_secret)),
            ClientAuth::Body => form.extend([("client_id", client_id.as_str()), ("client_secret", client_secret)]),
        }
        let answer = self.answer(token_url, request.form(&form)).await?;
        let token = answer["access_token"]
            .as_str()
            .ok_or_else(|| self.refused(token_url, 200, "the token endpoint's answer has no access_token".into()))?;
        if let Some(next) = answer["refresh_token"].as_str() {
            if let Ok(mut secrets) = self.secrets.write() {
                secrets.add(next.to_owned());
            }
            held.refresh_token = Some(next.to_owned());
        }
        Ok((token.to_owned(), answer["expires_in"].as_u64().map(Duration::from_secs)))
    }

    async fn log_in(&self, path: &str, body: &std::collections::BTreeMap<String, String>) -> Result<Value, Error> {
        let url = self.absolute(path)?;
        let body = serde_json::to_vec(body).unwrap_or_default();
        let request = self.http.post(&url).header("content-type", "application/json").body(body);
        self.answer(path, request).await
    }

    /// Sends a request for a proof; three tries where the server is at fault.
    async fn answer(&self, path: &str, request: reqwest::RequestBuilder) -> Result<Value, Error> {
        let mut attempt = 1;
        loop {
            let Some(again) = request.try_clone() else {
                return Err(Error::Internal("a login request cannot be repeated".into()));
            };
            let failure = match again.send().await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = response.bytes().await.unwrap_or_default();
                    match status {
                        200..300 => return Ok(serde_json::from_slice(&body).unwrap_or_default()),
                        429 | 500.. => format!("it answered {status}"),
                        _ => {
                            let words = self.words(&body);
                            return Err(self.refused(path, status, words));
                        }
                    }
                }
                Err(error) => explain(&error.without_url()),
            };
            if attempt == ATTEMPTS {
                // Who never answered has refused nothing. The resource is the one that asked; whoever asks fills it in.
                let (resource, url) = (String::new(), path.to_owned());
                return Err(Error::Unreachable { resource, url, attempts: attempt, detail: failure });
            }
            tokio::time::sleep(Duration::from_millis(300 * u64::from(attempt))).await;
            attempt += 1;
        }
    }

    fn absolute(&self, path: &str) -> Result<String, Error> {
        if path.contains("://") {
            return Ok(path.to_owned());
        }
        Ok(format!("{}/{}", self.base_url.trim_end_matches('/'), path.trim_start_matches('/')))
    }
}

fn sign(
    algorithm: &str,
    key: &str,
    key_id: Option<String>,
    mut claims: Map<String, Value>,
    ttl: Duration,
    now: Timestamp,
) -> Result<String, Error> {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let wrong = |detail: String| Error::Spec { place: "source.auth.key".into(), detail };
    let algorithm: Algorithm =
        algorithm.parse().map_err(|_| wrong(format!("`{algorithm}` is not a known algorithm")))?;
    let pem = key.as_bytes();
    let key = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Ok(EncodingKey::from_secret(pem)),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    let key = key.map_err(|_| wrong("it is not a private key in PEM for this algorithm".into()))?;
    let seconds = now.micros() / 1_000_000;
    claims.insert("iat".into(), seconds.into());
    claims.insert("exp".into(), (seconds + ttl.as_secs() as i64).into());
    let header = Header { kid: key_id, ..Header::new(algorithm) };
    encode(&header, &claims, &key).map_err(|error| wrong(format!("cannot sign: {error}")))
}
