//! What a caller still sends when it has its answer already: a refusal need not wait for the body.
//!
//! To close a connection on bytes that nobody has read makes the system reset it, and whoever is still sending may then lose
//! the answer. So a body that a handler leaves is read to its end behind the answer, and the connection is good for the next
//! request; where it is too long for that, the answer says that the connection ends, and what comes is dropped for a while
//! before it does (RFC 9112, 9.6).

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

/// So much of a body that nobody wants is read, to keep its connection.
const MOST_BYTES: u64 = 1 << 20;
/// So long the rest of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much is dropped of what comes on a connection that ends,
const MOST_DROPPED_BYTES: u64 = 64 << 20;
/// for so long.
const LINGER: Duration = Duration::from_secs(5);

/// What is left of the body of a connection's last request. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Shared>);

#[derive(Default)]
struct Shared {
    body: Mutex<Option<Incoming>>,
    is_there: Notify,
    /// Whether more may come that nobody will read.
    is_owed: AtomicBool,
}

impl Leftover {
    /// The body as handlers get it: what they do not read of it is left here.
    pub(super) fn watch(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Watched { body: Some(body), leftover: self.clone() })
    }

    /// Says in the answer that the connection ends, where too much is left to be read.
    pub(super) fn settle(&self, expects: bool, answer: &mut Response<Body>) {
        let mut left = self.body();
        let Some(body) = left.as_ref() else { return };
        // Who asked whether to send the body may not send it now, and need not say so (RFC 9110, 10.1.1).
        if expects || body.size_hint().lower() > MOST_BYTES {
            *left = None;
            self.0.is_owed.store(true, Ordering::Release);
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Reads what is left, each time that something is. It does not end.
    pub(super) async fn discard(&self) {
        loop {
            self.0.is_there.notified().await;
            let Some(body) = self.body().take() else { continue };
            let is_read = timeout(PATIENCE, discarded(body)).await.unwrap_or(false);
            self.0.is_owed.fetch_or(!is_read, Ordering::AcqRel);
        }
    }

    fn body(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the body came to an end before it was too long.
async fn discarded(mut body: Incoming) -> bool {
    let mut left = MOST_BYTES;
    while let Some(frame) = body.frame().await {
        let length = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) if frame.is_ok() => left = rest,
            _ => return false,
        }
    }
    true
}

/// Whether the caller asked if it should send its body.
pub(super) fn expects(head: &Parts) -> bool {
    head.headers.contains_key(EXPECT)
}

struct Watched {
    /// None where it came to its end.
    body: Option<Incoming>,
    leftover: Leftover,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.leftover.body() = Some(body);
            self.leftover.0.is_there.notify_one();
        }
    }
}

/// A connection that is not closed on what the caller is owed to have read.
pub(super) struct Lingering {
    stream: TcpStream,
    leftover: Leftover,
    /// Since nothing is sent any more: how long it still is open, and how much is still dropped.
    closing: Option<(Pin<Box<Sleep>>, u64)>,
}

impl Lingering {
    pub(super) fn new(stream: TcpStream, leftover: Leftover) -> Self {
        Self { stream, leftover, closing: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.leftover.0.is_owed.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        let (over, left) = this.closing.get_or_insert_with(|| (Box::pin(sleep(LINGER)), MOST_DROPPED_BYTES));
        let mut dropped = [0; 8 << 10];
        while *left > 0 {
            let mut bytes = ReadBuf::new(&mut dropped);
            match Pin::new(&mut this.stream).poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                    *left = left.saturating_sub(bytes.filled().len() as u64);
                }
                // It has gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return over.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}
