//! Asks an API a few polite questions: one at a time, a limited number of them, each with a deadline.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use reqwest::Client;
use url::Url;

use super::detect::{Detected, Sample, detect, lookup_rows, same_origin};

/// How long one request may take, body included.
const DEADLINE: Duration = Duration::from_secs(10);
/// A first page, or an API description, larger than this is not what we look for.
pub(super) const MAX_BODY_BYTES: usize = 32 << 20;
/// Tries of one request when the API is busy or the connection breaks.
const ATTEMPTS: u32 = 4;
/// Pause before another try where the API names none, and the longest that we wait when it does.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What sends the questions.
#[derive(Debug)]
pub(super) struct Prober<'a> {
    client: &'a Client,
    /// Credentials go to this host only.
    home: Url,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    left: u32,
    /// What was asked and what came, a line each, without queries.
    pub(super) tried: Vec<String>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn sample(&self) -> Sample<'_> {
        Sample { url: &self.url, status: self.status, headers: &self.headers, body: &self.body }
    }

    pub(super) fn detect(&self) -> Detected {
        detect(&self.sample())
    }

    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Rows at a path, where the answer has a list there.
    pub(super) fn rows_at(&self, records: &str) -> Option<usize> {
        lookup_rows(&self.sample(), records)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// All requests were used.
    Spent,
    /// No connection, no answer in time, or too large an answer.
    Failed(String),
}

impl<'a> Prober<'a> {
    pub(super) fn new(
        client: &'a Client,
        home: Url,
        headers: HeaderMap,
        query: Vec<(String, String)>,
        requests: u32,
    ) -> Self {
        Self { client, home, headers, query, left: requests, tried: vec![] }
    }

    pub(super) fn has_credentials(&self) -> bool {
        !self.headers.is_empty() || !self.query.is_empty()
    }

    /// Asks once, and again while the API is busy or the connection breaks.
    pub(super) async fn get(&mut self, url: &Url) -> Result<Answer, Silence> {
        let mut attempt = 1;
        loop {
            let outcome = self.once(url).await;
            let pause = match &outcome {
                Ok(answer) if matches!(answer.status, 429 | 500 | 502 | 503 | 504) => retry_after(&answer.headers),
                Err(Silence::Failed(_)) => PAUSE,
                _ => return outcome,
            };
            if attempt == ATTEMPTS || self.left == 0 {
                return outcome;
            }
            attempt += 1;
            tokio::time::sleep(pause.min(MAX_PAUSE)).await;
        }
    }

    async fn once(&mut self, url: &Url) -> Result<Answer, Silence> {
        if self.left == 0 {
            return Err(Silence::Spent);
        }
        self.left -= 1;
        let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let outcome = match tokio::time::timeout(DEADLINE, self.exchange(url)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer in {} s", DEADLINE.as_secs())),
        };
        let said = match &outcome {
            Ok(answer) => answer.status.to_string(),
            Err(reason) => reason.clone(),
        };
        self.tried.push(format!("{shown}: {said}"));
        outcome.map_err(|reason| Silence::Failed(format!("{shown}: {reason}")))
    }

    async fn exchange(&self, url: &Url) -> Result<Answer, String> {
        let mut asked = url.clone();
        let mut request = self.client.get(url.clone());
        if same_origin(url, &self.home) {
            if !self.query.is_empty() {
                asked.query_pairs_mut().extend_pairs(&self.query);
            }
            request = self.client.get(asked).headers(self.headers.clone());
        }
        let accept = "application/json, application/vnd.oai.openapi+json;q=0.9, application/x-ndjson;q=0.8, */*;q=0.5";
        let request = request.header(header::ACCEPT, HeaderValue::from_static(accept));
        // The error's own text repeats the URL, which may hold a key.
        let mut response = request.send().await.map_err(|error| cause(&error.without_url()))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error.without_url()))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(format!(
                    "the body is larger than {} MiB; name an endpoint with pages",
                    MAX_BODY_BYTES >> 20
                ));
            }
            body.extend_from_slice(&chunk);
        }
        // Where a redirect led counts, but for the URL as asked: without the key in the query.
        let url = if response.url().path() == url.path() { url.clone() } else { without(response.url(), &self.query) };
        Ok(Answer { url, status: response.status().as_u16(), headers: response.headers().clone(), body })
    }
}

fn without(url: &Url, secret: &[(String, String)]) -> Url {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !secret.iter().any(|(secret, _)| secret == name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut url = url.clone();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url
}

/// The last cause says most: "connection refused" rather than "error sending request".
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(PAUSE, Duration::from_secs)
}
