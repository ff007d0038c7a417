//! Messages on the wire: a byte that says whether it is packed, four for its length, and itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};

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

/// Messages as they come, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    most_bytes: u64,
}

impl Frames {
    /// For messages up to a size.
    pub(crate) fn new(most_bytes: u64) -> Self {
        Self { buffer: BytesMut::new(), most_bytes }
    }

    /// Adds what came.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing is left of a message that has begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// One that is packed or too large.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, String> {
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
