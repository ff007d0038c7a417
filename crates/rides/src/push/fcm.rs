//! Firebase Cloud Messaging, HTTP v1: a service account signs a claim (RFC 7523), gets an access token for it, and sends one
//! message a device.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tessera_kernel::{Clock, Timestamp};

use super::{Device, FcmConfig, Note, Outcome, Push, ask, unix_s, whole_s};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a claim counts; Google takes up to an hour.
const CLAIM: Duration = Duration::from_secs(600);
/// A token is not used in its last minute.
const MARGIN: Duration = Duration::from_secs(60);

/// The file of a service account, as far as it is read.
#[derive(Deserialize)]
struct Account {
    project_id: String,
    private_key_id: Option<String>,
    private_key: String,
    client_email: String,
    token_uri: String,
}

pub(super) struct Fcm {
    client: Client,
    account: Account,
    key: EncodingKey,
    address: String,
    clock: Arc<dyn Clock>,
    /// The access token, and until when it is used.
    token: Mutex<Option<(Arc<str>, Timestamp)>>,
}

impl Fcm {
    pub(super) fn open(config: &FcmConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Option<Self>, String> {
        let Some(path) = &config.credentials else { return Ok(None) };
        let text = std::fs::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
        let account: Account = serde_json::from_slice(&text)
            .map_err(|error| format!("`{path}` is not the JSON file of a service account: {error}"))?;
        let key = EncodingKey::from_rsa_pem(account.private_key.as_bytes())
            .map_err(|error| format!("the key in `{path}` is no RSA key in PEM: {error}"))?;
        let address = format!("{}/v1/projects/{}/messages:send", config.url.trim_end_matches('/'), account.project_id);
        Ok(Some(Self { client, account, key, address, clock, token: Mutex::default() }))
    }

    /// The access token; two that ask at once may both get a new one, which does no harm.
    async fn access(&self) -> Result<Arc<str>, Outcome> {
        let now = self.clock.now();
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((token, until)) = known
            && now < until
        {
            return Ok(token);
        }
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: u64,
        }
        let later = |reason: String| Outcome::Later(reason, None);
        let claim = json!({
            "iss": self.account.client_email, "scope": SCOPE, "aud": self.account.token_uri,
            "iat": unix_s(now), "exp": unix_s(now.plus(CLAIM)),
        });
        let mut header = Header::new(Algorithm::RS256);
        header.kid = self.account.private_key_id.clone();
        let signed = jsonwebtoken::encode(&header, &claim, &self.key).map_err(|error| later(error.to_string()))?;
        let request = self
            .client
            .post(&self.account.token_uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type={}&assertion={signed}", GRANT.replace(':', "%3A")));
        let answer = ask(request).await?;
        if answer.status != 200 {
            return Err(later(format!("no access token: {}", answer.status)));
        }
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|error| later(format!("the access token cannot be read: {error}")))?;
        let token: Arc<str> = granted.access_token.into();
        let until = now.plus(Duration::from_secs(granted.expires_in).saturating_sub(MARGIN));
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&token), until));
        Ok(token)
    }

    async fn try_send(&self, device: &Device, note: &Note, ttl: Duration) -> Result<Outcome, Outcome> {
        let token = self.access().await?;
        let data: Map<String, Value> =
            note.data.iter().map(|(name, text)| ((*name).to_owned(), Value::from(text.as_str()))).collect();
        let message = json!({ "message": {
            "token": device.address,
            "notification": { "title": note.title, "body": note.body },
            "data": data,
            "android": { "priority": "HIGH", "ttl": format!("{}s", whole_s(ttl)), "collapse_key": note.ride.to_string() },
        }});
        let request = self
            .client
            .post(&self.address)
            .bearer_auth(&*token)
            .header("content-type", "application/json")
            .body(message.to_string());
        let answer = ask(request).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let code = error_code(&said);
        Ok(match (answer.status, code.as_str()) {
            (_, "UNREGISTERED") => Outcome::Gone,
            (401, _) => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Outcome::Later("401 the access token is not taken".to_owned(), Some(Duration::ZERO))
            }
            // Not a token at all, or another project's: it will never be one of ours.
            (400, "INVALID_ARGUMENT") if is_about_the_token(&said) => Outcome::Gone,
            (404, "") => Outcome::Gone,
            _ => answer.outcome(&code),
        })
    }
}

/// FCM's own code, else Google's.
fn error_code(said: &Value) -> String {
    let details = said["error"]["details"].as_array().into_iter().flatten();
    let own = details.filter_map(|detail| detail["errorCode"].as_str()).next();
    own.or(said["error"]["status"].as_str()).unwrap_or_default().to_owned()
}

fn is_about_the_token(said: &Value) -> bool {
    let details = said["error"]["details"].as_array().into_iter().flatten();
    let fields = details.filter_map(|detail| detail["fieldViolations"].as_array()).flatten();
    fields.filter_map(|field| field["field"].as_str()).any(|field| field == "message.token")
}

impl Push for Fcm {
    fn send<'a>(&'a self, device: &'a Device, note: &'a Note, ttl: Duration) -> BoxFuture<'a, Outcome> {
        async move { self.try_send(device, note, ttl).await.unwrap_or_else(|outcome| outcome) }.boxed()
    }
}
