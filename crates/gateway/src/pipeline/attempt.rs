//! One attempt: a request goes to one endpoint, and its answer begins or does not.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::domain::grpc;
use crate::engine::{Body, Progress, Worker, discard};
use crate::snapshot::Route;
use crate::spec::RetryOn;
use crate::upstream::{Ask, Lease, Sender, Upstream};

/// Connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;
/// Of an answer that is not passed on, so much is read to keep its connection.
const MOST_DISCARDED: usize = 64 << 10;
/// How long the upstream has left until its answer must begin, in milliseconds.
const TIME_LEFT: &str = "x-request-timeout-ms";
/// How long a call of gRPC may last.
pub(super) const GRPC_TIME_LEFT: &str = "grpc-timeout";

/// The head of a request for an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The host that the upstream sees; the endpoint's own where there is none.
    pub(crate) host: Option<HeaderValue>,
}

impl Outgoing {
    /// Whether it may be sent again when it was sent already.
    pub(super) fn may_be_repeated(&self, has_body: bool) -> bool {
        !has_body
            && matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
            && !self.headers.contains_key(UPGRADE)
    }
}

/// Until when an answer must have begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    since: Instant,
    /// Whether the caller set it: then a service that misses it is not at fault.
    pub(super) is_callers: bool,
    /// When a call of gRPC ends by its caller's word: that of a stream may be later than its beginning.
    call_ends: Option<Instant>,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(patience: Duration) -> Self {
        let since = Instant::now();
        Self { at: since + patience, since, is_callers: false, call_ends: None }
    }

    /// The route's, or the caller's where that is sooner.
    pub(super) fn of(route: &Route, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let stated = text(TIME_LEFT).and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let of_grpc = text(GRPC_TIME_LEFT).and_then(grpc::timeout);
        let own = Self::after(route.spec.timeout.0);
        let sooner = stated.into_iter().chain(of_grpc).min().filter(|callers| *callers < route.spec.timeout.0);
        let call_ends = of_grpc.and_then(|left| own.since.checked_add(left));
        match sooner {
            Some(callers) => Self { at: own.since + callers, is_callers: true, call_ends, ..own },
            None => Self { call_ends, ..own },
        }
    }

    /// This one, or so long from now where that is sooner.
    pub(super) fn within(self, limit: Option<Duration>) -> Self {
        let sooner = limit.map(|limit| Instant::now() + limit).filter(|sooner| *sooner < self.at);
        sooner.map_or(self, |at| Self { at, is_callers: false, ..self })
    }

    /// A call of gRPC is over by then, too.
    pub(super) fn of_whole_call(self) -> Self {
        Self { call_ends: Some(self.at), ..self }
    }

    /// What a service of gRPC is told.
    pub(super) fn grpc_text(&self) -> Option<HeaderValue> {
        let left = self.call_ends.unwrap_or(self.at).saturating_duration_since(Instant::now());
        HeaderValue::try_from(grpc::timeout_text(left)).ok()
    }

    /// There was no answer in time.
    pub(super) fn missed(&self, upstream: &Upstream) -> Error {
        Error::UpstreamTimeout { upstream: upstream.name.to_string(), after_ms: millis(self.since.elapsed()) }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) error: Error,
    /// The body, where nothing of it was sent.
    pub(super) unsent: Option<Body>,
    /// Why it may be tried again, although it was sent.
    pub(super) reason: Option<RetryOn>,
}

/// What all attempts of a request have in common.
#[derive(Clone, Copy)]
pub(super) struct Trying<'r> {
    pub(super) worker: &'r Rc<Worker>,
    pub(super) upstream: &'r Arc<Upstream>,
    pub(super) outgoing: &'r Outgoing,
    pub(super) deadline: Deadline,
    /// How far the caller's body came.
    pub(super) progress: Option<&'r Progress>,
}

