//! Messages on the wire: a byte that says whether it is packed, four for its length, and itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::Body as _;

use super::status::Status;
use crate::engine::Source;

const HEAD_BYTES: usize = 5;

/// Messages one after the other.
pub(crate) fn framed(messages: &[Vec<u8>]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(messages.iter().map(|message| HEAD_BYTES + message.len()).sum());
    for message in messages {
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        bytes.put_slice(message);
    }
    bytes.freeze()
}

/// The messages of an answer as they come, and how it ended.
#[derive(Debug)]
pub(crate) struct Messages {
    incoming: Source,
    frames: Frames,
}

/// What an answer says next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A message.
    Message(Bytes),
    /// That there are no more.
    End(Status),
}

impl Messages {
    /// Of an answer that has begun, each up to a size.
    pub(crate) fn new(incoming: Source, most_bytes: u64) -> Self {
        Self { incoming, frames: Frames::new(most_bytes) }
    }

    /// The next message, or the end.
    ///
    /// # Errors
    /// A message that is packed, too large or cut off, and an answer that breaks off.
    pub(crate) async fn next(&mut self) -> Result<Next, String> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, String>> {
        loop {
            if let Some(message) = self.frames.next()? {
                return Poll::Ready(Ok(Next::Message(message)));
            }
            let status = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.frames.add(&data);
                        continue;
                    }
                    Err(frame) => frame.trailers_ref().and_then(Status::of),
                },
            };
            // A service that failed says why, whatever it broke off in.
            let failed = status.as_ref().is_some_and(|status| status.code != 0);
            return Poll::Ready(match failed || self.frames.is_empty() {
                true => Ok(Next::End(status.unwrap_or_else(Status::missing))),
                false => Err("it ended within a message".into()),
            });
        }
    }
}

/// Messages in pieces of any size.
#[derive(Debug)]
struct Frames {
    buffer: BytesMut,
    most_bytes: u64,
}

impl Frames {
    /// For messages up to a size.
    fn new(most_bytes: u64) -> Self {
        Self { buffer: BytesMut::new(), most_bytes }
    }

    /// Adds what came.
    fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing is left of a message that has begun.
    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// One that is packed or too large.
    fn next(&mut self) -> Result<Option<Bytes>, String> {
        let Some(head) = self.buffer.get(..HEAD_BYTES) else { return Ok(None) };
        if head[0] != 0 {
            return Err("a message is packed, which was not asked for".into());
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if u64::from(length) > self.most_bytes {
            return Err(format!("a message has {length} bytes, over the limit of {}", self.most_bytes));
        }
        let length = length as usize;
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_whatever_the_pieces() {
        let messages = [b"one".to_vec(), Vec::new(), vec![7; 300]];
        let bytes = framed(&messages);
        for size in [1, 4, 5, 7, 1_000] {
            let mut frames = Frames::new(300);
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                frames.add(piece);
                while let Some(message) = frames.next().unwrap() {
                    found.push(message.to_vec());
                }
            }
            assert!(found == messages && frames.is_empty());
        }
        let mut frames = Frames::new(299);
        frames.add(&framed(&messages[2..]));
        assert!(frames.next().unwrap_err().contains("300 bytes"));
        let mut frames = Frames::new(9);
        frames.add(&[1, 0, 0, 0, 0]);
        assert!(frames.next().unwrap_err().contains("packed"));
    }
}
