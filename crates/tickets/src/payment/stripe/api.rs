//! Calls of Stripe's API: form in, JSON out. A call is repeated only under its own idempotency key, for as long as there
//! is time, and says for certain what it can be certain of.

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use rand::RngExt;
use tokio::time::{Instant, sleep};
use url::{Host, Url};

use super::super::Error;
use super::VERSION;
use super::wire::{ApiError, ErrorBody};
use crate::domain::ids::AttemptId;

/// How often a call is made, the first time included.
const TRIES: u32 = 3;
/// The wait before the second time; it doubles, and up to as much again is added by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// The largest answer that is read: a page of payments has about 500 KB.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The API of one account.
pub(super) struct Api {
    client: reqwest::Client,
    base: Url,
    timeout: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base.as_str()).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// One call.
pub(super) struct Call {
    method: Method,
    path: String,
    key: Option<AttemptId>,
    fields: Vec<(String, String)>,
}

impl Call {
    pub fn post(path: &str, key: AttemptId, form: Vec<(String, String)>) -> Self {
        Self { method: Method::POST, path: path.to_owned(), key: Some(key), fields: form }
    }

    pub fn get(path: &str, query: Vec<(String, String)>) -> Self {
        Self { method: Method::GET, path: path.to_owned(), key: None, fields: query }
    }
}

/// A call that came to nothing, or to nobody knows what.
pub(super) enum Failure {
    /// Stripe has read it and refuses.
    Refused { status: u16, error: Box<ApiError> },
    /// It never got through.
    NotDone(String),
    /// No answer that can be relied on.
    Unknown(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { error, .. } => Self::refused(error.code(), error.message()),
            Failure::NotDone(reason) => Self::NotDone { reason },
            Failure::Unknown(reason) => Self::Unknown { reason },
        }
    }
}

impl Api {
    pub fn new(url: &str, key: &str, timeout: Duration) -> Result<Self, String> {
        let base = Url::parse(url).map_err(|error| format!("`stripe_url` cannot be `{url}`: {error}"))?;
        let here = match base.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if base.scheme() != "https" && !here {
            return Err(format!("`stripe_url` cannot be `{url}`: the key may only travel over https"));
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| "`stripe_api_key` has characters that no key has".to_owned())?;
        if key.is_empty() {
            return Err("`stripe_api_key` is empty; set it to the account's secret key".to_owned());
        }
        bearer.set_sensitive(true);
        let headers =
            [(AUTHORIZATION, bearer), ("stripe-version".parse().map_err(|_| "")?, HeaderValue::from_static(VERSION))];
        let client = tessera_service::client::builder()
            .default_headers(HeaderMap::from_iter(headers))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("the client of Stripe cannot be built: {error}"))?;
        Ok(Self { client, base, timeout })
    }

    /// How long a call may take, its repetitions included.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes the call, again where it may help, and gives the body of an answer of 200.
    pub async fn call(&self, call: Call) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        // Once a try may have been done, no later failure can be certain that it was not.
        let mut doubt: Option<String> = None;
        let mut last = String::new();
        for tried in 1..=TRIES {
            let left = deadline.saturating_duration_since(Instant::now());
            // The first try leaves time for another.
            let patience = if tried == 1 { self.timeout / 2 } else { left };
            match self.once(&call, patience).await {
                Ok(body) => return Ok(body),
                Err(Failure::Refused { status: 401 | 403, error }) if doubt.is_some() => {
                    last = error.message().to_owned();
                    break;
                }
                Err(Failure::Refused { status, error }) => return Err(Failure::Refused { status, error }),
                Err(Failure::NotDone(reason)) => last = reason,
                Err(Failure::Unknown(reason)) => {
                    last.clone_from(&reason);
                    doubt = Some(reason);
                }
            }
            let wait = pause + pause.mul_f64(rand::rng().random_range(0.0..1.0));
            if tried == TRIES || Instant::now() + wait >= deadline {
                break;
            }
            tracing::debug!(payment.call = %call.path, reason = %last, "stripe is called again");
            sleep(wait).await;
            pause *= 2;
        }
        match doubt {
            Some(reason) => Err(Failure::Unknown(reason)),
            None => Err(Failure::NotDone(last)),
        }
    }

    async fn once(&self, call: &Call, patience: Duration) -> Result<Vec<u8>, Failure> {
        // Ends in no `/`, whatever was configured.
        let url = format!("{}/v1/{}", self.base.as_str().trim_end_matches('/'), call.path);
        let mut request = self.client.request(call.method.clone(), url).timeout(patience);
        request = match call.key {
            Some(key) => request.header("idempotency-key", key.to_string()).form(&call.fields),
            None => request.query(&call.fields),
        };
        let answer = request.send().await.map_err(|error| match error.is_connect() || error.is_builder() {
            true => Failure::NotDone(with_causes(&error.without_url())),
            false => Failure::Unknown(with_causes(&error.without_url())),
        })?;
        let status = answer.status();
        let body = read(answer).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let said = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        match (status.as_u16(), said) {
            // Not taken in at all.
            (429, said) => Err(Failure::NotDone(said.unwrap_or_default().message().to_owned())),
            // The same key is at work.
            (409, said) => Err(Failure::Unknown(said.unwrap_or_default().message().to_owned())),
            (status @ 400..=499, Ok(error)) => Err(Failure::Refused { status, error: Box::new(error) }),
            (status, _) => Err(Failure::Unknown(format!("it answered with status {status}"))),
        }
    }
}

/// The body of an answer, up to the limit.
async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY_BYTES => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(Failure::Unknown(format!("its answer is longer than {MAX_BODY_BYTES} bytes"))),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Failure::Unknown(with_causes(&error.without_url()))),
        }
    }
}

/// The message of an error and of its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, key: &str) -> String {
        Api::new(url, key, Duration::from_secs(1)).unwrap_err()
    }

    #[test]
    fn a_key_travels_over_https_only() {
        assert!(refused("http://api.example.com", "sk_x").contains("https"));
        assert!(refused("api.example.com", "sk_x").contains("stripe_url"));
        assert!(refused("https://api.example.com", "").contains("empty"));
        let error = refused("https://api.example.com", "sk_\nhunter2");
        assert!(!error.contains("hunter2"), "{error}");
        for url in ["http://127.0.0.1:1/", "http://[::1]:1", "http://localhost:1", "https://api.example.com"] {
            let api = Api::new(url, "sk_hunter2", Duration::from_secs(1)).unwrap();
            assert!(!format!("{api:?}").contains("hunter2"));
        }
    }
}
