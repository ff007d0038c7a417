//! One attempt: a request goes to one endpoint, and its answer begins or does not.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body as HttpBody;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::domain::grpc;
use crate::domain::header::first;
use crate::engine::{Body, Progress, Worker, discard};
use crate::snapshot::Route;
use crate::spec::RetryOn;
use crate::upstream::{Arriving, Ask, Broken, Lease, Need, Sender, Upstream};

/// Connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;
/// Of an answer that is not passed on, so much is read to keep its connection.
const MOST_DISCARDED: usize = 64 << 10;
/// How long the upstream has left until its answer must begin, in milliseconds.
const TIME_LEFT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// How long a call of gRPC may last.
pub(super) const GRPC_TIME_LEFT: HeaderName = HeaderName::from_static("grpc-timeout");

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
    /// What it needs of its connection.
    fn need(&self, body: Option<&Body>) -> Need {
        let is_plain = matches!(body, Some(Body::Empty)) && !self.headers.contains_key(UPGRADE);
        if is_plain { Need::Plain } else { Need::Whatever }
    }

    /// Whom it names, and what time is left for it: this is told anew with each attempt.
    fn told<'a>(&'a self, ask: &'a Ask, deadline: Deadline, now: Instant) -> Told<'a> {
        Told {
            host: self.host.as_ref().unwrap_or(&ask.endpoint.authority),
            left_ms: millis(deadline.at.saturating_duration_since(now)),
            grpc_left: first(&self.headers, &GRPC_TIME_LEFT).is_some().then(|| deadline.grpc_text()).flatten(),
        }
    }

    /// Its head as HTTP/1 has it, where it has no body.
    fn write(&self, page: &mut Vec<u8>, told: &Told<'_>) {
        for part in [self.method.as_str(), " ", self.path.as_str(), " HTTP/1.1\r\n"] {
            page.extend_from_slice(part.as_bytes());
        }
        put(page, &HOST, told.host.as_bytes());
        put(page, &TIME_LEFT, itoa::Buffer::new().format(told.left_ms).as_bytes());
        for (name, value) in &self.headers {
            match *name {
                HOST | TRANSFER_ENCODING => {}
                // Whatever it says: bytes that do not come would be taken from the next request.
                CONTENT_LENGTH => put(page, name, b"0"),
                _ if *name == TIME_LEFT => {}
                _ if *name == GRPC_TIME_LEFT => put(page, name, told.grpc_left.as_ref().unwrap_or(value).as_bytes()),
                _ => put(page, name, value.as_bytes()),
            }
        }
        page.extend_from_slice(b"\r\n");
    }

    /// The request for the library; target and host are still to be set.
    fn request(&self, body: Body, told: Told<'_>) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(TIME_LEFT, HeaderValue::from(told.left_ms));
        if let Some(left) = told.grpc_left {
            request.headers_mut().insert(GRPC_TIME_LEFT, left);
        }
        request
    }

    /// As HTTP/1 has it: the host is a header.
    fn http1(&self, body: Body, told: Told<'_>) -> Request<Body> {
        let host = told.host.clone();
        let mut request = self.request(body, told);
        request.headers_mut().insert(HOST, host);
        // Of GET and HEAD hyper drops a body whose length it does not know, unless it is told to send one.
        let has_length = request.headers().contains_key(CONTENT_LENGTH) || request.body().size_hint().exact().is_some();
        if !has_length {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.path.clone().into();
        request
    }

    /// As HTTP/2 has it: the host is part of the target.
    fn http2(&self, body: Body, ask: &Ask, told: Told<'_>) -> Result<Request<Body>, Error> {
        let authority = told.host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let mut request = self.request(body, told);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if ask.endpoint.url.is_tls { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(authority.ok_or(Error::BadPath("its host cannot be passed on"))?);
        uri.path_and_query = Some(self.path.clone());
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Error::BadPath("it cannot be passed on"))?;
        *request.version_mut() = Version::HTTP_2;
        if matches!(request.body(), Body::Empty) && self.method == Method::GET {
            request.headers_mut().remove(CONTENT_LENGTH);
        }
        Ok(request)
    }

    /// Whether it may be sent again when it was sent already.
    pub(super) fn may_be_repeated(&self, has_body: bool) -> bool {
        !has_body
            && matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
            && !self.headers.contains_key(UPGRADE)
    }
}

/// What an endpoint is told with each attempt anew.
struct Told<'a> {
    host: &'a HeaderValue,
    /// Milliseconds until the answer must begin.
    left_ms: u64,
    /// What a service of gRPC is told of that.
    grpc_left: Option<HeaderValue>,
}

fn put(page: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        page.extend_from_slice(part);
    }
}

/// Until when an answer must have begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(super) since: Instant,
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
        let text = |name: HeaderName| first(headers, &name).and_then(|value| value.to_str().ok());
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
    /// When this one begins: now.
    pub(super) begins: Instant,
}

