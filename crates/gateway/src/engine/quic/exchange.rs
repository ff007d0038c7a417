//! One request of HTTP/3 and its answer.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::transport::{Over, Receiving, Sending, Streams, Transport};
use crate::engine::guard::Patience;
use crate::engine::{Body, BoxError, Flow, Incoming, Peer, Signals, Step, Worker};
use crate::pipeline;

type Reading = RequestStream<Receiving, Bytes>;
type Writing = RequestStream<Sending<Bytes>, Bytes>;

/// Between neighbours of HTTP/1 only; a request with one of them is malformed (RFC 9114, 4.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a request is answered with.
pub(super) struct Asked {
    pub(super) worker: Rc<Worker>,
    pub(super) peer: Rc<Peer>,
    pub(super) signals: Arc<Signals>,
    pub(super) patience: Patience,
    pub(super) streams: Streams,
}

impl Asked {
    /// Reads the request, and answers it until the client has the answer or wants it no more.
    pub(super) async fn answer(self, resolver: RequestResolver<Transport, Bytes>) {
        // What is malformed or slow is reset; it counts as given up.
        let begun = timeout(self.patience.head, self.begin(resolver)).await;
        let Ok(Some((head, body, mut writing, mut over))) = begun else {
            self.signals.request_began();
            return self.signals.request_ended(true);
        };
        let is_sent = {
            let answering = pin!(self.respond(head, body, &mut writing));
            tokio::select! {
                is_sent = answering => is_sent,
                () = &mut over => return,
            }
        };
        if is_sent && writing.finish().await.is_ok() {
            // Closing the connection before the client has it all would cut it off.
            let _ = timeout(self.patience.write, over).await;
        }
    }

    async fn begin(&self, resolver: RequestResolver<Transport, Bytes>) -> Option<(Parts, Receive, Writing, Over)> {
        let (request, stream) = resolver.resolve_request().await.ok()?;
        let over = self.streams.take(stream.id())?;
        let (mut writing, reading) = stream.split();
        let (head, ()) = request.into_parts();
        let Some(announced) = announced(&head) else {
            writing.stop_stream(Code::H3_MESSAGE_ERROR);
            return None;
        };
        let mut body = Receive { reading, left: announced, first: None, is_over: false };
        // That there is no body is known when the stream ends, which comes with the head.
        let has_none = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
        if announced == Some(0) || (announced.is_none() && has_none) {
            body.first = Pin::new(&mut body).frame().await;
        } else if let Poll::Ready(first) = futures::poll!(Pin::new(&mut body).frame()) {
            body.first = first;
        }
        Some((head, body, writing, over))
    }

    /// Whether the whole answer was sent.
    async fn respond(&self, head: Parts, body: Receive, writing: &mut Writing) -> bool {
        let request = Request::from_parts(head, Incoming::Flow(Flow(Box::pin(body))));
        let answer = pipeline::handle(self.worker.clone(), self.peer.clone(), self.signals.clone(), request).await;
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_3;
        complete(&self.worker, &mut head.headers, &body);
        let mut body = pin!(body);
        let sent = timeout(self.patience.write, writing.send_response(Response::from_parts(head, ()))).await;
        if !self.is_taken(sent, writing) {
            return false;
        }
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                writing.stop_stream(Code::H3_INTERNAL_ERROR);
                return false;
            };
            let sent = timeout(self.patience.write, send(frame, writing)).await;
            if !self.is_taken(sent, writing) {
                return false;
            }
        }
        true
    }

    /// Whether the client took what it was sent. One that did not in time is given up; one that has gone is let go.
    fn is_taken(&self, sent: Result<Result<(), StreamError>, Elapsed>, writing: &mut Writing) -> bool {
        match sent {
            Ok(Ok(())) => return true,
            Ok(Err(_)) => {}
            Err(_) => self.signals.set_step(Step::GivenUp),
        }
        writing.stop_stream(Code::H3_REQUEST_CANCELLED);
        false
    }
}

/// How long the body is by its head, where that says so. `None` where the head is malformed.
fn announced(head: &Parts) -> Option<Option<u64>> {
    let headers = &head.headers;
    let is_of_connection = OF_CONNECTIONS.iter().any(|name| headers.contains_key(name));
    let other_te = headers.get_all(TE).iter().any(|value| value != "trailers");
    let has_target = head.method == Method::CONNECT || (head.uri.scheme().is_some() && !head.uri.path().is_empty());
    if is_of_connection || other_te || !has_target {
        return None;
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Some(None) };
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().map(Some)
}

/// What every answer has.
fn complete(worker: &Worker, headers: &mut HeaderMap, body: &Body) {
    OF_CONNECTIONS.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream()) {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let now = worker.shared.clock.now().to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(now) = HeaderValue::try_from(now) {
        headers.entry(DATE).or_insert(now);
    }
}

async fn send(frame: Frame<Bytes>, writing: &mut Writing) -> Result<(), StreamError> {
    match frame.into_data().map_err(Frame::into_trailers) {
        Ok(data) => writing.send_data(data).await,
        Err(Ok(trailers)) => writing.send_trailers(trailers).await,
        Err(Err(_)) => Ok(()),
    }
}

/// What a client sends on its stream.
struct Receive {
    reading: Reading,
    /// How much is still to come, where the head says so.
    left: Option<u64>,
    /// What was read before anybody asked.
    first: Option<Result<Frame<Bytes>, BoxError>>,
    is_over: bool,
}

impl HttpBody for Receive {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        if this.is_over {
            return Poll::Ready(None);
        }
        let polled = ready!(this.poll_data(cx));
        this.is_over = !matches!(polled, Some(Ok(_)));
        Poll::Ready(polled.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref().map(Bytes::len));
        let first = first.unwrap_or_default() as u64;
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + first))
    }
}

impl Receive {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let read = match ready!(self.reading.poll_recv_data(cx)) {
            Ok(read) => read.map(|mut data| data.copy_to_bytes(data.remaining())),
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        let Some(data) = read else {
            // Trailers are an end, too. They are not passed on.
            let is_short = self.left.is_some_and(|left| left > 0);
            return Poll::Ready(is_short.then(|| Err("the body ends before the length that was announced".into())));
        };
        if let Some(left) = self.left {
            let Some(left) = left.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err("the body is longer than announced".into())));
            };
            self.left = Some(left);
        }
        Poll::Ready(Some(Ok(data)))
    }
}
