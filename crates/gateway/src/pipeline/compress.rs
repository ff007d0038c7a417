//! Compress: answers are made smaller on their way, as they come.

use std::cell::RefCell;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    VARY,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::domain::coding::{Coding, is_of};
use crate::domain::directives::Directives;
use crate::engine::{BoxError, Flow, Source};
use crate::spec::Compress;

/// So much is compressed at once: less than half a millisecond's work.
const STEP_BYTES: usize = 16 << 10;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 20;
const GZIP_LEVEL: u32 = 5;
/// Headers that describe the very bytes: what has them is not changed.
const OF_THE_BYTES: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// Compresses an answer for a caller that takes `coding`, where it is worth it. Says in any case that it depends on what
/// the caller takes.
pub(super) fn answer(
    spec: &Compress,
    coding: Option<Coding>,
    is_head: bool,
    head: &mut Parts,
    source: Source,
) -> Source {
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = announced.or_else(|| source.size_hint().exact().filter(|_| !is_head));
    if !is_fit(spec, head, length) {
        return source;
    }
    add_vary(&mut head.headers);
    let Some(coding) = coding else { return source };
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(ACCEPT_RANGES);
    weaken(&mut head.headers);
    if is_head {
        return source;
    }
    match Encoder::new(coding) {
        Ok(encoder) => Source::Flow(Flow(Box::pin(Encoded {
            source,
            encoder: Some(encoder),
            left: Bytes::new(),
            trailers: None,
            // What has a length is all there soon; of the rest nobody knows when more comes.
            is_stream: length.is_none(),
            is_unflushed: false,
            is_over: false,
        }))),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be compressed");
            head.headers.remove(CONTENT_ENCODING);
            source
        }
    }
}

fn is_fit(spec: &Compress, head: &Parts, length: Option<u64>) -> bool {
    let map = &head.headers;
    let has_body = !head.status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED]
            .contains(&head.status);
    let kind = map.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    has_body
        && length.is_none_or(|length| length >= spec.from.0)
        && is_of(kind, &spec.types)
        && !map.contains_key(CONTENT_RANGE)
        && map.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        && !OF_THE_BYTES.iter().any(|name| map.contains_key(HeaderName::from_static(name)))
        && !Directives::of(map, &CACHE_CONTROL).has("no-transform")
}

fn add_vary(map: &mut HeaderMap) {
    let lines = map.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(','));
    if !names.any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case(ACCEPT_ENCODING.as_str())) {
        map.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
}

/// The same content, but no longer the same bytes.
fn weaken(map: &mut HeaderMap) {
    let Some(tag) = map.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        map.insert(ETAG, weak);
    }
}

/// Where an encoder writes, shared with who takes it away.
#[derive(Clone, Debug, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Encoder {
    kind: Kind,
    sink: Sink,
}

enum Kind {
    Zstd(zstd::stream::write::Encoder<'static, Sink>),
    Br(Box<brotli::CompressorWriter<Sink>>),
    Gzip(GzEncoder<Sink>),
}

impl Encoder {
    fn new(coding: Coding) -> std::io::Result<Self> {
        let sink = Sink::default();
        let out = sink.clone();
        let kind = match coding {
            Coding::Zstd => Kind::Zstd(zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?),
            Coding::Br => {
                Kind::Br(Box::new(brotli::CompressorWriter::new(out, 4 << 10, BROTLI_LEVEL, BROTLI_WINDOW_BITS)))
            }
            Coding::Gzip => Kind::Gzip(GzEncoder::new(out, Compression::new(GZIP_LEVEL))),
        };
        Ok(Self { kind, sink })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.kind {
            Kind::Zstd(encoder) => encoder.write_all(bytes),
            Kind::Br(encoder) => encoder.write_all(bytes),
            Kind::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.kind {
            Kind::Zstd(encoder) => encoder.flush(),
            Kind::Br(encoder) => encoder.flush(),
            Kind::Gzip(encoder) => encoder.flush(),
        }
    }

    fn finish(self) -> std::io::Result<Bytes> {
        match self.kind {
            Kind::Zstd(encoder) => drop(encoder.finish()?),
            Kind::Br(encoder) => drop(encoder.into_inner()),
            Kind::Gzip(encoder) => drop(encoder.finish()?),
        }
        Ok(self.sink.0.take().into())
    }

    fn written(&self) -> Bytes {
        self.sink.0.take().into()
    }
}

/// An answer as it is compressed.
struct Encoded {
    source: Source,
    encoder: Option<Encoder>,
    /// What came and is not compressed yet.
    left: Bytes,
    trailers: Option<HeaderMap>,
    is_stream: bool,
    /// Whether the encoder holds back what the caller could have.
    is_unflushed: bool,
    is_over: bool,
}

impl Encoded {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(encoder) = &mut self.encoder else {
                self.is_over = true;
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if !self.left.is_empty() {
                let part = self.left.split_to(self.left.len().min(STEP_BYTES));
                encoder.write(&part)?;
                self.is_unflushed = true;
                let written = encoder.written();
                if !written.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(written))));
                }
                continue;
            }
            match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    let last = self.encoder.take().map_or_else(|| Ok(Bytes::new()), Encoder::finish)?;
                    if !last.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
                Poll::Pending if self.is_stream && self.is_unflushed => {
                    encoder.flush()?;
                    self.is_unflushed = false;
                    let written = encoder.written();
                    if !written.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(written))));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().step(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
