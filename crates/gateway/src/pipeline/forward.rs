//! Forward: the request goes to an endpoint of its upstream, and again where that is safe.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Exchange, headers, hedge, inflate, inside, limits, mirror, tunnel};
use crate::Error;
use crate::domain::balance::hash;
use crate::domain::framing::Malformed;
use crate::domain::grpc::{self, Dialect};
use crate::engine::{Body, Progress, Source, Upload, WebAnswer, Worker, discard};
use crate::metrics::UpstreamLabels;
use crate::snapshot::Route;
use crate::spec::RetryOn;
use crate::upstream::{Ask, Lease, Sender, Tried, Upstream};

/// Connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;
/// Of an answer that is not passed on, so much is read to keep its connection.
const MOST_DISCARDED: usize = 64 << 10;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the upstream has left, in milliseconds.
const TIME_LEFT: &str = "x-request-timeout-ms";
const GRPC_TIME_LEFT: &str = "grpc-timeout";

/// The head of a request for an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The host that the upstream sees; the endpoint's own where there is none.
    pub(crate) host: Option<HeaderValue>,
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub(super) struct Toward<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    /// Who gets a copy.
    pub(super) mirror: Option<&'a Arc<Upstream>>,
    /// The host that the upstream sees.
    pub(super) host: Option<&'a HeaderValue>,
}

/// The body that goes with it.
pub(super) enum Sending {
    /// None.
    Nothing,
    /// The caller's, as it comes.
    Passing(Incoming),
    /// One in memory.
    Whole(Bytes),
}

impl From<Incoming> for Sending {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Nothing } else { Self::Passing(incoming) }
    }
}

/// What is asked of an upstream, and until when.
struct Asked {
    outgoing: Outgoing,
    body: Body,
    /// What chooses the endpoint under `balance: hash`.
    key: Option<u64>,
    deadline: Deadline,
}

/// Until when an answer must have begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// Whether the caller set it: then a service that misses it is not at fault.
    pub(super) is_callers: bool,
}

impl Deadline {
    /// The route's, or the caller's where that is sooner.
    pub(super) fn of(route: &Route, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let stated = text(TIME_LEFT).and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let of_grpc = text(GRPC_TIME_LEFT).and_then(grpc::timeout);
        let patience = route.spec.timeout.0;
        let sooner = stated.into_iter().chain(of_grpc).min().filter(|callers| *callers < patience);
        Self { at: Instant::now() + sooner.unwrap_or(patience), is_callers: sooner.is_some() }
    }

    /// So long from now, for a call of the gateway's own.
    pub(crate) fn after(patience: Duration) -> Self {
        Self { at: Instant::now() + patience, is_callers: false }
    }

    /// This one, or so long from now where that is sooner.
    pub(super) fn within(self, limit: Option<Duration>) -> Self {
        let sooner = limit.map(|limit| Instant::now() + limit).filter(|sooner| *sooner < self.at);
        sooner.map_or(self, |at| Self { at, is_callers: false })
    }
}

/// An attempt that failed.
pub(super) struct Failure {
    error: Error,
    /// The body, where nothing of it was sent.
    unsent: Option<Body>,
    reason: Option<RetryOn>,
}