impl Trying<'_> {
    /// One attempt at one endpoint; connections that were closed meanwhile do not count.
    pub(super) async fn at(self, ask: &Ask, body: Body) -> Result<(Response<Incoming>, Lease), Failure> {
        let Self { worker, upstream, outgoing, deadline, progress } = self;
        let began = self.now();
        let mut body = Some(body);
        for stale in 0.. {
            let mut lease = match timeout_at(deadline.at, worker.pools.lease(upstream, &ask.endpoint)).await {
                Ok(Ok(lease)) => lease,
                Ok(Err(error)) => {
                    self.note(ask, began, false);
                    return Err(Failure { error, unsent: body, reason: None });
                }
                Err(_) => {
                    self.note_late(ask, began);
                    return Err(Failure {
                        error: deadline.missed(upstream),
                        unsent: body,
                        reason: Some(RetryOn::Timeout),
                    });
                }
            };
            let request = build(outgoing, ask, &lease.sender, body.take().unwrap_or(Body::Empty), deadline);
            let request = request.map_err(|error| Failure { error, unsent: None, reason: None })?;
            let sent = timeout_at(deadline.at, send(&mut lease.sender, request)).await;
            match sent {
                Err(_) if progress.is_some_and(Progress::is_waiting) => {
                    return Err(Failure { error: Error::SlowClient, unsent: None, reason: None });
                }
                Err(_) => {
                    self.note_late(ask, began);
                    return Err(Failure {
                        error: deadline.missed(upstream),
                        unsent: None,
                        reason: Some(RetryOn::Timeout),
                    });
                }
                Ok(Ok(answer)) => {
                    self.note(ask, began, !is_unavailable(answer.status()));
                    if let Some(progress) = progress {
                        progress.is_answered.set(true);
                    }
                    return Ok((answer, lease));
                }
                // A connection that had been idle was closed by the other side before it took the request.
                Ok(Err((_, Some(unsent)))) if lease.is_used && stale < MOST_STALE => body = Some(unsent),
                Ok(Err((error, unsent))) => {
                    if let Some(fault) = progress.and_then(Progress::fault) {
                        return Err(Failure { error: fault.into(), unsent: None, reason: None });
                    }
                    // A service that gives up on a caller who does not go on is not at fault.
                    if !progress.is_some_and(Progress::is_waiting) {
                        self.note(ask, began, false);
                    }
                    return Err(of_hyper(upstream, ask, &error, unsent));
                }
            }
        }
        Err(Failure { error: deadline.missed(upstream), unsent: None, reason: None })
    }

    /// The time, less what the caller took to send its body: that says nothing about the service.
    fn now(self) -> Instant {
        Instant::now() - self.progress.map_or(Duration::ZERO, Progress::waited)
    }

    fn note(self, ask: &Ask, began: Instant, is_good: bool) {
        let took = self.now().saturating_duration_since(began);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let now_us = self.worker.now_us();
        ask.endpoint.note(is_good, took_us, now_us, &self.upstream.spec.outliers);
        self.upstream.note(is_good, now_us);
    }

    /// Who asks for an answer within a millisecond says nothing about the service.
    fn note_late(self, ask: &Ask, began: Instant) {
        if !self.deadline.is_callers {
            self.note(ask, began, false);
        }
    }
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
            is_read = discard(answer.into_body(), MOST_DISCARDED) => {
                if is_read {
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
fn build(
    outgoing: &Outgoing,
    ask: &Ask,
    sender: &Sender,
    body: Body,
    deadline: Deadline,
) -> Result<Request<Body>, Error> {
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.headers_mut() = outgoing.headers.clone();
    let host = outgoing.host.as_ref().unwrap_or(&ask.endpoint.authority);
    let left_ms = millis(deadline.at.saturating_duration_since(Instant::now()));
    request.headers_mut().insert(TIME_LEFT, HeaderValue::from(left_ms));
    if let Some(stated) = request.headers_mut().get_mut(GRPC_TIME_LEFT)
        && let Some(left) = deadline.grpc_text()
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
