//! Forward: the request goes to an endpoint of its upstream, and again where that is safe.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, Version};
use hyper::body::Body as _;
use tokio::time::Instant;

use super::attempt::{Deadline, Failure, Outgoing, Trying, is_unavailable, let_go};
use super::{Exchange, headers, hedge, inflate, inside, limits, mirror, tunnel};
use crate::Error;
use crate::domain::grpc::Dialect;
use crate::engine::{Body, Incoming, Progress, Source, Upload, WebAnswer};
use crate::metrics::UpstreamLabels;
use crate::snapshot::Route;
use crate::spec::RetryOn;
use crate::upstream::{Arriving, Ask, Tried, Upstream};

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
    exchange.held.entered = Some(upstream.enter(exchange.worker.us_at(deadline.since))?);
    upstream.pay_in();
    let key = limits::hash_of(exchange, upstream);
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
        return inside::forward(exchange, upstream, outgoing, body, deadline).await;
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
    let progress = Rc::new(Progress::of(route.body_limit));
    exchange.record.progress = Some(progress.clone());
    let patience = exchange.snapshot.spec.limits.body_timeout.0;
    let patience = (exchange.head.version >= Version::HTTP_2).then_some(patience);
    let mut upload = Upload::new(incoming, progress.clone(), patience);
    if is_web_text {
        upload.decode_text();
    }
    match exchange.inflates.take() {
        Some(coding) => inflate::inflated(upload, coding, progress),
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
    let path = headers::target(exchange, route)?;
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
    Ok(Outgoing { method: exchange.head.method.clone(), path, headers: map, host })
}

async fn attempts(
    exchange: &mut Exchange,
    route: &Route,
    upstream: &Arc<Upstream>,
    asked: Asked,
) -> Result<Response<Arriving>, Error> {
    let Asked { outgoing, body, key, deadline } = asked;
    let retry = &route.spec.retry;
    let is_safe = outgoing.may_be_repeated(!matches!(body, Body::Empty));
    let mut tried = Tried::new();
    let mut body = Some(body);
    let mut now = deadline.since;
    loop {
        exchange.record.attempts += 1;
        let may_retry = exchange.record.attempts < retry.attempts;
        let ask = upstream.choose(key, &tried, exchange.worker.us_at(now))?;
        exchange.record.endpoint = Some(ask.endpoint.clone());
        let within = deadline.within(retry.attempt_timeout.map(|limit| limit.0));
        let progress = exchange.record.progress.as_deref();
        let worker = &exchange.worker;
        let trying = Trying { worker, upstream, outgoing: &outgoing, deadline: within, progress, begins: now };
        let plan = Plan { route, trying };
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
            Ok(answer) => {
                let again =
                    is_unavailable(answer.status()) && is_safe && may_retry && retry.on.contains(&RetryOn::Unavailable);
                if !(again && upstream.take_retry()) {
                    exchange.held.ask = Some(ask);
                    exchange.worker.spare.keep_map(outgoing.headers);
                    return Ok(answer);
                }
                exchange.record.was_sent = true;
                let_go(&exchange.worker, answer);
                (None, None, Some(RetryOn::Unavailable))
            }
            Err(Failure { error, unsent, reason }) => (Some(error), unsent, reason),
        };
        now = Instant::now();
        if let Some(error) = error {
            let is_unsent = unsent.is_some();
            exchange.record.was_sent |= !is_unsent;
            let is_wanted = reason.is_some_and(|reason| is_safe && retry.on.contains(&reason));
            let again = may_retry && now < deadline.at && (is_unsent || is_wanted) && upstream.take_retry();
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

/// Attempts under a route's rules.
#[derive(Clone, Copy)]
pub(super) struct Plan<'e> {
    pub(super) route: &'e Route,
    pub(super) trying: Trying<'e>,
}

impl Plan<'_> {
    /// One attempt at one endpoint.
    pub(super) async fn attempt(self, ask: Ask, body: Body) -> Sent {
        let outcome = self.trying.at(&ask, body).await;
        Sent { ask, outcome }
    }
}

/// What became of an attempt.
pub(super) struct Sent {
    pub(super) ask: Ask,
    pub(super) outcome: Result<Response<Arriving>, Failure>,
}
