//! Bodies on their way: what a client sends, under its limit, and what it gets, counted to the last byte.

use std::cell::Cell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, timeout};

use super::{Incoming, Record, Step, WebAnswer, WebText};
use crate::Error;
use crate::domain::framing::Malformed;
use crate::transcode::Transcoded;
use crate::upstream::{Arriving, Ask, Entered};

/// The most of an answer that is given at once: a client has the time of one piece to take it.
const MOST_AT_ONCE: usize = 64 << 10;

/// How long the rest of an answer nobody wants may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a body broke off.
pub type BoxError = Box<dyn StdError + Send + Sync>;

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
    /// What is made of another body on its way.
    Flow(Flow),
}

/// A body that is made on its way: inflated, compressed, kept.
pub struct Flow(pub Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError>>>);

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
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
    progress: Rc<Progress>,
    /// How long the next bytes may take, where the connection's guard does not see to that: a request of many on one
    /// connection.
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Where it comes as the text of gRPC-Web.
    text: Option<WebText>,
}

/// How far an upload came; the pipeline looks at it when the upstream fails.
#[derive(Debug)]
pub struct Progress {
    /// How many bytes it may have.
    pub limit_bytes: u64,
    /// Bytes so far.
    pub bytes: Cell<u64>,
    fault: Cell<Option<UploadFault>>,
    /// Whether the answer has begun: from then on both sides may talk and be silent as they like.
    pub is_answered: Cell<bool>,
    /// Since when the client has been waited for, where it is.
    waiting_since: Cell<Option<Instant>>,
    waited: Cell<Duration>,
}

/// Why an upload broke off, where that is its client's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadFault {
    /// It is larger than it may be.
    TooLarge {
        /// How large that is.
        limit_bytes: u64,
    },
    /// Its coding is not what it says.
    Coding,
    /// It was to be Base64 and is not.
    Base64,
    /// The client broke off, was silent for too long or sent what is malformed.
    Client,
}

impl From<UploadFault> for Error {
    fn from(fault: UploadFault) -> Self {
        match fault {
            UploadFault::TooLarge { limit_bytes } => Self::BodyTooLarge { limit_bytes },
            UploadFault::Coding => Self::BadCoding,
            UploadFault::Base64 => Malformed::Base64.into(),
            UploadFault::Client => Self::SlowClient,
        }
    }
}

impl Progress {
    /// Of an upload that may have so many bytes.
    pub fn of(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            bytes: Cell::default(),
            fault: Cell::default(),
            is_answered: Cell::default(),
            waiting_since: Cell::default(),
            waited: Cell::default(),
        }
    }

    /// Why it broke off, where that is the client's doing.
    pub fn fault(&self) -> Option<UploadFault> {
        self.fault.get()
    }

    /// Notes why it breaks off; the first reason counts.
    pub fn note(&self, fault: UploadFault) {
        self.fault.set(self.fault.get().or(Some(fault)));
    }

    /// It is larger than it may be.
    pub fn over(&self) -> UploadFault {
        UploadFault::TooLarge { limit_bytes: self.limit_bytes }
    }

    /// Whether the client is to send more and does not.
    pub fn is_waiting(&self) -> bool {
        self.waiting_since.get().is_some()
    }

    /// How long the client was waited for.
    pub fn waited(&self) -> Duration {
        self.waited.get() + self.waiting_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn note_wait(&self, is_waiting: bool) {
        match self.waiting_since.get() {
            None if is_waiting => self.waiting_since.set(Some(Instant::now())),
            Some(since) if !is_waiting => {
                self.waited.set(self.waited.get() + since.elapsed());
                self.waiting_since.set(None);
            }
            _ => {}
        }
    }
}

impl Upload {
    /// A body of a client. `patience` is how long the next bytes may take until the answer begins.
    pub fn new(incoming: Incoming, progress: Rc<Progress>, patience: Option<Duration>) -> Self {
        Self { incoming, progress, patience, timer: None, text: None }
    }

    /// It comes as the text of gRPC-Web, and goes on as bytes.
    pub fn decode_text(&mut self) {
        self.text = Some(WebText::default());
    }

    /// A frame as it goes on.
    fn decoded(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let (Some(text), Some(data)) = (&mut self.text, frame.data_ref()) else { return Ok(frame) };
        let decoded = text.read(data).inspect_err(|_| self.progress.note(UploadFault::Base64))?;
        Ok(Frame::data(decoded))
    }

