//! gRPC-Web: what browsers can read of gRPC. The status stands in a last frame of the body instead of in trailers, and in
//! its text form all is in Base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::Frame;

use crate::domain::grpc::Dialect;

/// The bit of a frame that has trailers.
const TRAILERS: u8 = 0x80;

/// Makes an answer of gRPC one of gRPC-Web.
#[derive(Clone, Copy, Debug)]
pub struct WebAnswer {
    is_text: bool,
}

impl WebAnswer {
    /// For callers of this dialect.
    pub fn of(dialect: Dialect) -> Self {
        Self { is_text: dialect == Dialect::WebText }
    }

    /// A frame as the caller reads it.
    pub fn frame(self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let bytes = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => trailers_frame(&trailers),
                Err(frame) => return frame,
            },
        };
        // Each piece is padded by itself, so that none has to wait for the next one.
        Frame::data(if self.is_text { STANDARD.encode(&bytes).into() } else { bytes })
    }
}

fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put_slice(name.as_str().as_bytes());
        text.put_slice(b": ");
        text.put_slice(value.as_bytes());
        text.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(text.len() + 5);
    frame.put_u8(TRAILERS);
    // What headers may come to is far below this.
    frame.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&text);
    frame.freeze()
}

/// Reads Base64 in pieces. Padding may stand behind any group of four.
#[derive(Debug, Default)]
pub struct WebText {
    /// Less than a group.
    rest: Vec<u8>,
}

impl WebText {
    /// The bytes of the groups that are whole with this piece.
    ///
    /// # Errors
    /// Where it is not Base64.
    pub fn read(&mut self, piece: &[u8]) -> Result<Bytes, base64::DecodeError> {
        self.rest.extend_from_slice(piece);
        let whole = self.rest.len() / 4 * 4;
        let mut decoded = Vec::with_capacity(whole / 4 * 3);
        let mut groups = &self.rest[..whole];
        while !groups.is_empty() {
            let end = groups.chunks_exact(4).position(|group| group[3] == b'=').map_or(groups.len(), |at| (at + 1) * 4);
            STANDARD.decode_vec(&groups[..end], &mut decoded)?;
            groups = &groups[end..];
        }
        self.rest.drain(..whole);
        Ok(decoded.into())
    }

    /// Whether no part of a group is left.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_any_pieces_with_padding_anywhere() {
        let text = [STANDARD.encode(b"hello"), STANDARD.encode(b"!"), STANDARD.encode(b"abc")].concat();
        for size in 1..=text.len() {
            let mut reader = WebText::default();
            let read: Vec<u8> =
                text.as_bytes().chunks(size).flat_map(|piece| reader.read(piece).unwrap().to_vec()).collect();
            assert_eq!((read.as_slice(), reader.is_whole()), (&b"hello!abc"[..], true), "in pieces of {size}");
        }
        let mut reader = WebText::default();
        assert!(reader.read(b"aGVsb").is_ok() && !reader.is_whole());
        assert!(reader.read(b"\n**").is_err());
    }

    #[test]
    fn trailers_become_a_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frame = WebAnswer::of(Dialect::Web).frame(Frame::trailers(trailers.clone()));
        let expected = b"\x80\0\0\0\x10grpc-status: 0\r\n";
        assert_eq!(frame.into_data().unwrap(), &expected[..]);
        let text = WebAnswer::of(Dialect::WebText).frame(Frame::trailers(trailers));
        assert_eq!(text.into_data().unwrap(), STANDARD.encode(expected));
    }
}
