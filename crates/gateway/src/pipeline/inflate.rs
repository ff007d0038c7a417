//! Inflate: compressed bodies of requests, for upstreams that do not read them. What comes out has the limit of bodies, so
//! that a few bytes cannot become many.

use std::cell::RefCell;
use std::io::{Error as IoError, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use hyper::body::{Body as HttpBody, Frame};
use zstd::stream::raw::Operation;

use super::Exchange;
use crate::Error;
use crate::domain::coding::Coding;
use crate::engine::{Body, BoxError, Flow, Progress, Upload, UploadFault};
use crate::snapshot::Route;

/// So much is inflated at once.
const STEP_BYTES: usize = 16 << 10;
/// The largest window of Zstandard: 8 MiB, as its RFC asks of everyone.
const ZSTD_WINDOW_BITS: u32 = 23;
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// Which coding a request's body is inflated from; its headers are as if it had none.
///
/// # Errors
/// [`Error::UnknownCoding`].
pub(super) fn coding_of(exchange: &mut Exchange, route: &Route) -> Result<Option<Coding>, Error> {
    if !route.spec.decompress || !exchange.head.headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let lines = exchange.head.headers.get_all(CONTENT_ENCODING).iter();
    let names: Vec<String> = lines
        .flat_map(|line| String::from_utf8_lossy(line.as_bytes()).split(',').map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
        .collect();
    let coding = match names.as_slice() {
        [] => None,
        [one] => Some(Coding::named(one).ok_or_else(|| Error::UnknownCoding(one.chars().take(60).collect()))?),
        more => return Err(Error::UnknownCoding(more.join(", ").chars().take(60).collect())),
    };
    exchange.head.headers.remove(CONTENT_ENCODING);
    if coding.is_some() {
        exchange.head.headers.remove(CONTENT_LENGTH);
    }
    Ok(coding)
}

/// The body, inflated.
///
/// # Errors
/// [`Error::Internal`] where there is no memory for it.
pub(super) fn inflated(upload: Upload, coding: Coding, progress: Rc<Progress>) -> Result<Body, Error> {
    let left = progress.limit_bytes;
    let sink = Sink(Rc::new(RefCell::new(Inflating { bytes: Vec::new(), left, is_over: false })));
    let decoder = Decoder::new(coding, sink.clone()).map_err(|error| Error::Internal(error.to_string()))?;
    let inflated = Inflated { body: Body::Upload(upload), decoder: Some(decoder), sink, left: Bytes::new(), progress };
    Ok(Body::Flow(Flow(Box::pin(inflated))))
}

/// Where a decoder writes: as much as the limit allows.
#[derive(Clone)]
struct Sink(Rc<RefCell<Inflating>>);

struct Inflating {
    bytes: Vec<u8>,
    left: u64,
    is_over: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut inflating = self.0.borrow_mut();
        if bytes.len() as u64 > inflating.left {
            inflating.is_over = true;
            return Err(IoError::other("the body is over its limit"));
        }
        inflating.left -= bytes.len() as u64;
        inflating.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Zstd(ZstdDecoder),
    Br(Box<brotli::DecompressorWriter<Sink>>),
    Gzip(MultiGzDecoder<Sink>),
}

impl Decoder {
    fn new(coding: Coding, sink: Sink) -> std::io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => Self::Zstd(ZstdDecoder::new(sink)?),
            Coding::Br => Self::Br(Box::new(brotli::DecompressorWriter::new(sink, BROTLI_BUFFER_BYTES))),
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(sink)),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Zstd(decoder) => decoder.write(bytes),
            Self::Br(decoder) => decoder.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    /// The end; one that comes too early is a fault.
    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Zstd(decoder) => decoder.finish(),
            Self::Br(mut decoder) => decoder.close(),
            Self::Gzip(mut decoder) => decoder.try_finish(),
        }
    }
}

/// Frames of Zstandard. The ready-made writer does not tell whether the last one has ended.
struct ZstdDecoder {
    decoder: zstd::stream::raw::Decoder<'static>,
    sink: Sink,
    is_between_frames: bool,
}

impl ZstdDecoder {
    fn new(sink: Sink) -> std::io::Result<Self> {
        let mut decoder = zstd::stream::raw::Decoder::new()?;
        decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_BITS))?;
        Ok(Self { decoder, sink, is_between_frames: false })
    }

    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        let mut page = vec![0; STEP_BYTES];
        loop {
            let status = self.decoder.run_on_buffers(bytes, &mut page)?;
            self.is_between_frames = status.remaining == 0;
            self.sink.write_all(&page[..status.bytes_written])?;
            bytes = &bytes[status.bytes_read..];
            if bytes.is_empty() && (status.bytes_written < page.len() || self.is_between_frames) {
                return Ok(());
            }
        }
    }

    fn finish(self) -> std::io::Result<()> {
        if self.is_between_frames { Ok(()) } else { Err(IoError::other("the body ends within a frame")) }
    }
}

/// A body as it is inflated.
struct Inflated {
    body: Body,
    decoder: Option<Decoder>,
    sink: Sink,
    left: Bytes,
    progress: Rc<Progress>,
}

impl Inflated {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let written = std::mem::take(&mut self.sink.0.borrow_mut().bytes);
            if !written.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(written.into()))));
            }
            let Some(decoder) = &mut self.decoder else { return Poll::Ready(None) };
            if !self.left.is_empty() {
                let part = self.left.split_to(self.left.len().min(STEP_BYTES));
                if let Err(error) = decoder.write(&part) {
                    return self.broken(error);
                }
                continue;
            }
            match futures::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of a body that becomes another have no meaning any more.
                    if let Ok(data) = frame.into_data() {
                        self.left = data;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    if let Some(Err(error)) = self.decoder.take().map(Decoder::finish) {
                        return self.broken(error);
                    }
                }
            }
        }
    }

    fn broken(&mut self, error: IoError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.decoder = None;
        let is_over = self.sink.0.borrow().is_over;
        self.progress.note(if is_over { self.progress.over() } else { UploadFault::Coding });
        Poll::Ready(Some(Err(error.into())))
    }
}

impl HttpBody for Inflated {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().step(cx)
    }
}
