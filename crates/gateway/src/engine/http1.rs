//! HTTP/1 for what most requests are: a head and nothing behind it. One task reads, answers and writes, from a buffer and into
//! a buffer; with the first request that is anything else ([`Head::plain`]) the connection goes on by the library, which
//! then sees its bytes as they came.

use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri, response};
use hyper::body::Body as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::accept::{ClientStream, Terms};
use super::guard::{Patience, Signals};
use super::worker::Worker;
use super::{Body, Incoming, Peer, Spare, poll_read_some};
use crate::domain::framing::{Head, HeadLimits};
use crate::pipeline;

/// Of an answer, so much is gathered before it is sent.
const MOST_GATHERED_BYTES: usize = 64 << 10;
/// Pieces of an answer that are larger are not copied.
const MOST_COPIED_BYTES: usize = 8 << 10;

/// A client's connection.
struct Connection<S> {
    stream: S,
    /// Read, and not taken yet.
    buffer: Bytes,
    patience: Patience,
    /// Set for the first wait, and again only when it is over: clients ask again much sooner than they must.
    idle_timer: Option<Pin<Box<Sleep>>>,
}

/// A request, and whether it is the last one.
struct Asked {
    request: Request<Incoming>,
    is_last: bool,
}

/// Answers the requests of a connection. Gives it back, with what was read of it, when something comes that is not for here;
/// none where it is over.
pub(super) async fn serve<S>(
    worker: &Rc<Worker>,
    terms: &Terms,
    peer: &Rc<Peer>,
    signals: &Arc<Signals>,
    stream: S,
    buffer: Bytes,
) -> Option<(S, Bytes)>
where
    S: ClientStream,
{
    let mut connection = Connection { stream, buffer, patience: terms.patience, idle_timer: None };
    let mut draining = pin!(worker.draining.cancelled());
    loop {
        if connection.buffer.is_empty() && !connection.waits_for_more(draining.as_mut()).await {
            break;
        }
        let Some(Asked { request, is_last }) = connection.take_request(terms.head, &worker.spare) else {
            return Some((connection.stream, connection.buffer));
        };
        let is_head = request.method() == Method::HEAD;
        let answer = {
            let answering = pin!(pipeline::handle(worker.clone(), peer.clone(), signals.clone(), request));
            connection.unless_gone(answering).await?
        };
        let mut page = worker.spare.page();
        let is_kept = connection.send(&mut page, worker, answer, is_head, is_last).await;
        worker.spare.keep_page(page);
        match is_kept {
            Ok(true) if !worker.draining.is_cancelled() => {}
            Ok(_) => break,
            Err(_) => return None,
        }
    }
    // What goes wrong now is the client's: it went away.
    let _ = connection.timed(|stream, cx| Pin::new(stream).poll_shutdown(cx)).await;
    None
}