    /// Ready where the client was silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let Some(patience) = self.patience.filter(|_| !self.progress.is_answered.get()) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        futures::ready!(timer.as_mut().poll(cx));
        if self.progress.is_answered.get() {
            return Poll::Pending;
        }
        self.progress.note(UploadFault::Client);
        Poll::Ready("the body did not come in time".into())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.progress.note_wait(polled.is_pending());
        if polled.is_pending() {
            return self.poll_silence(cx).map(|error| Some(Err(error)));
        }
        self.timer = None;
        let frame = match futures::ready!(polled) {
            None if self.text.as_ref().is_some_and(|text| !text.is_whole()) => {
                self.progress.note(UploadFault::Base64);
                return Poll::Ready(Some(Err("the body ends within a group of Base64".into())));
            }
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                self.progress.note(UploadFault::Client);
                return Poll::Ready(Some(Err(error)));
            }
            // Trailers are the last frame, and are not passed on (RFC 9110, 6.5.2): a service that takes them for headers
            // would believe what they say of who asks.
            Some(Ok(frame)) if frame.is_trailers() => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
        };
        let more = frame.data_ref().map_or(0, |data| data.len() as u64);
        let bytes = self.progress.bytes.get() + more;
        self.progress.bytes.set(bytes);
        if bytes > self.progress.limit_bytes {
            self.progress.note(self.progress.over());
            return Poll::Ready(Some(Err("the body is over its limit".into())));
        }
        Poll::Ready(Some(self.decoded(frame)))
    }
}

/// What a client gets. When it is dropped the exchange is over: it is logged and counted.
#[derive(Debug)]
pub struct Answer {
    /// The bytes.
    pub source: Source,
    /// Kept until the end.
    pub held: Held,
    /// What is logged at the end.
    pub record: Box<Record>,
    /// How long it may say nothing.
    pub idle_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// What is left of a frame that was too long to be given at once.
    rest: Option<Bytes>,
    is_read: bool,
}

/// Where an answer comes from.
#[derive(Debug)]
pub enum Source {
    /// Us.
    Own(Option<Bytes>),
    /// An upstream.
    Upstream(Arriving),
    /// A component of this process.
    Inside(axum::body::Body),
    /// What is made of either.
    Flow(Flow),
    /// An upstream of gRPC.
    Transcoded(Box<Transcoded>),
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(arriving) => Pin::new(arriving).poll_frame(cx),
            Self::Inside(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Flow(flow) => flow.0.as_mut().poll_frame(cx),
            Self::Transcoded(stream) => stream.poll(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream(arriving) => arriving.is_end_stream(),
            Self::Inside(body) => body.is_end_stream(),
            Self::Flow(flow) => flow.0.is_end_stream(),
            Self::Transcoded(stream) => stream.is_end(),
        }
    }

    fn size(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(arriving) => arriving.size_hint(),
            Self::Inside(body) => body.size_hint(),
            Self::Flow(flow) => flow.0.size_hint(),
            Self::Transcoded(_) => SizeHint::new(),
        }
    }
}

/// So that one source can be made of another.
impl HttpBody for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.size()
    }
}

/// What an exchange holds until its answer is sent.
#[derive(Debug, Default)]
pub struct Held {
    /// The endpoint, counted as busy.
    pub ask: Option<Ask>,
    /// The upstream, counted as busy.
    pub entered: Option<Entered>,
    /// What the answer is made for callers of gRPC-Web.
    pub web: Option<WebAnswer>,
    /// Places under limits of requests at the same time.
    pub permits: Vec<crate::limit::Permit>,
}

impl Answer {
    /// An answer that is not read yet.
    pub fn new(source: Source, held: Held, record: Box<Record>, idle_timeout: Duration) -> Self {
        Self { source, held, record, idle_timeout, timer: None, rest: None, is_read: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match self.rest.take() {
            Some(rest) => Poll::Ready(Some(Ok(Frame::data(rest)))),
            None => {
                let web = self.held.web;
                let frame = |frame| match web {
                    Some(web) => web.frame(frame),
                    None => frame,
                };
                let polled = self.source.poll(cx).map_ok(frame);
                if let Source::Transcoded(stream) = &mut self.source
                    && let Some(reason) = stream.broken.take()
                {
                    self.record.answer_broke_off(&reason);
                }
                polled
            }
        };
        self.record.signals.set_step(if polled.is_pending() { Step::Waits } else { Step::Gave });
        match polled {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.timer = None;
                if let Some(data) = frame.data_mut().filter(|data| data.len() > MOST_AT_ONCE) {
                    self.rest = Some(data.split_off(MOST_AT_ONCE));
                }
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
        self.rest.is_none() && self.source.is_end()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let is_whole = self.is_read || self.is_end();
        if !is_whole && self.record.signals.step_is(Step::GivenUp) {
            self.record.failed(&Error::SlowClient);
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
            Self::Flow(flow) => flow.0.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Upload(upload) => {
                upload.incoming.is_end_stream() && upload.text.as_ref().is_none_or(WebText::is_whole)
            }
            Self::Answer(answer) => answer.is_end(),
            Self::Flow(flow) => flow.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |bytes: &Option<Bytes>| SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => exact(bytes),
            Self::Upload(upload) if upload.text.is_some() => SizeHint::default(),
            Self::Upload(upload) => upload.incoming.size_hint(),
            Self::Answer(answer) if answer.held.web.is_some() => SizeHint::default(),
            Self::Answer(answer) => answer.source.size(),
            Self::Flow(flow) => flow.0.size_hint(),
        }
    }
}

/// Reads and drops what is left of an answer nobody wants, if that is little and comes soon, so that its connection can be
/// kept.
pub async fn discard(mut body: impl HttpBody<Data = Bytes> + Unpin, most_bytes: usize) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > most_bytes {
                break;
            }
        }
    };
    let _ = timeout(DISCARD_TIMEOUT, reading).await;
}