impl Trying<'_> {
    /// One attempt at one endpoint; connections that were closed meanwhile do not count.
    pub(super) async fn at(self, ask: &Ask, body: Body) -> Result<Response<Arriving>, Failure> {
        let Self { worker, upstream, outgoing, deadline, progress, begins } = self;
        let began = self.less_waiting(begins);
        let mut body = Some(body);
        let need = outgoing.need(body.as_ref());
        for stale in 0.. {
            let leasing = worker.pools.lease(upstream, &ask.endpoint, need, begins);
            let lease = match timeout_at(deadline.at, leasing).await {
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
            let is_used = lease.is_used;
            // To connect takes time.
            let now = if is_used && stale == 0 { begins } else { Instant::now() };
            let told = outgoing.told(ask, deadline, now);
            match self.send(ask, lease, body.take().unwrap_or(Body::Empty), told).await {
                Err(Unanswered::Unfit(error)) => return Err(Failure { error, unsent: None, reason: None }),
                Err(Unanswered::Late) if progress.is_some_and(Progress::is_waiting) => {
                    return Err(Failure { error: Error::SlowClient, unsent: None, reason: None });
                }
                Err(Unanswered::Late) => {
                    self.note_late(ask, began);
                    return Err(Failure {
                        error: deadline.missed(upstream),
                        unsent: None,
                        reason: Some(RetryOn::Timeout),
                    });
                }
                Ok(answer) => {
                    self.note(ask, began, !is_unavailable(answer.status()));
                    if let Some(progress) = progress {
                        progress.is_answered.set(true);
                    }
                    return Ok(answer);
                }
                // A connection that had been idle was closed by the other side before it took the request.
                Err(Unanswered::Broken { unsent: Some(unsent), .. }) if is_used && stale < MOST_STALE => {
                    body = Some(unsent);
                }
                Err(Unanswered::Broken { unsent, reason, is_malformed }) => {
                    if let Some(fault) = progress.and_then(Progress::fault) {
                        return Err(Failure { error: fault.into(), unsent: None, reason: None });
                    }
                    // A service that gives up on a caller who does not go on is not at fault.
                    if !progress.is_some_and(Progress::is_waiting) {
                        self.note(ask, began, false);
                    }
                    let (upstream, endpoint) = (upstream.name.to_string(), ask.endpoint.url.to_string());
                    return Err(if is_malformed {
                        Failure { error: Error::BadAnswer { upstream, endpoint, reason }, unsent, reason: None }
                    } else {
                        let error = Error::BrokeOff { upstream, endpoint, reason };
                        Failure { error, unsent, reason: Some(RetryOn::BrokenOff) }
                    });
                }
            }
        }
        Err(Failure { error: deadline.missed(upstream), unsent: None, reason: None })
    }

    /// Sends the request over a connection and waits until its answer begins.
    async fn send(self, ask: &Ask, lease: Lease, body: Body, told: Told<'_>) -> Result<Response<Arriving>, Unanswered> {
        let Self { worker, outgoing, deadline, .. } = self;
        let home = lease.home;
        match lease.sender {
            Sender::Wire(mut wire) => {
                let mut head = worker.spare.page();
                outgoing.write(&mut head, &told);
                let sent = wire.send(&head, deadline.at).await;
                worker.spare.keep_page(head);
                sent?;
                let answer = wire.answer(&outgoing.method, &worker.spare, deadline.at).await?;
                Ok(answer.map(|()| Arriving::on_wire(wire, home)))
            }
            Sender::Http1(mut sender) => {
                let sending = sender.try_send_request(outgoing.http1(body, told));
                let answer = timeout_at(deadline.at, sending).await.map_err(|_| Unanswered::Late)??;
                // Behind an agreement on another protocol there are no more requests.
                let is_kept = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
                let kept = is_kept.then_some((sender, home));
                Ok(answer.map(|incoming| Arriving::by_library(incoming, kept)))
            }
            Sender::Http2(mut sender) => {
                let request = outgoing.http2(body, ask, told).map_err(Unanswered::Unfit)?;
                let sending = sender.try_send_request(request);
                let answer = timeout_at(deadline.at, sending).await.map_err(|_| Unanswered::Late)??;
                Ok(answer.map(|incoming| Arriving::by_library(incoming, None)))
            }
        }
    }

    /// A moment, less what the caller took until now to send its body: that says nothing about the service.
    fn less_waiting(self, moment: Instant) -> Instant {
        moment - self.progress.map_or(Duration::ZERO, Progress::waited)
    }

    fn note(self, ask: &Ask, began: Instant, is_good: bool) {
        let now = Instant::now();
        let took = self.less_waiting(now).saturating_duration_since(began);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let now_us = self.worker.us_at(now);
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

/// Why there is no answer.
enum Unanswered {
    /// The request cannot be put so that the endpoint would understand it.
    Unfit(Error),
    /// It did not come in time.
    Late,
    /// The connection broke off, or something came that is no answer.
    Broken {
        /// The body, where nothing of the request was sent.
        unsent: Option<Body>,
        reason: String,
        is_malformed: bool,
    },
}

impl From<Broken> for Unanswered {
    fn from(broken: Broken) -> Self {
        let (reason, unsent, is_malformed) = match broken {
            Broken::Late => return Self::Late,
            Broken::Unsent(reason) => (reason, Some(Body::Empty), false),
            Broken::Off(reason) => (reason, None, false),
            Broken::Malformed(reason) => (reason, None, true),
        };
        Self::Broken { unsent, reason, is_malformed }
    }
}

impl From<TrySendError<Request<Body>>> for Unanswered {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message().map(Request::into_body);
        let error = error.into_error();
        let reason =
            std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        Self::Broken { unsent, reason, is_malformed: error.is_parse() }
    }
}

/// Keeps the connection of an answer that is not passed on, where the rest of it comes soon. Nobody waits for that.
pub(super) fn let_go<B>(worker: &Rc<Worker>, answer: Response<B>)
where
    B: HttpBody<Data = Bytes> + Unpin + 'static,
{
    if answer.body().is_end_stream() {
        return;
    }
    let draining = worker.draining.clone();
    worker.tracker.spawn_local(async move {
        tokio::select! {
            () = discard(answer.into_body(), MOST_DISCARDED) => {}
            () = draining.cancelled() => {}
        }
    });
}

/// Whether an answer says that the service cannot answer now.
pub(super) fn is_unavailable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}