/// Sends the request and waits for the beginning of an answer.
///
/// # Errors
/// Those of the upstream's side, and [`Error::BodyTooLarge`].
pub(super) async fn forward(
    exchange: &mut Exchange,
    route: &Route,
    toward: Toward<'_>,
    sending: Sending,
) -> Result<Response<Source>, Error> {
    let Toward { upstream, mirror, host } = toward;
    let deadline = Deadline::of(route, &exchange.head.headers);
    exchange.record.upstream = Some(upstream.name.clone());
    exchange.held.entered = Some(upstream.enter(exchange.worker.now_us())?);
    upstream.pay_in();
    let key = upstream.spec.hash_key.as_ref().and_then(|key| limits::key_text(exchange, key));
    let key = key.map(|text| hash(text.as_bytes()));
    let web = exchange.grpc.filter(|dialect| route.spec.grpc_web && *dialect != Dialect::Plain);
    let mut outgoing = prepare(exchange, route, upstream, host)?;
    if web.is_some() {
        of_grpc_web(&mut outgoing.headers);
    }
    let body = match sending {
        Sending::Nothing => Body::Empty,
        Sending::Passing(incoming) => upload(exchange, route, incoming, web == Some(Dialect::WebText))?,
        Sending::Whole(body) => Body::full(body),
    };
    if let Some(mirror) = mirror.filter(|_| matches!(body, Body::Empty)) {
        mirror::copy(exchange, &outgoing, mirror, route.spec.timeout.0);
    }
    if upstream.spec.in_process {
        return inside::forward(exchange, route, upstream, outgoing, body, deadline).await;
    }
    let mut answer = attempts(exchange, route, upstream, Asked { outgoing, body, key, deadline }).await?;
    if let Some(dialect) = web
        && to_grpc_web(answer.headers_mut(), dialect)
    {
        exchange.held.web = Some(WebAnswer::of(dialect));
    }
    Ok(answer.map(Source::Upstream))
}

/// The head of a call of gRPC-Web becomes one of gRPC.
fn of_grpc_web(headers: &mut HeaderMap) {
    let suffix = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).and_then(|kind| kind.split_once('+'));
    let kind = suffix.map_or("application/grpc".to_owned(), |(_, suffix)| format!("application/grpc+{suffix}"));
    if let Ok(kind) = HeaderValue::try_from(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    for name in [ACCEPT, CONTENT_LENGTH, HeaderName::from_static("x-grpc-web")] {
        headers.remove(name);
    }
}

/// The head of an answer becomes one of gRPC-Web, where it is one of gRPC.
fn to_grpc_web(headers: &mut HeaderMap, dialect: Dialect) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
    if Dialect::of(kind.as_bytes()) != Some(Dialect::Plain) {
        return false;
    }
    let base = if dialect == Dialect::WebText { "application/grpc-web-text" } else { "application/grpc-web" };
    let suffix = kind.split_once('+').map_or("proto", |(_, suffix)| suffix);
    let Ok(kind) = HeaderValue::try_from(format!("{base}+{suffix}")) else { return false };
    headers.insert(CONTENT_TYPE, kind);
    headers.remove(CONTENT_LENGTH);
    true
}

/// The caller's body, which is watched and, where the route says so, inflated or, of gRPC-Web, decoded.
///
/// # Errors
/// Those of [`inflate::inflated`].
pub(super) fn upload(
    exchange: &mut Exchange,
    route: &Route,
    incoming: Incoming,
    is_web_text: bool,
) -> Result<Body, Error> {
    let progress = Rc::new(Progress::default());
    exchange.record.progress = Some(progress.clone());
    let patience = exchange.snapshot.spec.limits.body_timeout.0;
    let patience = (exchange.head.version == Version::HTTP_2).then_some(patience);
    let mut upload = Upload::new(incoming, route.body_limit, progress.clone(), patience);
    if is_web_text {
        upload.decode_text();
    }
    match exchange.inflates.take() {
        Some(coding) => inflate::inflated(upload, coding, route.body_limit, progress),
        None => Ok(Body::Upload(upload)),
    }
}

