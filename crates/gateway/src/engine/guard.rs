//! A client's connection: its bytes pass [`Framing`] before anything parses them, and its silence has limits.
//!
//! What is malformed is not handed on. In its place the parser gets a request of ours that closes the connection, and the
//! pipeline, which finds the fault beside it, answers that one. So a refusal takes the way of every answer: after those
//! before it, with a problem, a line in the log and its metrics.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::ReadBuf;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;

use super::accept::ClientStream;
use crate::domain::framing::{Framing, HeadLimits, Malformed};
use crate::spec::Limits;

const READ_BYTES: usize = 8 << 10;
/// Read at once of a long body.
const LONG_READ_BYTES: usize = 64 << 10;
/// After a refusal, or an answer that did not wait for the body, a client may still be sending. Closing at once would make
/// the system drop our answer with its bytes.
const LINGER: Duration = Duration::from_secs(1);
/// So many requests may be given up by their caller beyond those that were answered,
const MOST_ABANDONED: u64 = 100;
/// and so many more for each second that the connection is old.
const ABANDONED_PER_S: u64 = 10;
/// How often within the time that a connection may be idle it is looked at.
const IDLE_LOOKS: u32 = 4;
/// The host of the stand-in: a name that is never anybody's (RFC 2606).
const STAND_IN_HOST: &str = "refused.invalid";
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It sent what is malformed.
    Malformed(Malformed),
    /// It sent too slowly.
    Slow,
}

/// Where a fault was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Head,
    Body,
    /// Behind a request for another protocol that is not answered yet.
    BeforeUpgrade,
}

/// What a connection's guard and its requests tell each other.
#[derive(Debug)]
pub struct Signals {
    fault: OnceLock<(Fault, Within)>,
    is_tunnel: AtomicBool,
    busy: AtomicU32,
    /// Limits of heads of HTTP/2, which pass no [`Framing`].
    http2: Option<HeadLimits>,
    born: Instant,
    answered: AtomicU32,
    abandoned: AtomicU32,
    flooded: Notify,
    step: AtomicU8,
    /// A tunnel that was opened on a stream just now, by what tells its end.
    opened: Mutex<Option<CancellationToken>>,
}

/// What a request did when it was polled last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Nothing: what it has is not taken.
    None,
    /// It gave bytes of its answer.
    Gave,
    /// It waits for a service, for the caller's body or for the gateway itself.
    Waits,
    /// It was given up: its answer was not taken in time.
    GivenUp,
    /// It opened a tunnel.
    Opened,
}

impl Signals {
    /// Of a connection that speaks HTTP/1.
    pub fn http1() -> Self {
        Self {
            fault: OnceLock::new(),
            is_tunnel: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            http2: None,
            born: Instant::now(),
            answered: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            flooded: Notify::new(),
            step: AtomicU8::new(Step::None as u8),
            opened: Mutex::default(),
        }
    }

    /// Of a connection that speaks HTTP/2.
    pub fn http2(limits: HeadLimits) -> Self {
        Self { http2: Some(limits), ..Self::http1() }
    }

