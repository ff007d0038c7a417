//! Bodies in chunks (RFC 9112, 7.1): the grammar, and what it carries.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::framing::{Malformed, line_of, split_line};

/// The longest line of a chunk's size with its extensions.
const MAX_CHUNK_LINE_BYTES: usize = 256;
/// The most that trailers may come to.
pub(super) const MAX_TRAILER_BYTES: usize = 8 << 10;
/// More digits than these do not fit a length.
const MAX_CHUNK_DIGITS: usize = 15;

/// A place within a body in chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk {
    Size {
        digits: usize,
        size: u64,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// After the last chunk: lines up to an empty one.
    Trailers {
        taken: usize,
    },
}

impl Chunk {
    /// Before the first one.
    pub(super) const FIRST: Self = Self::Size { digits: 0, size: 0 };

    /// One byte further; `None` where it has no place there.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MAX_CHUNK_DIGITS => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                Self::Size { digits: digits + 1, size: size * 16 + digit }
            }
            (Self::Size { digits: 1.., size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., size }, b';') => Self::Extension { size, length: 0 },
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, length }, b'\t' | 0x20..=0x7e) if length < MAX_CHUNK_LINE_BYTES => {
                Self::Extension { size, length: length + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailers { taken: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::FIRST,
            _ => return None,
        })
    }
}

/// Takes an answer out of its chunks.
#[derive(Debug)]
pub struct Chunks {
    at: Chunk,
    trailers: HeaderMap,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: Chunk::FIRST, trailers: HeaderMap::new() }
    }
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// More must be read first.
    More,
    /// The last chunk has gone by, with these behind it.
    End(HeaderMap),
}

impl Chunks {
    /// Takes the next piece out of what was read; what is left belongs to the next.
    ///
    /// # Errors
    /// [`Malformed::Chunk`] and [`Malformed::Trailer`].
    pub fn next(&mut self, bytes: &mut Bytes) -> Result<Piece, Malformed> {
        while !bytes.is_empty() {
            self.at = match self.at {
                Chunk::Data(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left - count as u64;
                    self.at = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
                    return Ok(Piece::Data(bytes.split_to(count)));
                }
                Chunk::Trailers { taken } => {
                    let Some(line) = line_of(bytes)? else {
                        let is_long = taken + bytes.len() > MAX_TRAILER_BYTES;
                        return if is_long { Err(Malformed::Trailer) } else { Ok(Piece::More) };
                    };
                    let (length, is_last) = (line.len() + 2, line.is_empty());
                    if taken + length > MAX_TRAILER_BYTES {
                        return Err(Malformed::Trailer);
                    }
                    if !is_last {
                        self.keep_trailer(line)?;
                    }
                    bytes.advance(length);
                    if is_last {
                        return Ok(Piece::End(std::mem::take(&mut self.trailers)));
                    }
                    Chunk::Trailers { taken: taken + length }
                }
                // Servers that pad sizes with space are old and many.
                Chunk::Size { digits: 1.., size } if matches!(bytes[0], b' ' | b'\t') => {
                    bytes.advance(1);
                    Chunk::Extension { size, length: 1 }
                }
                at => {
                    let next = at.next(bytes[0]).ok_or(Malformed::Chunk)?;
                    bytes.advance(1);
                    next
                }
            };
        }
        Ok(Piece::More)
    }

    fn keep_trailer(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let (name, value) = split_line(line).map_err(|_| Malformed::Trailer)?;
        let name = HeaderName::from_bytes(name).map_err(|_| Malformed::Trailer)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Malformed::Trailer)?;
        self.trailers.append(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a body that is read in pieces of so many bytes.
    fn read(body: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap, usize), Malformed> {
        let (mut chunks, mut data, mut read) = (Chunks::default(), Vec::new(), Bytes::new());
        let mut parts = body.chunks(step);
        loop {
            match chunks.next(&mut read)? {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::End(trailers) => {
                    return Ok((data, trailers, read.len() + parts.map(<[u8]>::len).sum::<usize>()));
                }
                Piece::More => match parts.next() {
                    Some(part) => read = [&read, part].concat().into(),
                    None => return Err(Malformed::Chunk),
                },
            }
        }
    }

    #[test]
    fn data_and_trailers_come_out_however_they_were_cut() {
        let body = b"5;x=y\r\nhello\r\n6 \r\n world\r\n0\r\nx-sum: 11\r\nx-more: a\r\n\r\nnext";
        for step in 1..body.len() {
            let (data, trailers, left) = read(body, step).unwrap();
            assert_eq!((data.as_slice(), left), (&b"hello world"[..], 4), "{step}");
            assert_eq!(
                (trailers["x-sum"].as_bytes(), trailers["x-more"].as_bytes()),
                (&b"11"[..], &b"a"[..]),
                "{step}"
            );
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for (body, expected) in [
            (&b"x\r\n"[..], Malformed::Chunk),
            (b"\r\n", Malformed::Chunk),
            (b"5\nhello", Malformed::Chunk),
            (b"5\r\nhelloX", Malformed::Chunk),
            (b"1000000000000000\r\n", Malformed::Chunk),
            (b"0\r\nno colon\r\n\r\n", Malformed::Trailer),
            (b"0\r\n folded: a\r\n\r\n", Malformed::Trailer),
            (b"0\r\na: b\n\r\n", Malformed::LineEnd),
        ] {
            assert_eq!(read(body, 3).unwrap_err(), expected, "{body:?}");
        }
        let long = [b"0\r\na: ".to_vec(), vec![b'x'; MAX_TRAILER_BYTES], b"\r\n\r\n".to_vec()].concat();
        assert_eq!(read(&long, 1000).unwrap_err(), Malformed::Trailer);
    }
}
