//! Apple Push Notification service, with a token signed by our key. Over TLS the connection is HTTP/2, which Apple asks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use serde_json::{Value, json};
use tessera_kernel::{Clock, Timestamp};

use super::{ApnsConfig, Device, Note, Outcome, Push, ask, unix_s};

/// How long a token is used. Apple refuses one older than an hour, and new ones more often than every 20 minutes.
const RENEWED: Duration = Duration::from_secs(40 * 60);

pub(super) struct Apns {
    client: Client,
    key: EncodingKey,
    key_id: String,
    team_id: String,
    topic: String,
    url: String,
    clock: Arc<dyn Clock>,
    /// The token, and until when it is used.
    token: Mutex<Option<(Arc<str>, Timestamp)>>,
}

impl Apns {
    pub(super) fn open(config: &ApnsConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Option<Self>, String> {
        let Some(path) = &config.key else { return Ok(None) };
        let text = std::fs::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
        let key = EncodingKey::from_ec_pem(&text)
            .map_err(|error| format!("`{path}` is no signing key of Apple's (.p8): {error}"))?;
        let set = |name: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| format!("`{name}` is not set, and `key` is; both are needed"))
        };
        Ok(Some(Self {
            client,
            key,
            key_id: set("key_id", &config.key_id)?,
            team_id: set("team_id", &config.team_id)?,
            topic: set("topic", &config.topic)?,
            url: config.url.trim_end_matches('/').to_owned(),
            clock,
            token: Mutex::default(),
        }))
    }

    fn token(&self) -> Result<Arc<str>, Outcome> {
        let now = self.clock.now();
        let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = &*known
            && now < *until
        {
            return Ok(Arc::clone(token));
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        let claim = json!({ "iss": self.team_id, "iat": unix_s(now) });
        let signed = jsonwebtoken::encode(&header, &claim, &self.key);
        let token: Arc<str> = signed.map_err(|error| Outcome::Later(error.to_string(), None))?.into();
        *known = Some((Arc::clone(&token), now.plus(RENEWED)));
        Ok(token)
    }

    async fn try_send(&self, device: &Device, note: &Note) -> Result<Outcome, Outcome> {
        let mut body = json!({ "aps": {
            "alert": { "title": note.title, "body": note.body },
            "sound": "default", "interruption-level": "time-sensitive",
        }});
        for (name, text) in &note.data {
            body[*name] = Value::from(text.as_str());
        }
        let request = self
            .client
            .post(format!("{}/3/device/{}", self.url, device.address))
            .bearer_auth(&*self.token()?)
            .header("apns-topic", &self.topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", "10")
            .header("apns-expiration", unix_s(note.expires_at))
            .header("apns-collapse-id", note.ride.to_string())
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = ask(request).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = said["reason"].as_str().unwrap_or_default().to_owned();
        Ok(match (answer.status, reason.as_str()) {
            (410, _) | (400, "BadDeviceToken" | "DeviceTokenNotForTopic") => Outcome::Gone,
            (403, "ExpiredProviderToken") => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Outcome::Later(format!("403 {reason}"), Some(Duration::ZERO))
            }
            _ => answer.outcome(&reason),
        })
    }
}

impl Push for Apns {
    fn send<'a>(&'a self, device: &'a Device, note: &'a Note, _: Duration) -> BoxFuture<'a, Outcome> {
        async move { self.try_send(device, note).await.unwrap_or_else(|outcome| outcome) }.boxed()
    }
}
