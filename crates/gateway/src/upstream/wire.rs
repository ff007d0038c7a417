//! A connection to an endpoint that speaks HTTP/1, for requests without a body: whoever asks writes and reads it, so that no
//! task, channel or buffer of its own stands between. What is rarer goes by the library: [`Wire::into_library`].

use std::future::{Future, poll_fn};
use std::io::{Error as IoError, ErrorKind, IoSlice, Result as IoResult};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::client::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::domain::chunked::{Chunks, Piece};
use crate::engine::{Spare, poll_read_some};

/// From here on a body is long.
const LONG_BYTES: u64 = 8 << 10;
/// Read at once of a long body.
const LONG_READ_BYTES: usize = 64 << 10;
/// The most that the head of an answer may come to.
const MOST_HEAD_BYTES: usize = 256 << 10;
/// The most header lines of an answer.
const MOST_LINES: usize = 100;

/// What bytes go over.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! on_either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new($inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        on_either!(self.get_mut(), stream => stream.poll_read(cx, out))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        on_either!(self.get_mut(), stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<IoResult<usize>> {
        on_either!(self.get_mut(), stream => stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        on_either!(self.get_mut(), stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        on_either!(self.get_mut(), stream => stream.poll_shutdown(cx))
    }
}

/// The connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    /// Read, and not taken yet.
    buffer: Bytes,
    left: Left,
    /// Whether the endpoint keeps it open behind this answer.
    is_kept: bool,
    /// Set for the first deadline that had to be waited for, and again only when it is over: deadlines come much later than
    /// most answers.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is to come of the answer under way.
