//! Bodies on their way: what a client sends, under its limit, and what it gets, counted to the last byte.

use std::cell::Cell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::Record;
use crate::transcode::Transcoded;
use crate::upstream::{Ask, Entered, Lease};

type BoxError = Box<dyn StdError + Send + Sync>;

/// A body in either direction.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// All at once.
    Full(Option<Bytes>),
    /// What a client sends.
    Upload(Upload),
    /// What a client gets.
    Answer(Box<Answer>),
}

impl Body {
    /// All at once.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }
}

/// What a client sends, up to a limit.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    limit_bytes: u64,
    progress: Rc<Progress>,
}

/// How far an upload came; the pipeline looks at it when the upstream fails.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes so far.
    pub bytes: Cell<u64>,
    /// Whether it went over its limit.
    pub is_over: Cell<bool>,
    /// Whether the client broke off or sent what is malformed.
    pub is_broken: Cell<bool>,
}

impl Upload {
    /// A body of a client that may have so many bytes.
    pub fn new(incoming: Incoming, limit_bytes: u64, progress: Rc<Progress>) -> Self {
        Self { incoming, limit_bytes, progress }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match futures::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                self.progress.is_broken.set(true);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        let more = frame.data_ref().map_or(0, |data| data.len() as u64);
        let bytes = self.progress.bytes.get() + more;
        self.progress.bytes.set(bytes);
        if bytes > self.limit_bytes {
            self.progress.is_over.set(true);
            return Poll::Ready(Some(Err("the body is over its limit".into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// What a client gets. When it is dropped the exchange is over: it is logged and counted, and the connection behind it is
/// given back where its answer was read to the end.
#[derive(Debug)]
pub struct Answer {
    /// The bytes.
    pub source: Source,
    /// Kept until the end.
    pub held: Held,
    /// What is logged at the end.
    pub record: Record,
    /// How long it may say nothing.
    pub idle_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_read: bool,
}

/// Where an answer comes from.
#[derive(Debug)]
pub enum Source {
    /// Us.
    Own(Option<Bytes>),
    /// An upstream.
    Upstream(Incoming),
    /// An upstream of gRPC.
    Transcoded(Box<Transcoded>),
}

/// What an exchange holds until its answer is sent.
#[derive(Debug, Default)]
pub struct Held {
    /// The connection to the upstream.
    pub lease: Option<Lease>,
    /// The endpoint, counted as busy.
    pub ask: Option<Ask>,
    /// The upstream, counted as busy.
    pub entered: Option<Entered>,
    /// Places under limits of requests at the same time.
    pub permits: Vec<crate::limit::Permit>,
}

impl Answer {
    /// An answer that is not read yet.
    pub fn new(source: Source, held: Held, record: Record, idle_timeout: Duration) -> Self {
        Self { source, held, record, idle_timeout, timer: None, is_read: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match &mut self.source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BoxError::from),
            Source::Transcoded(stream) => {
                let polled = stream.poll(cx).map(|frame| frame.map(Ok));
                if let Some(reason) = stream.broken.take() {
                    self.record.answer_broke_off(&reason);
                }
                polled
            }
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                self.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.record.answer_broke_off("the upstream's answer broke off");
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.is_read = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let timeout = self.idle_timeout;
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                futures::ready!(timer.as_mut().poll(cx));
                self.record.answer_broke_off("the upstream's answer said nothing for too long");
                Poll::Ready(Some(Err("the answer said nothing for too long".into())))
            }
        }
    }

    fn is_end(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream(incoming) => incoming.is_end_stream(),
            Source::Transcoded(stream) => stream.is_end(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let is_whole = self.is_read || self.is_end();
        if let Some(lease) = self.held.lease.take().filter(|_| is_whole) {
            lease.give_back();
        }
        self.record.finish(is_whole);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upload(upload) => upload.poll(cx),
            Self::Answer(answer) => answer.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Upload(upload) => upload.incoming.is_end_stream(),
            Self::Answer(answer) => answer.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |bytes: &Option<Bytes>| SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => exact(bytes),
            Self::Upload(upload) => upload.incoming.size_hint(),
            Self::Answer(answer) => match &answer.source {
                Source::Own(bytes) => exact(bytes),
                Source::Upstream(incoming) => incoming.size_hint(),
                Source::Transcoded(_) => SizeHint::new(),
            },
        }
    }
}

/// Reads and drops what is left of an answer nobody wants, up to a few pages, so that its connection can be kept.
pub async fn discard(mut body: Incoming, most_bytes: usize) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > most_bytes {
            return false;
        }
    }
    true
}
