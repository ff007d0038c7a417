//! The API: requests with proof, limits, retries, and responses taken apart into pages.

mod auth;
mod body;
mod cassette;
mod limit;
mod page;
mod paginate;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backon::BackoffBuilder;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode};
use tessera_kernel::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;
use url::Url;

use auth::Authenticator;
pub(crate) use cassette::public_url;
pub use cassette::{Cassette, Tape};
use limit::{LONGEST_PAUSE, Limiter, asked_pause};
pub(crate) use page::link;
pub use page::{Page, Paths};
pub use paginate::{Place, Plan};
pub(crate) use paginate::{add_parameters, passed};

use crate::Error;
use crate::spec::{Auth, Budget, Loaded, ResponseFormat, Secrets, Source};

/// As much of an error's body is looked at.
const SAID_BYTES: usize = 4096;

/// One request of a resource.
#[derive(Clone, Debug)]
pub struct Request {
    /// The resource it is for.
    pub resource: Arc<str>,
    /// GET or POST.
    pub method: http::Method,
    /// Where it goes.
    pub url: Url,
    /// Headers beside those of the source.
    pub headers: Vec<(String, String)>,
    /// What is posted.
    pub body: Option<RequestBody>,
    /// Status codes that mean no rows.
    pub empty_on: Arc<[u16]>,
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct RequestBody {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its media type.
    pub content_type: &'static str,
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, as received.
    pub body: Bytes,
}

/// A page and where it came from; by default one without rows.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The rows and what the response says of its neighbours.
    pub page: Page,
    /// Response headers.
    pub headers: HeaderMap,
    /// The URL without its query and without secrets.
    pub source: String,
    /// When it arrived.
    pub fetched_at: Timestamp,
}

/// What a run has asked of the API so far. Counted as it happens, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests sent, retries included.
    pub requests: AtomicU64,
    /// Requests sent again.
    pub retries: AtomicU64,
    /// Answers 429.
    pub throttled: AtomicU64,
    /// Bytes of bodies received, before decompression.
    pub bytes: AtomicU64,
}

impl Traffic {
    fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// Asks one API. Shared by all resources of a run.
pub struct Client {
    http: reqwest::Client,
    source: Source,
    authenticator: Authenticator,
    limiter: Arc<Limiter>,
    cassette: Option<Cassette>,
    clock: Arc<dyn Clock>,
    secrets: Arc<RwLock<Secrets>>,
    budget: Budget,
    began: Timestamp,
    stop: CancellationToken,
    total: Traffic,
}

/// Why an attempt failed, and what to do about it.
enum Failure {
    /// Worth another try after this long, if the API asked for it.
    Passing { detail: String, pause: Option<Duration> },
    /// The proof was refused; another one may not be.
    Refused401 { detail: String },
    /// Another try would end the same.
    Final(Error),
}

impl Client {
    /// A client for the pipeline's API.
    ///
    /// # Errors
    /// [`Error::Internal`] if the HTTP client cannot be built.
    pub fn new(
        loaded: &Loaded,
        cassette: Option<Cassette>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let source = loaded.pipeline.source.clone();
        let http = http_client(&source)?;
        let secrets = Arc::new(RwLock::new(loaded.secrets.clone()));
        let authenticator =
            Authenticator::new(&source.auth, &source.base_url, http.clone(), Arc::clone(&clock), Arc::clone(&secrets));
        Ok(Self {
            http,
            authenticator,
            limiter: Limiter::new(&source),
            cassette,
            began: clock.now(),
            clock,
            secrets,
            budget: loaded.pipeline.budget.clone().unwrap_or_default(),
            stop,
            total: Traffic::default(),
            source,
        })
    }

    /// All requests of the run together.
    pub fn traffic(&self) -> &Traffic {
        &self.total
    }

    /// The text without any secret known by now.
    pub fn redact(&self, text: &str) -> String {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).redact(text)
    }