#[derive(Debug)]
enum Left {
    Nothing,
    Length(u64),
    Chunked(Chunks),
    /// All until the endpoint closes the connection.
    Rest,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Broken {
    /// The deadline is over.
    Late,
    /// The connection had been closed: nothing was sent.
    Unsent(String),
    /// It broke off.
    Off(String),
    /// What came is no answer.
    Malformed(String),
}

impl From<IoError> for Broken {
    fn from(error: IoError) -> Self {
        Self::Off(error.to_string())
    }
}

impl Wire {
    /// A connection that nothing was asked on.
    pub(super) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self { stream, buffer: Bytes::new(), left: Left::Nothing, is_kept: true, timer: None })
    }

    /// The same connection for the library. Only of one that is idle.
    pub(super) fn into_library(self) -> Stream {
        self.stream
    }

    /// Whether the endpoint has closed it, or says what nobody asked for, as far as is known here: nothing is waited for.
    pub(super) fn is_spent(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut byte).is_ready()
    }

    /// Whether the answer was read to its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether another request can go over it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_kept && self.buffer.is_empty() && self.is_over()
    }

    /// The whole body, where it is here already.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        match self.left {
            Left::Nothing => Some(Bytes::new()),
            Left::Length(length) if length <= self.buffer.len() as u64 => {
                self.left = Left::Nothing;
                Some(self.buffer.split_to(length as usize))
            }
            _ => None,
        }
    }

    /// How long the body is, where that was said.
    pub(super) fn length(&self) -> Option<u64> {
        match self.left {
            Left::Nothing => Some(0),
            Left::Length(length) => Some(length),
            _ => None,
        }
    }

    /// Sends the head of a request.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn send(&mut self, head: &[u8], deadline: Instant) -> Result<(), Broken> {
        let mut sent = 0;
        self.until(deadline, |wire, cx| wire.poll_send(cx, head, &mut sent)).await
    }

    /// Waits for the head of the answer.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn answer(
        &mut self,
        method: &Method,
        spare: &Spare,
        deadline: Instant,
    ) -> Result<Response<()>, Broken> {
        self.until(deadline, |wire, cx| wire.poll_answer(cx, method, spare)).await
    }

    async fn until<T>(
        &mut self,
        deadline: Instant,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<T, Broken>>,
    ) -> Result<T, Broken> {
        poll_fn(|cx| {
            let polled = poll(self, cx);
            if polled.is_ready() {
                return polled;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Broken::Late));
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, head: &[u8], sent: &mut usize) -> Poll<Result<(), Broken>> {
        while *sent < head.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &head[*sent..])) {
                Ok(0) => return Poll::Ready(Err(Broken::Off("it takes no more bytes".into()))),
                Ok(count) => *sent += count,
                Err(error) if *sent == 0 => return Poll::Ready(Err(Broken::Unsent(error.to_string()))),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        spare: &Spare,
    ) -> Poll<Result<Response<()>, Broken>> {
        loop {
            if !self.buffer.is_empty()
                && let Some(answer) = self.read_head(method, spare).map_err(Broken::Malformed)?
            {
                return Poll::Ready(Ok(answer));
            }
            if ready!(spare.poll_read(&mut self.stream, cx, &mut self.buffer))? == 0 {
                return Poll::Ready(Err(Broken::Off("the connection was closed before an answer".into())));
            }
        }
    }

    /// Reads what there is; gives how much, and 0 at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<usize>> {
        if matches!(self.left, Left::Length(left) if left > LONG_BYTES) && self.buffer.is_empty() {
            let mut long = BytesMut::with_capacity(LONG_READ_BYTES);
            let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut long))?;
            self.buffer = long.freeze();
            return Poll::Ready(Ok(count));
        }
        poll_read_some(&mut self.stream, cx, &mut self.buffer)
    }

    /// The head of an answer, once it is whole. Those that only announce one are passed over.
    fn read_head(&mut self, method: &Method, spare: &Spare) -> Result<Option<Response<()>>, String> {
        loop {
            let bytes = self.buffer.clone();
            let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
            let mut head = httparse::Response::new(&mut []);
            let parsed = httparse::ParserConfig::default()
                .parse_response_with_uninit_headers(&mut head, &bytes, &mut lines)
                .map_err(|error| error.to_string())?;
            let httparse::Status::Complete(length) = parsed else {
                let is_large = bytes.len() > MOST_HEAD_BYTES;
                return if is_large { Err(format!("its head is over {MOST_HEAD_BYTES} bytes")) } else { Ok(None) };
            };
            let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("it has no status")?;
            let version = if head.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
            let mut headers = spare.map();
            for line in head.headers.iter() {
                let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|error| error.to_string())?;
                let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
                headers.append(name, value.map_err(|error| error.to_string())?);
            }
            self.buffer.advance(length);
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            self.is_kept = is_kept(version, &headers) && status != StatusCode::SWITCHING_PROTOCOLS;
            self.left = what_follows(method, status, version, &mut headers)?;
            let mut answer = Response::new(());
            (*answer.status_mut(), *answer.version_mut(), *answer.headers_mut()) = (status, version, headers);
            return Ok(Some(answer));
        }
    }

    /// The next of the body; none at its end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<IoResult<Frame<Bytes>>>> {
        loop {
            match &mut self.left {
                Left::Nothing => return Poll::Ready(None),
                Left::Length(left) if !self.buffer.is_empty() => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.left = Left::Nothing;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(self.buffer.split_to(count)))));
                }
                Left::Rest if !self.buffer.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.buffer)))));
                }
                Left::Chunked(chunks) if !self.buffer.is_empty() => match chunks.next(&mut self.buffer) {
                    Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Piece::More) => {}
                    Ok(Piece::End(trailers)) => {
                        self.left = Left::Nothing;
                        let trailers = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
                        return Poll::Ready(trailers);
                    }
                    Err(malformed) => {
                        return Poll::Ready(Some(Err(IoError::new(ErrorKind::InvalidData, malformed.to_string()))));
                    }
                },
                _ => {}
            }
            match ready!(self.poll_bytes(cx)) {
                Ok(0) if matches!(self.left, Left::Rest) => {
                    (self.left, self.is_kept) = (Left::Nothing, false);
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    let error = IoError::new(ErrorKind::UnexpectedEof, "the connection was closed within an answer");
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// Whether the connection stays open behind an answer (RFC 9112, 9.3).
fn is_kept(version: Version, headers: &HeaderMap) -> bool {
    let mut is_kept = version == Version::HTTP_11;
    for line in headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            is_kept |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    is_kept
}

/// How the end of an answer's body is known (RFC 9112, 6.3). A length that is said twice is left once.
fn what_follows(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &mut HeaderMap,
) -> Result<Left, String> {
    if method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS)
    {
        return Ok(Left::Nothing);
    }
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        if version == Version::HTTP_10 {
            return Err("an answer of HTTP/1.0 has no `transfer-encoding`".into());
        }
        let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let is_chunked = last.eq_ignore_ascii_case(b"chunked");
        return Ok(if is_chunked { Left::Chunked(Chunks::default()) } else { Left::Rest });
    }
    let (mut known, mut said) = (None, 0_usize);
    for line in headers.get_all(CONTENT_LENGTH) {
        for text in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            if length.is_none() || known.is_some_and(|known| Some(known) != length) {
                return Err(format!("its `content-length` is {line:?}"));
            }
            (known, said) = (length, said + 1);
        }
    }
    if let (Some(length), 2..) = (known, said) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(match known {
        Some(0) => Left::Nothing,
        Some(length) => Left::Length(length),
        None => Left::Rest,
    })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