/// What the upstream is asked.
pub(super) fn prepare(
    exchange: &mut Exchange,
    route: &Route,
    upstream: &Upstream,
    host: Option<&HeaderValue>,
) -> Result<Outgoing, Error> {
    let protocol = tunnel::wanted(exchange, route);
    let path = headers::rewritten(exchange, route)?;
    let query = exchange.head.uri.query();
    let target = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let target = target.map_err(|_| Error::BadPath("it cannot be passed on"))?;
    headers::for_upstream(exchange, route);
    let kept = exchange.head.headers.remove(HOST);
    let named = exchange.head.uri.authority().and_then(|named| HeaderValue::try_from(named.as_str()).ok());
    let host = host.cloned().or_else(|| named.or(kept).filter(|_| route.spec.keep_host));
    let mut map = std::mem::take(&mut exchange.head.headers);
    headers::vouch(&mut map, exchange, upstream);
    if !route.request_headers.is_empty() {
        headers::edit(&mut map, &route.request_headers, exchange);
    }
    if let Some(protocol) = protocol {
        map.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        map.insert(UPGRADE, protocol);
    }
    Ok(Outgoing { method: exchange.head.method.clone(), path: target, headers: map, host })
}

async fn attempts(
    exchange: &mut Exchange,
    route: &Route,
    upstream: &Arc<Upstream>,
    asked: Asked,
) -> Result<Response<Incoming>, Error> {
    let Asked { outgoing, body, key, deadline } = asked;
    let retry = &route.spec.retry;
    let is_safe = matches!(body, Body::Empty)
        && matches!(outgoing.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        && !outgoing.headers.contains_key(UPGRADE);
    let mut tried = Tried::new();
    let mut body = Some(body);
    loop {
        exchange.record.attempts += 1;
        let may_retry = exchange.record.attempts < retry.attempts;
        let ask = upstream.choose(key, &tried, exchange.worker.now_us())?;
        exchange.record.endpoint = Some(ask.endpoint.clone());
        let until = deadline.within(retry.attempt_timeout.map(|limit| limit.0));
        let plan = Plan { exchange, route, upstream, outgoing: &outgoing, until };
        let (Sent { ask, outcome }, hedged) = if is_safe && hedge::may_be(&outgoing.method, retry) {
            Box::pin(hedge::attempt(plan, ask, key, &tried)).await
        } else {
            (plan.attempt(ask, body.take().unwrap_or(Body::Empty)).await, None)
        };
        if let Some(id) = hedged {
            exchange.record.attempts += 1;
            exchange.record.was_sent = true;
            exchange.record.endpoint = Some(ask.endpoint.clone());
            tried.push(id);
        }
        let (error, unsent, reason) = match outcome {
            Ok((answer, lease)) => {
                let again =
                    is_unavailable(answer.status()) && is_safe && may_retry && retry.on.contains(&RetryOn::Unavailable);
                if !(again && upstream.take_retry()) {
                    exchange.held.lease = Some(lease);
                    exchange.held.ask = Some(ask);
                    return Ok(answer);
                }
                exchange.record.was_sent = true;
                let_go(&exchange.worker, answer, lease);
                (None, None, Some(RetryOn::Unavailable))
            }
            Err(Failure { error, unsent, reason }) => (Some(error), unsent, reason),
        };
        if let Some(error) = error {
            let is_unsent = unsent.is_some();
            exchange.record.was_sent |= !is_unsent;
            let is_wanted = reason.is_some_and(|reason| is_safe && retry.on.contains(&reason));
            let again = may_retry && Instant::now() < deadline.at && (is_unsent || is_wanted) && upstream.take_retry();
            if !again {
                return Err(error);
            }
            body = unsent;
        }
        tried.push(ask.endpoint.id);
        let labels = UpstreamLabels { upstream: upstream.name.to_string() };
        exchange.worker.shared.metrics.retries.get_or_create(&labels).inc();
        tracing::debug!(upstream = &*upstream.name, endpoint = %ask.endpoint.url, ?reason, "tried again");
    }
}

/// What all attempts have in common.
#[derive(Clone, Copy)]
pub(super) struct Plan<'e> {
    pub(super) exchange: &'e Exchange,
    pub(super) route: &'e Route,
    pub(super) upstream: &'e Arc<Upstream>,
    pub(super) outgoing: &'e Outgoing,
    until: Deadline,
}

