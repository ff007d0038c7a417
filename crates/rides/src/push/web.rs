//! Web Push: one POST to the endpoint of a browser's subscription (RFC 8030), encrypted for the browser, signed by us with VAPID
//! (RFC 8292).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Client, Url};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Map, Value, json};
use tessera_kernel::Clock;

use super::{Device, Note, Outcome, Push, WebConfig, ask, crypt, unix_s, whole_s};

/// How long a signature counts; a day is the most that is taken.
const SIGNED: Duration = Duration::from_secs(3_600);

pub(super) struct Web {
    client: Client,
    config: WebConfig,
    pair: EcdsaKeyPair,
    public_key: String,
    subject: String,
    random: SystemRandom,
    clock: Arc<dyn Clock>,
}

impl Web {
    pub(super) fn open(config: &WebConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Option<Self>, String> {
        let Some(private) = &config.private_key else { return Ok(None) };
        let set = |name: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| format!("`{name}` is not set, and `private_key` is; both are needed"))
        };
        let public_key = set("public_key", &config.public_key)?.trim_end_matches('=').to_owned();
        let subject = set("subject", &config.subject)?;
        if !subject.starts_with("mailto:") && !subject.starts_with("https://") {
            return Err(format!("`subject` is `{subject}`; write `mailto:` and an address, or a page with https"));
        }
        let bytes = |name: &str, text: &str| {
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| format!("`{name}` is not base64url"))
        };
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &bytes("private_key", private)?,
            &bytes("public_key", &public_key)?,
            &random,
        );
        let pair = pair
            .map_err(|_| "`private_key` and `public_key` are no pair of keys of P-256 (32 and 65 bytes)".to_owned())?;
        Ok(Some(Self { client, config: config.clone(), pair, public_key, subject, random, clock }))
    }

    /// `Authorization` for an endpoint.
    fn proof(&self, endpoint: &Url) -> Result<String, Outcome> {
        let claim = json!({
            "aud": endpoint.origin().ascii_serialization(),
            "exp": unix_s(self.clock.now().plus(SIGNED)),
            "sub": self.subject,
        });
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
        let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claim.to_string()));
        let signature = self.pair.sign(&self.random, text.as_bytes());
        let signature = signature.map_err(|_| Outcome::Later("nothing can be signed".to_owned(), None))?;
        Ok(format!("vapid t={text}.{}, k={}", URL_SAFE_NO_PAD.encode(signature.as_ref()), self.public_key))
    }

    async fn try_send(&self, device: &Device, note: &Note, ttl: Duration) -> Result<Outcome, Outcome> {
        let refused = |reason: &str| Outcome::Refused(reason.to_owned());
        let endpoint: Url = device.address.parse().map_err(|_| refused("the endpoint is no URL"))?;
        if !self.config.knows(&endpoint) {
            return Err(refused("the endpoint is not among `services`"));
        }
        let keys = device.keys.as_ref().ok_or_else(|| refused("the subscription has no keys"))?;
        let mut text: Map<String, Value> =
            note.data.iter().map(|(name, text)| ((*name).to_owned(), Value::from(text.as_str()))).collect();
        text.insert("title".to_owned(), note.title.into());
        text.insert("body".to_owned(), note.body.as_str().into());
        let body = crypt::encrypt(Value::Object(text).to_string().as_bytes(), keys)
            .map_err(|_| refused("the browser's key is no point of P-256"))?;
        let request = self
            .client
            .post(endpoint.clone())
            .header("authorization", self.proof(&endpoint)?)
            .header("ttl", whole_s(ttl))
            .header("urgency", "high")
            // At most 32 characters of base64url.
            .header("topic", note.ride.uuid().simple().to_string())
            .header("content-encoding", "aes128gcm")
            .header("content-type", "application/octet-stream")
            .body(body);
        let answer = ask(request).await?;
        Ok(match answer.status {
            404 | 410 => Outcome::Gone,
            _ => answer.outcome(""),
        })
    }
}

impl Push for Web {
    fn send<'a>(&'a self, device: &'a Device, note: &'a Note, ttl: Duration) -> BoxFuture<'a, Outcome> {
        async move { self.try_send(device, note, ttl).await.unwrap_or_else(|outcome| outcome) }.boxed()
    }
}