    /// Why the connection cannot go on, as far as this request is concerned: a fault in a body or behind a request for
    /// another protocol is that of the request under way, one in a head that of the stand-in. Requests before it on the
    /// same connection have none.
    pub fn fault_of(&self, head: &Parts) -> Option<Fault> {
        if let Some(limits) = self.http2 {
            let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
            let malformed = if target > limits.target_bytes {
                Malformed::TargetTooLong
            } else if head.headers.len() > limits.lines {
                Malformed::HeadTooLarge
            } else if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
                // The first one was compared with the body; to others behind us the second may be the one that counts.
                Malformed::ContentLength
            } else {
                return None;
            };
            return Some(Fault::Malformed(malformed));
        }
        let (fault, within) = self.fault.get()?;
        let is_stand_in = head.headers.get(HOST).is_some_and(|host| host == STAND_IN_HOST);
        (is_stand_in == (*within == Within::Head)).then_some(*fault)
    }

    fn has_fault(&self) -> bool {
        self.fault.get().is_some()
    }

    /// Another protocol was agreed on: bytes are looked at no more.
    pub fn open_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Release);
    }

    /// On the stream of the request that is being polled another protocol was agreed on; `over` is cancelled when it ends.
    pub fn open_stream(&self, over: CancellationToken) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(over);
        self.set_step(Step::Opened);
    }

    /// The tunnel that the request that is being polled has opened, where it has. It is given once.
    pub fn take_opened(&self) -> Option<CancellationToken> {
        if !self.step_is(Step::Opened) {
            return None;
        }
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A request is being answered; the client need not say anything meanwhile.
    pub fn request_began(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// It is answered, or its caller has gone.
    pub fn request_ended(&self, is_abandoned: bool) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        if !is_abandoned {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let abandoned = u64::from(self.abandoned.fetch_add(1, Ordering::Relaxed)) + 1;
        let expected = self.born.elapsed().as_secs().saturating_mul(ABANDONED_PER_S);
        if abandoned > MOST_ABANDONED + expected + u64::from(self.answered.load(Ordering::Relaxed)) {
            self.flooded.notify_one();
        }
    }

    /// Ready when the caller begins requests without end only to give them up (CVE-2023-44487).
    pub async fn is_flooded(&self) {
        self.flooded.notified().await;
    }

    /// Ready when no request was under way for so long, or a quarter longer.
    pub async fn is_idle_for(&self, patience: Duration) {
        let over = || self.answered.load(Ordering::Relaxed).wrapping_add(self.abandoned.load(Ordering::Relaxed));
        let mut quiet = 0;
        while quiet < IDLE_LOOKS {
            let before = over();
            sleep(patience / IDLE_LOOKS).await;
            quiet = if self.is_busy() || over() != before { 0 } else { quiet + 1 };
        }
    }

    /// Whether any request was ever made.
    pub fn was_used(&self) -> bool {
        self.busy.load(Ordering::Relaxed) + self.answered.load(Ordering::Relaxed) > 0
    }

    /// Notes what the request that is being polled does. A connection's requests are polled one at a time.
    pub fn set_step(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// What the request that was polled last did.
    pub fn step_is(&self, step: Step) -> bool {
        self.step.load(Ordering::Relaxed) == step as u8
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }
}

/// Limits of silence.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a head, and between requests.
    pub head: Duration,
    /// For the next bytes of a body.
    pub body: Duration,
    /// For a client to take the next bytes.
    pub write: Duration,
}

impl Patience {
    /// As the config has it.
    pub fn of(limits: &Limits) -> Self {
        Self { head: limits.head_timeout.0, body: limits.body_timeout.0, write: limits.write_timeout.0 }
    }
}

/// The connection.
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    framing: Framing,
    patience: Patience,
    signals: Arc<Signals>,
    buffer: BytesMut,
    /// So much of the buffer is good.
    good: usize,
    /// Whether the rest of the buffer was not looked at yet.
    is_fresh: bool,
    /// Whether reads are timed: HTTP/2 has its own pings.
    is_timed: bool,
    last_read: Instant,
    head_began: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S: ClientStream> Guard<S> {
    /// Around a connection that speaks HTTP/1, of which these bytes were read already.
    pub fn new(stream: S, buffer: BytesMut, limits: HeadLimits, patience: Patience, signals: Arc<Signals>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            framing: Framing::new(limits),
            patience,
            signals,
            head_began: (!buffer.is_empty()).then_some(now),
            is_fresh: !buffer.is_empty(),
            buffer,
            good: 0,
            is_timed: true,
            last_read: now,
            read_timer: None,
            write_timer: None,
            linger: None,
        }
    }

    /// Around a connection that speaks HTTP/2, which has framing of its own.
    pub fn unframed(stream: S, buffer: BytesMut, patience: Patience, signals: Arc<Signals>) -> Self {
        let mut guard = Self::new(stream, buffer, HeadLimits::default(), patience, signals);
        guard.framing.pass_through();
        guard.is_timed = false;
        guard
    }

    /// Looks at what is in the buffer and not known to be good.
    fn judge(&mut self) -> Result<()> {
        match self.framing.advance(&self.buffer) {
            Ok(good) => {
                self.good = good;
                // What stopped it there is told when the rest is looked at.
                self.is_fresh = good > 0 && good < self.buffer.len();
                let is_waiting = good < self.buffer.len() && !self.framing.is_in_body();
                self.head_began = is_waiting.then(|| self.head_began.filter(|_| good == 0).unwrap_or(self.last_read));
                Ok(())
            }
            Err(malformed) => self.refuse(Fault::Malformed(malformed)),
        }
    }

    fn refuse(&mut self, fault: Fault) -> Result<()> {
        let within = if self.framing.is_in_body() {
            Within::Body
        } else if self.framing.is_before_upgrade() {
            Within::BeforeUpgrade
        } else {
            Within::Head
        };
        let is_first = self.signals.fault.set((fault, within)).is_ok();
        if within == Within::Body || !is_first {
            return Err(Error::new(ErrorKind::InvalidData, "the request is malformed or too slow"));
        }
        self.buffer.clear();
        // The request for another protocol is answered, and whatever the answer is, the connection ends with it.
        if within == Within::Head {
            self.buffer.extend_from_slice(STAND_IN);
            self.good = STAND_IN.len();
        }
        Ok(())
    }

    /// Reads what there is into the buffer. A connection that waits has no buffer: ten thousand may.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if self.framing.plain_bytes_left() > READ_BYTES as u64 {
            self.buffer.reserve(LONG_READ_BYTES);
            return poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer);
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut bytes = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes))?;
        self.buffer.extend_from_slice(bytes.filled());
        Poll::Ready(Ok(bytes.filled().len()))
    }

    /// Ready where the client was silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_timed || self.signals.is_tunnel.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        loop {
            let limit = if self.framing.is_in_body() { self.patience.body } else { self.patience.head };
            let due = self.head_began.unwrap_or(self.last_read) + limit;
            let timer = self.read_timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            // It may have been set for a head, which has more time.
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let waits_for_us = self.signals.is_busy() && !self.framing.is_in_body() && self.head_began.is_none();
            if waits_for_us {
                self.last_read = now;
            } else if now >= due {
                self.read_timer = None;
                return Poll::Ready(());
            }
            let due = self.head_began.unwrap_or(self.last_read) + limit;
            timer.as_mut().reset(due);
        }
    }

    /// Times a write that the client does not take.
    fn timed<T>(&mut self, polled: Poll<Result<T>>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        let due = Instant::now() + self.patience.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(timer.as_mut().poll(cx));
        self.stream.drop_unread();
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not take its answer")))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = Instant::now() + LINGER;
        let timer = self.linger.get_or_insert_with(|| Box::pin(sleep_until(due)));
        let mut dropped = [0; 4096];
        loop {
            let mut scratch = ReadBuf::new(&mut dropped);
            match Pin::new(&mut self.stream).poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(())) if !scratch.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.as_mut().poll(cx),
            }
        }
    }
}

impl<S: ClientStream> Read for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        loop {
            if this.good > 0 {
                let count = this.good.min(out.remaining());
                out.put_slice(&this.buffer[..count]);
                this.buffer.advance(count);
                this.good -= count;
                return Poll::Ready(Ok(()));
            }
            if this.signals.has_fault() {
                // An end would look as if the client had gone; the connection closes behind our answer.
                return Poll::Pending;
            }
            if this.signals.is_tunnel.load(Ordering::Acquire) {
                this.framing.pass_through();
                this.is_fresh |= !this.buffer.is_empty();
            }
            if this.is_fresh {
                this.judge()?;
                continue;
            }
            match this.poll_bytes(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    this.last_read = Instant::now();
                    this.is_fresh = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(this.poll_silence(cx));
                    if this.head_began.is_none() && !this.framing.is_in_body() {
                        // Between requests: it is closed without a word.
                        return Poll::Ready(Ok(()));
                    }
                    this.refuse(Fault::Slow)?;
                }
            }
        }
    }
}

impl<S: ClientStream> Write for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.timed(polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.timed(polled, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.timed(polled, cx))?;
            if !this.signals.has_fault() && !this.framing.is_in_body() {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.timed(polled, cx)
    }
}