impl<S: ClientStream> Connection<S> {
    /// Waits for the next request; false where the client has gone, says nothing for too long, or is to go.
    async fn waits_for_more(&mut self, mut draining: Pin<&mut impl Future<Output = ()>>) -> bool {
        let due = Instant::now() + self.patience.head;
        poll_fn(|cx| {
            if let Poll::Ready(read) = poll_read_some(&mut self.stream, cx, &mut self.buffer) {
                return Poll::Ready(matches!(read, Ok(1..)));
            }
            if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                if Instant::now() >= due {
                    return Poll::Ready(false);
                }
                timer.as_mut().reset(due);
            }
        })
        .await
    }

    /// The request at the beginning of the buffer, where it is one for here.
    fn take_request(&mut self, limits: HeadLimits, spare: &Spare) -> Option<Asked> {
        let bytes = self.buffer.clone();
        let (mut headers, mut is_last, mut is_plain) = (spare.map(), false, true);
        let head = Head::plain(&bytes, limits, |name, value| {
            match name.len() {
                2 if name.eq_ignore_ascii_case(b"te") => is_plain = false,
                6 if name.eq_ignore_ascii_case(b"expect") => is_plain = false,
                7 if name.eq_ignore_ascii_case(b"upgrade") => is_plain = false,
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    is_last |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
                }
                _ => {}
            }
            match (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(bytes.slice_ref(value))) {
                (Ok(name), Ok(value)) => drop(headers.append(name, value)),
                _ => is_plain = false,
            }
        });
        let head = head.filter(|_| is_plain)?;
        let mut request = Request::new(Incoming::Nothing);
        *request.method_mut() = Method::from_bytes(head.method).ok()?;
        *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(head.target)).ok()?;
        *request.headers_mut() = headers;
        self.buffer.advance(head.length);
        Some(Asked { request, is_last })
    }

    /// What this comes to, unless the client goes before. It stays where it is: one that answers has some kilobytes.
    async fn unless_gone<T>(&mut self, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.is_gone(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the client has gone. Once it has sent its next request that is not looked at.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.buffer.is_empty()
            && matches!(poll_read_some(&mut self.stream, cx, &mut self.buffer), Poll::Ready(Ok(0) | Err(_)))
    }

    /// Sends an answer; gives whether another request may come.
    async fn send(
        &mut self,
        page: &mut Vec<u8>,
        worker: &Worker,
        answer: Response<Body>,
        is_head: bool,
        is_last: bool,
    ) -> Result<bool> {
        let (head, mut body) = answer.into_parts();
        let is_last = is_last || head.headers.get(CONNECTION).is_some_and(|value| value == "close");
        let mut length = Length::of(&head, &body, is_head);
        write_head(page, &head, length, is_last, worker);
        // A stream may go on for hours.
        worker.spare.keep_map(head.headers);
        while !body.is_end_stream() && !matches!(length, Length::None) {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
            let frame = match polled {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.write(page, &[]).await?;
                    page.clear();
                    self.flush().await?;
                    let frame = pin!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
                    let frame = self.unless_gone(frame).await;
                    frame.ok_or(ErrorKind::UnexpectedEof)?
                }
            };
            let data = match frame {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    // What there is of it goes, and that it is not whole is seen from how it ends.
                    self.write(page, &[]).await?;
                    self.flush().await?;
                    return Err(Error::other(error));
                }
            };
            if data.is_empty() {
                continue;
            }
            length.before(page, &data)?;
            if data.len() > MOST_COPIED_BYTES || page.len() + data.len() > MOST_GATHERED_BYTES {
                self.write(page, &data).await?;
                page.clear();
            } else {
                page.extend_from_slice(&data);
            }
            length.behind(page);
        }
        length.at_end(page)?;
        self.write(page, &[]).await?;
        self.flush().await?;
        Ok(!is_last)
    }

    /// Writes one and the other.
    async fn write(&mut self, mut first: &[u8], mut second: &[u8]) -> Result<()> {
        while !first.is_empty() || !second.is_empty() {
            let count = self
                .timed(|stream, cx| match (first, second) {
                    (only, []) | ([], only) => Pin::new(stream).poll_write(cx, only),
                    _ => Pin::new(stream).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
                })
                .await?;
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            let of_first = count.min(first.len());
            (first, second) = (&first[of_first..], &second[count - of_first..]);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.timed(|stream, cx| Pin::new(stream).poll_flush(cx)).await
    }

    /// Does what a client must let happen in time.
    async fn timed<T>(&mut self, mut poll: impl FnMut(&mut S, &mut Context<'_>) -> Poll<Result<T>>) -> Result<T> {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let patience: Duration = self.patience.write;
        poll_fn(|cx| {
            let polled = poll(&mut self.stream, cx);
            if polled.is_ready() {
                return polled;
            }
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
            ready!(timer.as_mut().poll(cx));
            self.stream.drop_unread();
            Poll::Ready(Err(ErrorKind::TimedOut.into()))
        })
        .await
    }
}

/// How a client knows where an answer ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// There is nothing behind its head.
    None,
    /// So many bytes are still to come.
    Left(u64),
    /// It comes in chunks.
    Chunked,
}

impl Length {
    fn of(head: &response::Parts, body: &Body, is_head: bool) -> Self {
        let has_none =
            head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if is_head || has_none {
            return Self::None;
        }
        let said = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        said.or_else(|| body.size_hint().exact()).map_or(Self::Chunked, Self::Left)
    }

    /// What stands before a piece.
    fn before(&mut self, page: &mut Vec<u8>, data: &[u8]) -> Result<()> {
        match self {
            Self::None => {}
            Self::Left(left) => {
                let less = left.checked_sub(data.len() as u64);
                *left = less.ok_or_else(|| Error::other("an answer is longer than it said"))?;
            }
            Self::Chunked => {
                use std::io::Write;
                write!(page, "{:x}\r\n", data.len())?;
            }
        }
        Ok(())
    }

    /// What stands behind it.
    fn behind(self, page: &mut Vec<u8>) {
        if self == Self::Chunked {
            page.extend_from_slice(b"\r\n");
        }
    }

    /// What stands behind the last one.
    fn at_end(self, page: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Left(1..) => return Err(Error::other("an answer is shorter than it said")),
            Self::Chunked => page.extend_from_slice(b"0\r\n\r\n"),
            _ => {}
        }
        Ok(())
    }
}

fn write_head(page: &mut Vec<u8>, head: &response::Parts, length: Length, is_last: bool, worker: &Worker) {
    page.extend_from_slice(b"HTTP/1.1 ");
    page.extend_from_slice(head.status.as_str().as_bytes());
    page.push(b' ');
    page.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
    page.extend_from_slice(b"\r\n");
    let mut put = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            page.extend_from_slice(part);
        }
    };
    for (name, value) in &head.headers {
        match *name {
            // Only of an answer whose body is left out it is as it was said (RFC 9110, 8.6).
            CONTENT_LENGTH if length != Length::None || head.status == StatusCode::NO_CONTENT => {}
            CONNECTION if is_last => {}
            TRANSFER_ENCODING => {}
            _ => put(name.as_str(), value.as_bytes()),
        }
    }
    match length {
        Length::Left(length) => put("content-length", itoa::Buffer::new().format(length).as_bytes()),
        Length::Chunked => put("transfer-encoding", b"chunked"),
        Length::None => {}
    }
    if is_last {
        put("connection", b"close");
    }
    if !head.headers.contains_key(DATE) {
        worker.with_date(|date| put("date", date.as_bytes()));
    }
    page.extend_from_slice(b"\r\n");
}