impl Plan<'_> {
    /// One attempt at one endpoint.
    pub(super) async fn attempt(self, ask: Ask, body: Body) -> Sent {
        let Self { exchange, route, upstream, outgoing, until } = self;
        let outcome = attempt(exchange, route, upstream, &ask, outgoing, body, until).await;
        Sent { ask, outcome }
    }
}

/// What became of an attempt.
pub(super) struct Sent {
    pub(super) ask: Ask,
    pub(super) outcome: Result<(Response<Incoming>, Lease), Failure>,
}

/// One attempt at one endpoint; connections that were closed meanwhile do not count.
async fn attempt(
    exchange: &Exchange,
    route: &Route,
    upstream: &Arc<Upstream>,
    ask: &Ask,
    outgoing: &Outgoing,
    body: Body,
    until: Deadline,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let worker = &exchange.worker;
    let began = Instant::now();
    let mut body = Some(body);
    let progress = exchange.record.progress.as_deref();
    let waited = || progress.map_or(Duration::ZERO, Progress::waited);
    let waited_before = waited();
    let note = |is_good: bool| {
        // How long the caller took to send its body says nothing about the service.
        let waited = waited().saturating_sub(waited_before);
        let took_us = u64::try_from(began.elapsed().saturating_sub(waited).as_micros()).unwrap_or(u64::MAX);
        let now_us = worker.now_us();
        ask.endpoint.note(is_good, took_us, now_us, &upstream.spec.outliers);
        upstream.note(is_good, now_us);
    };
    // Who asks for an answer within a millisecond says nothing about the service.
    let note_late = || {
        if !until.is_callers {
            note(false);
        }
    };
    let late = || late(exchange, upstream);
    for stale in 0.. {
        let mut lease = match timeout_at(until.at, worker.pools.lease(upstream, &ask.endpoint)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                note(false);
                return Err(Failure { error, unsent: body, reason: None });
            }
            Err(_) => {
                note_late();
                return Err(Failure { error: late(), unsent: body, reason: Some(RetryOn::Timeout) });
            }
        };
        let request = build(outgoing, ask, &lease.sender, body.take().unwrap_or(Body::Empty), until.at);
        let request = request.map_err(|error| Failure { error, unsent: None, reason: None })?;
        let sent = timeout_at(until.at, send(&mut lease.sender, request)).await;
        match sent {
            Err(_) if progress.is_some_and(Progress::is_waiting) => {
                return Err(Failure { error: Error::SlowClient, unsent: None, reason: None });
            }
            Err(_) => {
                note_late();
                return Err(Failure { error: late(), unsent: None, reason: Some(RetryOn::Timeout) });
            }
            Ok(Ok(answer)) => {
                note(!is_unavailable(answer.status()));
                if let Some(progress) = progress {
                    progress.is_answered.set(true);
                }
                return Ok((answer, lease));
            }
            // A connection that had been idle was closed by the other side before it took the request.
            Ok(Err((_, Some(unsent)))) if lease.is_used && stale < MOST_STALE => body = Some(unsent),
            Ok(Err((error, unsent))) => {
                if let Some(error) = uploads_fault(exchange, route) {
                    return Err(Failure { error, unsent: None, reason: None });
                }
                // A service that gives up on a caller who does not go on is not at fault.
                if !progress.is_some_and(Progress::is_waiting) {
                    note(false);
                }
                return Err(of_hyper(upstream, ask, &error, unsent));
            }
        }
    }
    Err(Failure { error: late(), unsent: None, reason: None })
}

/// Keeps the connection of an answer that is not passed on, where the rest of it comes soon. Nobody waits for that.
pub(super) fn let_go<B>(worker: &Rc<Worker>, answer: Response<B>, lease: Lease)
where
    B: HttpBody<Data = Bytes> + Unpin + 'static,
{
    if answer.body().is_end_stream() {
        return lease.give_back();
    }
    let draining = worker.draining.clone();
    worker.tracker.spawn_local(async move {
        tokio::select! {
            read = timeout(DISCARD_TIMEOUT, discard(answer.into_body(), MOST_DISCARDED)) => {
                if read.unwrap_or(false) {
                    lease.give_back();
                }
            }
            () = draining.cancelled() => {}
        }
    });
}

