//! QUIC as the HTTP/3 layer wants it. What comes passes [`Frames`] before that layer sees it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use futures::stream::unfold;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use tokio::io::ReadBuf;

use super::code;
use super::frames::Frames;

const READ_BYTES: usize = 16 << 10;

type Accepting<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>>>>;
type Opening = Pin<Box<dyn Future<Output = Result<quinn::SendStream, ConnectionError>>>>;

/// When streams with a request on them are over, by their number.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<HashMap<StreamId, Over>>>);

/// Ready when the client wants no answer any more, or has the whole of it.
pub(super) type Over = Pin<Box<dyn Future<Output = ()>>>;

impl Streams {
    /// When that of a request is. It is given once.
    pub(super) fn take(&self, id: StreamId) -> Option<Over> {
        self.0.borrow_mut().remove(&id)
    }
}

/// A connection.
pub(super) struct Transport {
    opener: Opener,
    requests: Accepting<(quinn::SendStream, quinn::RecvStream)>,
    one_way: Accepting<quinn::RecvStream>,
    streams: Streams,
    most_bytes: u64,
}

impl Transport {
    /// Of this connection. A frame may be so long, where it is not data.
    pub(super) fn new(connection: quinn::Connection, most_bytes: u64) -> Self {
        let requests =
            unfold(connection.clone(), |connection| async { Some((connection.accept_bi().await, connection)) });
        let one_way =
            unfold(connection.clone(), |connection| async { Some((connection.accept_uni().await, connection)) });
        Self {
            opener: Opener { connection, opening: None },
            requests: Box::pin(requests),
            one_way: Box::pin(one_way),
            streams: Streams::default(),
            most_bytes,
        }
    }

    /// The streams of its requests.
    pub(super) fn streams(&self) -> Streams {
        self.streams.clone()
    }
}

impl<B: Buf> quic::Connection<B> for Transport {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let accepted = ready!(self.one_way.as_mut().poll_next(cx)).ok_or_else(ended)?;
        let stream = accepted.map_err(of_connection)?;
        let (id, frames) = (id_of(stream.id())?, Frames::one_way(self.most_bytes));
        Poll::Ready(Ok(Receiving { id, stream, frames, streams: Streams::default(), is_over: false }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, ConnectionErrorIncoming>> {
        let accepted = ready!(self.requests.as_mut().poll_next(cx)).ok_or_else(ended)?;
        let (sending, stream) = accepted.map_err(of_connection)?;
        let (id, frames, streams) = (id_of(stream.id())?, Frames::of_request(self.most_bytes), self.streams.clone());
        let stopped = sending.stopped();
        let over = Box::pin(async move {
            let _ = stopped.await;
        });
        streams.0.borrow_mut().insert(id, over);
        let receiving = Receiving { id, stream, frames, streams, is_over: false };
        Poll::Ready(Ok(Both { sending: Sending::new(sending, id), receiving }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.opener.connection.clone(), opening: None }
    }
}

impl<B: Buf> quic::OpenStreams<B> for Transport {
    type BidiStream = Both<B>;
    type SendStream = Sending<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        quic::OpenStreams::<B>::poll_open_bidi(&mut self.opener, cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

/// Opens streams to the client.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<Opening>,
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = Both<B>;
    type SendStream = Sending<B>;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server asks nothing".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending<B>, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.opening.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let stream = opened.map_err(of_stream)?;
        let id = id_of(stream.id());
        let id = id.map_err(|connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error })?;
        Poll::Ready(Ok(Sending::new(stream, id)))
    }

    fn close(&mut self, why: Code, reason: &[u8]) {
        self.connection.close(code(why), reason);
    }
}

/// A stream with a request on it.
pub(super) struct Both<B: Buf> {
    sending: Sending<B>,
    receiving: Receiving,
}

impl<B: Buf> quic::BidiStream<B> for Both<B> {
    type SendStream = Sending<B>;
    type RecvStream = Receiving;

    fn split(self) -> (Sending<B>, Receiving) {
        (self.sending, self.receiving)
    }
}

impl<B: Buf> quic::RecvStream for Both<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receiving.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receiving.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiving.recv_id()
    }
}

impl<B: Buf> quic::SendStream<B> for Both<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.sending.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.sending.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.sending.send_id()
    }
}

/// What comes on a stream.
pub(super) struct Receiving {
    stream: quinn::RecvStream,
    id: StreamId,
    frames: Frames,
    streams: Streams,
    is_over: bool,
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut out = BytesMut::new();
        while out.is_empty() {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            let read = ready!(self.stream.poll_read_buf(cx, &mut bytes));
            self.is_over = read.is_err() || bytes.filled().is_empty();
            read.map_err(|error| match error {
                ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
                ReadError::ConnectionLost(error) => of_stream(error),
                other => StreamErrorIncoming::Unknown(Box::new(other)),
            })?;
            if self.is_over {
                let is_whole = self.frames.may_end();
                let cut = || StreamErrorIncoming::Unknown("the stream ends within a frame".into());
                return Poll::Ready(is_whole.then_some(None).ok_or_else(cut));
            }
            if self.frames.pass(bytes.filled(), &mut out).is_err() {
                self.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                return Poll::Ready(Err(StreamErrorIncoming::Unknown("a frame is longer than it may be".into())));
            }
        }
        Poll::Ready(Ok(Some(out.freeze())))
    }

    fn stop_sending(&mut self, code: u64) {
        // Where it has ended there is nothing to stop.
        let _ = self.stream.stop(VarInt::from_u64(code).unwrap_or_default());
        self.is_over = true;
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.streams.0.borrow_mut().remove(&self.id);
        if !self.is_over {
            // What is left of a request that is answered may stay unsent (RFC 9114, 4.1).
            let _ = self.stream.stop(code(Code::H3_NO_ERROR));
        }
    }
}

/// What goes out on a stream.
pub(super) struct Sending<B: Buf> {
    stream: quinn::SendStream,
    id: StreamId,
    writing: Option<WriteBuf<B>>,
    was_used: bool,
}

impl<B: Buf> Sending<B> {
    fn new(stream: quinn::SendStream, id: StreamId) -> Self {
        Self { stream, id, writing: None, was_used: false }
    }
}

impl<B: Buf> quic::SendStream<B> for Sending<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk()));
            let written = written.map_err(|error| match error {
                WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
                WriteError::ConnectionLost(error) => of_stream(error),
                other => StreamErrorIncoming::Unknown(Box::new(other)),
            })?;
            data.advance(written);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("the last piece is not sent yet".into()));
        }
        (self.writing, self.was_used) = (Some(data.into()), true);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        // Where it has ended there is nothing to reset.
        let _ = self.stream.reset(VarInt::from_u64(code).unwrap_or_default());
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl<B: Buf> Drop for Sending<B> {
    fn drop(&mut self) {
        if !self.was_used {
            // Left alone it would end as if it had been answered with nothing.
            let _ = self.stream.reset(code(Code::H3_REQUEST_INCOMPLETE));
        }
    }
}

/// Both count streams in the same way.
fn id_of(id: quinn::StreamId) -> Result<StreamId, ConnectionErrorIncoming> {
    let id = StreamId::try_from(VarInt::from(id).into_inner());
    id.map_err(|error| ConnectionErrorIncoming::InternalError(error.to_string()))
}

fn ended() -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::InternalError("there are no more streams".into())
}

fn of_connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn of_stream(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: of_connection(error) }
}
