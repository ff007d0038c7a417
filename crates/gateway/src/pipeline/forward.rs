//! Forward: the request goes to an endpoint of its upstream, and again where that is safe.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use super::{Exchange, headers, limits, mirror, tunnel};
use crate::Error;
use crate::domain::balance::hash;
use crate::engine::{Body, Progress, Upload, discard};
use crate::metrics::UpstreamLabels;
use crate::snapshot::Route;
use crate::spec::RetryOn;
use crate::upstream::{Ask, Lease, Sender, Tried, Upstream};

/// Connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;
/// Of an answer that is not passed on, so much is read to keep its connection.
const MOST_DISCARDED: usize = 64 << 10;
/// How long the upstream has left, in milliseconds.
const TIME_LEFT: &str = "x-request-timeout-ms";

/// The head of a request for an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The host that the upstream sees; the endpoint's own where there is none.
    pub(crate) host: Option<HeaderValue>,
}

/// What is asked of an upstream, and until when.
struct Asked {
    outgoing: Outgoing,
    body: Body,
    /// What chooses the endpoint under `balance: hash`.
    key: Option<u64>,
    deadline: Instant,
}

/// An attempt that failed.
struct Failure {
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
    upstream: &Arc<Upstream>,
    mirror: Option<&Arc<Upstream>>,
    host: Option<&HeaderValue>,
    incoming: Incoming,
) -> Result<Response<Incoming>, Error> {
    let deadline = Instant::now() + route.spec.timeout.0;
    exchange.record.upstream = Some(upstream.name.clone());
    exchange.held.entered = Some(upstream.enter(exchange.worker.now_us())?);
    upstream.pay_in();
    let has_body = !incoming.is_end_stream();
    let key = upstream.spec.hash_key.as_ref().and_then(|key| limits::key_text(exchange, key));
    let key = key.map(|text| hash(text.as_bytes()));
    let outgoing = prepare(exchange, route, host)?;
    if let Some(mirror) = mirror.filter(|_| !has_body) {
        mirror::copy(exchange, &outgoing, mirror, route.spec.timeout.0);
    }
    let body = if has_body {
        let progress = Rc::new(Progress::default());
        exchange.record.progress = Some(progress.clone());
        Body::Upload(Upload::new(incoming, route.body_limit, progress))
    } else {
        Body::Empty
    };
    attempts(exchange, route, upstream, Asked { outgoing, body, key, deadline }).await
}

/// What the upstream is asked.
pub(super) fn prepare(exchange: &mut Exchange, route: &Route, host: Option<&HeaderValue>) -> Result<Outgoing, Error> {
    let protocol = tunnel::wanted(exchange, route);
    let path = headers::rewritten(exchange, route);
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
        let until = retry.attempt_timeout.map_or(deadline, |limit| deadline.min(Instant::now() + limit.0));
        let sent = attempt(exchange, route, upstream, &ask, &outgoing, body.take().unwrap_or(Body::Empty), until).await;
        let (error, unsent, reason) = match sent {
            Ok((answer, lease)) => {
                let is_unavailable = matches!(answer.status().as_u16(), 502..=504);
                let again = is_unavailable && is_safe && may_retry && retry.on.contains(&RetryOn::Unavailable);
                if !(again && upstream.take_retry()) {
                    exchange.held.lease = Some(lease);
                    exchange.held.ask = Some(ask);
                    return Ok(answer);
                }
                if discard(answer.into_body(), MOST_DISCARDED).await {
                    lease.give_back();
                }
                (None, None, Some(RetryOn::Unavailable))
            }
            Err(Failure { error, unsent, reason }) => (Some(error), unsent, reason),
        };
        if let Some(error) = error {
            let is_unsent = unsent.is_some();
            let is_wanted = reason.is_some_and(|reason| is_safe && retry.on.contains(&reason));
            let again = may_retry && Instant::now() < deadline && (is_unsent || is_wanted) && upstream.take_retry();
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

/// One attempt at one endpoint; connections that were closed meanwhile do not count.
async fn attempt(
    exchange: &Exchange,
    route: &Route,
    upstream: &Arc<Upstream>,
    ask: &Ask,
    outgoing: &Outgoing,
    body: Body,
    until: Instant,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let worker = &exchange.worker;
    let began = Instant::now();
    let mut body = Some(body);
    let note = |is_good: bool| {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now_us = worker.now_us();
        ask.endpoint.note(is_good, took_us, now_us, &upstream.spec.outliers);
        upstream.note(is_good, now_us);
    };
    let late = || Error::UpstreamTimeout {
        upstream: upstream.name.to_string(),
        after_ms: u64::try_from(route.spec.timeout.0.as_millis()).unwrap_or(u64::MAX),
    };
    for stale in 0.. {
        let mut lease = match timeout_at(until, worker.pools.lease(upstream, &ask.endpoint)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                note(false);
                return Err(Failure { error, unsent: body, reason: None });
            }
            Err(_) => {
                note(false);
                return Err(Failure { error: late(), unsent: body, reason: Some(RetryOn::Timeout) });
            }
        };
        let request = build(outgoing, ask, &lease.sender, body.take().unwrap_or(Body::Empty), until);
        let request = request.map_err(|error| Failure { error, unsent: None, reason: None })?;
        let sent = timeout_at(until, send(&mut lease.sender, request)).await;
        match sent {
            Err(_) => {
                note(false);
                return Err(Failure { error: late(), unsent: None, reason: Some(RetryOn::Timeout) });
            }
            Ok(Ok(answer)) => {
                note(!matches!(answer.status().as_u16(), 502..=504));
                return Ok((answer, lease));
            }
            // A connection that had been idle was closed by the other side before it took the request.
            Ok(Err((_, Some(unsent)))) if lease.is_used && stale < MOST_STALE => body = Some(unsent),
            Ok(Err((error, unsent))) => {
                if let Some(failure) = uploads_fault(exchange, route) {
                    return Err(failure);
                }
                note(false);
                return Err(of_hyper(upstream, ask, &error, unsent));
            }
        }
    }
    Err(Failure { error: late(), unsent: None, reason: None })
}

/// Where the caller's body is why sending failed.
fn uploads_fault(exchange: &Exchange, route: &Route) -> Option<Failure> {
    let progress = exchange.record.progress.as_ref()?;
    let error = if progress.is_over.get() {
        Error::BodyTooLarge { limit_bytes: route.body_limit }
    } else if progress.is_broken.get() {
        Error::SlowClient
    } else {
        return None;
    };
    Some(Failure { error, unsent: None, reason: None })
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
    match sender {
        Sender::Http1(_) => {
            request.headers_mut().insert(HOST, host.clone());
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