/// Whether an answer says that the service cannot answer now.
pub(super) fn is_unavailable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Where the caller's body is why sending failed.
pub(super) fn uploads_fault(exchange: &Exchange, route: &Route) -> Option<Error> {
    let progress = exchange.record.progress.as_ref()?;
    if progress.is_over.get() {
        return Some(Error::BodyTooLarge { limit_bytes: route.body_limit });
    }
    if progress.is_corrupt.get() {
        return Some(Error::BadCoding);
    }
    if progress.is_not_base64.get() {
        return Some(Malformed::Base64.into());
    }
    progress.is_broken.get().then_some(Error::SlowClient)
}

/// There was no answer in time.
pub(super) fn late(exchange: &Exchange, upstream: &Upstream) -> Error {
    let after_ms = u64::try_from(exchange.record.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Error::UpstreamTimeout { upstream: upstream.name.to_string(), after_ms }
}

fn of_hyper(upstream: &Upstream, ask: &Ask, error: &hyper::Error, unsent: Option<Body>) -> Failure {
    let (upstream, endpoint) = (upstream.name.to_string(), ask.endpoint.url.to_string());
    let reason =
        std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    if error.is_parse() {
        return Failure { error: Error::BadAnswer { upstream, endpoint, reason }, unsent, reason: None };
    }
    Failure { error: Error::BrokeOff { upstream, endpoint, reason }, unsent, reason: Some(RetryOn::BrokenOff) }
}

async fn send(sender: &mut Sender, request: Request<Body>) -> Result<Response<Incoming>, (hyper::Error, Option<Body>)> {
    let sent = match sender {
        Sender::Http1(sender) => sender.try_send_request(request).await,
        Sender::Http2(sender) => sender.try_send_request(request).await,
    };
    sent.map_err(|mut error| {
        let unsent = error.take_message().map(Request::into_body);
        (error.into_error(), unsent)
    })
}

/// The request as this connection wants it: HTTP/1 has the host in a header, HTTP/2 in the target.
pub(super) fn build(
    outgoing: &Outgoing,
    ask: &Ask,
    sender: &Sender,
    body: Body,
    until: Instant,
) -> Result<Request<Body>, Error> {
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.headers_mut() = outgoing.headers.clone();
    let host = outgoing.host.as_ref().unwrap_or(&ask.endpoint.authority);
    let left = until.saturating_duration_since(Instant::now());
    let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    request.headers_mut().insert(TIME_LEFT, HeaderValue::from(left_ms));
    if let Some(stated) = request.headers_mut().get_mut(GRPC_TIME_LEFT)
        && let Ok(left) = HeaderValue::try_from(grpc::timeout_text(left))
    {
        *stated = left;
    }
    match sender {
        Sender::Http1(_) => {
            request.headers_mut().insert(HOST, host.clone());
            // Of GET and HEAD hyper drops a body whose length it does not know, unless it is told to send one.
            let has_length =
                request.headers().contains_key(CONTENT_LENGTH) || request.body().size_hint().exact().is_some();
            if !has_length {
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = outgoing.path.clone().into();
        }
        Sender::Http2(_) => {
            let authority: Authority = host
                .to_str()
                .ok()
                .and_then(|host| host.parse().ok())
                .ok_or(Error::BadPath("its host cannot be passed on"))?;
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(if ask.endpoint.url.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = Some(authority);
            uri.path_and_query = Some(outgoing.path.clone());
            *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Error::BadPath("it cannot be passed on"))?;
            *request.version_mut() = Version::HTTP_2;
            if matches!(request.body(), Body::Empty) && outgoing.method == Method::GET {
                request.headers_mut().remove(CONTENT_LENGTH);
            }
        }
    }
    Ok(request)
}