    /// The URL without secrets.
    pub fn public(&self, url: &Url) -> String {
        public_url(url, &self.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A URL below the base.
    ///
    /// # Errors
    /// [`Error::BadResponse`] for what is no URL.
    pub fn resolve(&self, resource: &str, path: &str) -> Result<Url, Error> {
        let joined = format!("{}/{}", self.source.base_url.trim_end_matches('/'), path.trim_start_matches('/'));
        Url::parse(&joined).map_err(|error| Self::no_url(resource, path, &error.to_string()))
    }

    /// A link found in a document: absolute, from the root of the host, or relative to the base.
    ///
    /// # Errors
    /// [`Error::BadResponse`] for one that leads to another host, or is no URL.
    pub fn follow(&self, resource: &str, link: &str) -> Result<Url, Error> {
        let wrong = |detail: &str| Self::no_url(resource, link, detail);
        let base = Url::parse(&self.source.base_url).map_err(|error| wrong(&error.to_string()))?;
        if !link.contains("://") && !link.starts_with('/') {
            return self.resolve(resource, link);
        }
        let url = base.join(link).map_err(|error| wrong(&format!("it is no URL: {error}")))?;
        self.allowed(url, &base).ok_or_else(|| {
            wrong("it leads to another host, which would be shown our credentials; if that is right, add the host to source.allowed_hosts")
        })
    }

    fn no_url(resource: &str, url: &str, detail: &str) -> Error {
        Error::BadResponse { resource: resource.to_owned(), url: url.to_owned(), detail: detail.to_owned() }
    }

    fn allowed(&self, url: Url, base: &Url) -> Option<Url> {
        let same = url.host_str() == base.host_str() && url.port_or_known_default() == base.port_or_known_default();
        let named = url.host_str().is_some_and(|host| self.source.allowed_hosts.iter().any(|allowed| allowed == host));
        let safe = url.scheme() == base.scheme() || url.scheme() == "https";
        ((same || named) && safe).then_some(url)
    }

    /// Fetches one page: with retries, within the budget, until it is whole and has its rows where they should be.
    ///
    /// # Errors
    /// What the API or the network did, after every attempt; [`Error::Stopped`] at the budget or a signal.
    pub async fn fetch(
        &self,
        request: &Request,
        paths: &Arc<Paths>,
        format: ResponseFormat,
        traffic: &Traffic,
    ) -> Result<Answer, Error> {
        let mut delays = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(30))
            .with_factor(2.5)
            .with_jitter()
            .without_max_times()
            .build();
        let mut attempt = 1;
        let mut refused = None;
        let mut renewals = 0;
        loop {
            self.within_budget()?;
            let tried = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Stopped("by a signal or a request".into())),
                tried = self.try_once(request, paths, format, traffic, &mut refused) => tried,
            };
            let (detail, pause) = match tried {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Refused401 { detail }) => {
                    renewals += 1;
                    if !self.authenticator.is_renewable() || renewals > 2 {
                        let url = self.public(&request.url);
                        return Err(Error::Credentials { url, status: 401, detail: its_words(&detail) });
                    }
                    continue;
                }
                Err(Failure::Passing { detail, pause }) => (detail, pause),
            };
            if attempt >= self.source.attempts {
                return Err(Error::Unreachable {
                    resource: request.resource.to_string(),
                    url: self.public(&request.url),
                    attempts: attempt,
                    detail: self.redact(&detail),
                });
            }
            tracing::debug!(resource = %request.resource, url = %self.public(&request.url), attempt, detail = %self.redact(&detail), "retry");
            attempt += 1;
            for counters in [traffic, &self.total] {
                Traffic::count(&counters.retries, 1);
            }
            let wait = pause
                .map(|pause| pause.min(LONGEST_PAUSE))
                .unwrap_or_else(|| delays.next().unwrap_or(Duration::from_secs(30)));
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopped("by a signal or a request".into())),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn try_once(
        &self,
        request: &Request,
        paths: &Arc<Paths>,
        format: ResponseFormat,
        traffic: &Traffic,
        refused: &mut Option<u64>,
    ) -> Result<Answer, Failure> {
        let reply = match &self.cassette {
            Some(Cassette::Replay(tape)) => {
                let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
                tape.replay(request, &secrets).map_err(Failure::Final)?
            }
            _ => self.send(request, traffic, refused).await?,
        };
        if let Some(Cassette::Record(tape)) = &self.cassette {
            let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
            tape.record(request, &reply, &secrets).map_err(Failure::Final)?;
        }
        let fetched_at = self.clock.now();
        self.judge(request, &reply, fetched_at, traffic)?;
        let empty = request.empty_on.contains(&reply.status) || reply.status == 204;
        let page = if empty {
            Page { records: Bytes::from_static(b"[]"), ..Page::default() }
        } else {
            let (paths, headers, body, most) =
                (Arc::clone(paths), reply.headers.clone(), reply.body.clone(), self.source.max_body.0);
            let read = tokio::task::spawn_blocking(move || paths.read(&headers, &body, format, most)).await;
            let read = read.map_err(|error| Failure::Final(Error::Internal(error.to_string())))?;
            match read {
                Ok(page) => page,
                // What is missing from a whole document will be missing the next time too.
                Err(detail) if detail.contains("correct `records`") || detail.contains("max_body") => {
                    return Err(Failure::Final(self.bad(request, &detail)));
                }
                Err(detail) => return Err(Failure::Passing { detail, pause: None }),
            }
        };
        self.limiter.succeeded();
        let mut source = request.url.clone();
        source.set_query(None);
        Ok(Answer { page, headers: reply.headers, source: self.public(&source), fetched_at })
    }

    /// The beginning of what an API says with an error. Secrets are struck out before it is cut, so that none is halved.
    fn words(&self, body: &[u8]) -> String {
        let text = self.redact(&String::from_utf8_lossy(&body[..body.len().min(SAID_BYTES)]));
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }

    /// The failure of a login, without secrets.
    fn refused(&self, request: &Request, error: Error) -> Error {
        match error {
            Error::Unreachable { url, attempts, detail, .. } => {
                let (resource, detail) = (request.resource.to_string(), self.redact(&detail));
                Error::Unreachable { resource, url: self.redact(&url), attempts, detail }
            }
            Error::Credentials { url, status, detail } => {
                Error::Credentials { url: self.redact(&url), status, detail: self.redact(&detail) }
            }
            other => other,
        }
    }

    fn bad(&self, request: &Request, detail: &str) -> Error {
        let (resource, url) = (request.resource.to_string(), self.public(&request.url));
        Error::BadResponse { resource, url, detail: self.redact(detail) }
    }

    async fn send(&self, request: &Request, traffic: &Traffic, refused: &mut Option<u64>) -> Result<Reply, Failure> {
        let proof =
            self.authenticator.proof(*refused).await.map_err(|error| Failure::Final(self.refused(request, error)))?;
        let _permit = self.limiter.admit().await;
        let mut url = request.url.clone();
        for (name, value) in &proof.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut sent = self.http.request(request.method.clone(), url).header("accept-encoding", "gzip");
        for (name, value) in self.source.headers.iter().chain(request.headers.iter().map(|(n, v)| (n, v))) {
            sent = sent.header(name, value);
        }
        for (name, value) in &proof.headers {
            sent = sent.header(name, value);
        }
        if let Some(body) = &request.body {
            sent = sent.header("content-type", body.content_type).body(body.bytes.clone());
        }
        for counters in [traffic, &self.total] {
            Traffic::count(&counters.requests, 1);
        }
        let passing = |error: reqwest::Error| {
            let detail = explain(&error);
            self.limiter.struggled();
            Failure::Passing { detail, pause: None }
        };
        let response = sent.send().await.map_err(passing)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let most = self.source.max_body.0;
        let mut body = BytesMut::with_capacity(response.content_length().unwrap_or(0).min(16 << 20) as usize);
        let mut stream = response.bytes_stream();
        while let Some(part) = stream.next().await {
            body.extend_from_slice(&part.map_err(passing)?);
            if body.len() as u64 > most {
                let detail = format!("the body is larger than {}; raise source.max_body", self.source.max_body);
                return Err(Failure::Final(self.bad(request, &detail)));
            }
        }
        for counters in [traffic, &self.total] {
            Traffic::count(&counters.bytes, body.len() as u64);
        }
        if status == StatusCode::UNAUTHORIZED {
            *refused = Some(proof.generation);
        }
        Ok(Reply { status: status.as_u16(), headers, body: body.freeze() })
    }

    /// What the status says.
    fn judge(&self, request: &Request, reply: &Reply, now: Timestamp, traffic: &Traffic) -> Result<(), Failure> {
        let pause = asked_pause(&reply.headers, now);
        match reply.status {
            status if request.empty_on.contains(&status) => Ok(()),
            200..300 => {
                if let Some(pause) = pause {
                    self.limiter.pause(pause);
                }
                Ok(())
            }
            401 => Err(Failure::Refused401 { detail: self.words(&reply.body) }),
            403 if matches!(self.source.auth, Auth::None) || !reply.body.is_empty() || pause.is_none() => {
                let url = self.public(&request.url);
                let detail = self.redact(&its_words(&self.words(&reply.body)));
                Err(Failure::Final(Error::Credentials { url, status: 403, detail }))
            }
            429 | 403 => {
                for counters in [traffic, &self.total] {
                    Traffic::count(&counters.throttled, 1);
                }
                self.limiter.throttled();
                if let Some(pause) = pause {
                    self.limiter.pause(pause);
                }
                Err(Failure::Passing { detail: "it answered 429: too many requests".into(), pause })
            }
            status @ (408 | 425 | 500..=599) => {
                self.limiter.struggled();
                Err(Failure::Passing {
                    detail: format!("it answered {status}{}", said(&self.words(&reply.body))),
                    pause,
                })
            }
            status => {
                let remedy = match status {
                    404 => "; check the path, or add `empty_on: [404]` if it means no rows",
                    400 | 422 => "; check the parameters",
                    405 => "; check `method`",
                    300..400 => "; it redirects to another host, which is not followed: correct base_url",
                    _ => "",
                };
                let detail = self.redact(&format!("{}{remedy}", said(&self.words(&reply.body))));
                let (resource, url) = (request.resource.to_string(), self.public(&request.url));
                Err(Failure::Final(Error::Refused { resource, url, status, detail }))
            }
        }
    }

    fn within_budget(&self) -> Result<(), Error> {
        let over = |what: String| {
            Err(Error::Stopped(format!("the budget of {what} is used up; the next run goes on from here")))
        };
        if let Some(most) = self.budget.requests.filter(|most| self.total.requests.load(Ordering::Relaxed) >= *most) {
            return over(format!("{most} requests"));
        }
        if let Some(most) = self.budget.bytes.filter(|most| self.total.bytes.load(Ordering::Relaxed) >= most.0) {
            return over(most.to_string());
        }
        match self.budget.duration.filter(|most| self.clock.now().since(self.began) >= most.0) {
            Some(most) => over(most.to_string()),
            None => Ok(()),
        }
    }
}

fn http_client(source: &Source) -> Result<reqwest::Client, Error> {
    let hosts: Vec<String> = Url::parse(&source.base_url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .into_iter()
        .chain(source.allowed_hosts.clone())
        .collect();
    let redirects = reqwest::redirect::Policy::custom(move |attempt| {
        let known = attempt.url().host_str().is_some_and(|host| hosts.iter().any(|allowed| allowed == host));
        if attempt.previous().len() > 10 || !known { attempt.stop() } else { attempt.follow() }
    });
    let client = tessera_service::client::builder()
        .timeout(source.timeout.0)
        .connect_timeout(source.timeout.0.min(Duration::from_secs(15)))
        .pool_max_idle_per_host(usize::from(source.concurrency))
        .tcp_nodelay(true)
        .redirect(redirects)
        .cookie_store(matches!(source.auth, Auth::Session { .. }));
    client.build().map_err(|error| Error::Internal(format!("the HTTP client cannot be built: {error}")))
}

/// The failure and its causes in one line, without the URL.
fn explain(error: &reqwest::Error) -> String {
    use std::error::Error;
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "cannot connect".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !words.is_empty() && !text.contains(&words) && !words.contains("://") {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    if error.is_connect() {
        text.push_str("; check `base_url`, and that the API runs");
    }
    text
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" and said: {words}") }
}

/// The same, after what there is to do.
fn its_words(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; it said: {words}") }
}
