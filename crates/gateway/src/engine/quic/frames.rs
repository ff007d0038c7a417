//! The frames of a stream, looked at before the HTTP/3 layer gathers them.
//!
//! That layer keeps a frame until it is whole, however long the frame says it is; takes data of no bytes for the end of a
//! body; and does not expect a stream to end within a frame. So what is longer than it may be is refused by its announced
//! length, and what means nothing (empty data, frames of unknown kinds) is left out (RFC 9114, 7 and 9).

use bytes::BytesMut;

const DATA: u64 = 0;
/// The kinds that mean something, or are forbidden because they did in HTTP/2.
const LAST_OF_HTTP2: u64 = 9;
const MAX_PUSH_ID: u64 = 0xd;
/// The kind of the one stream in one direction that has frames.
const CONTROL: u64 = 0;

/// A frame that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Frames as they come, in whatever pieces.
#[derive(Debug)]
pub(super) struct Frames {
    /// How long one may be that is not data.
    most_bytes: u64,
    /// Whether the stream's own kind comes first.
    is_one_way: bool,
    /// Whether there are none.
    is_raw: bool,
    /// What came of a frame's kind and length.
    head: Vec<u8>,
    /// What is to come of its payload.
    left: u64,
    is_left_out: bool,
}

impl Frames {
    /// Of a stream with a request on it.
    pub(super) fn of_request(most_bytes: u64) -> Self {
        Self { most_bytes, is_one_way: false, is_raw: false, head: Vec::new(), left: 0, is_left_out: false }
    }

    /// Of a stream in one direction, which says first what it is for.
    pub(super) fn one_way(most_bytes: u64) -> Self {
        Self { is_one_way: true, ..Self::of_request(most_bytes) }
    }

    /// Adds to `out` what means something.
    pub(super) fn pass(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> Result<(), TooLong> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.is_raw {
                out.extend_from_slice(bytes);
                return Ok(());
            }
            if self.left > 0 {
                let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let (payload, rest) = bytes.split_at(count);
                if !self.is_left_out {
                    out.extend_from_slice(payload);
                }
                self.left -= count as u64;
                bytes = rest;
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            let Some((kind, length)) = number(&self.head) else { continue };
            if self.is_one_way {
                self.is_one_way = false;
                self.is_raw = kind != CONTROL;
                out.extend_from_slice(&std::mem::take(&mut self.head));
                continue;
            }
            let Some((length, _)) = number(length) else { continue };
            let is_known = kind <= LAST_OF_HTTP2 || kind == MAX_PUSH_ID;
            if is_known && kind != DATA && length > self.most_bytes {
                return Err(TooLong);
            }
            self.left = length;
            self.is_left_out = !is_known || (kind == DATA && length == 0);
            if !self.is_left_out {
                out.extend_from_slice(&self.head);
            }
            self.head.clear();
        }
        Ok(())
    }

    /// Whether the stream may end here.
    pub(super) fn may_end(&self) -> bool {
        self.is_raw || (self.left == 0 && self.head.is_empty())
    }
}

/// A number and what is behind it, where all of it is there (RFC 9000, 16).
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (all, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let rest_of_number = all[1..].iter();
    Some((rest_of_number.fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(mut frames: Frames, pieces: &[&[u8]]) -> (Result<Vec<u8>, TooLong>, bool) {
        let mut out = BytesMut::new();
        let told = pieces.iter().try_for_each(|piece| frames.pass(piece, &mut out));
        (told.map(|()| out.to_vec()), frames.may_end())
    }

    #[test]
    fn what_means_nothing_is_left_out() {
        let stream = [
            &[1, 2, b'h', b'h'][..],
            &[0, 0],
            &[0x21, 3, b'x', b'x', b'x'],
            &[0, 0x40, 5],
            b"hello",
            &[0x21, 0],
            &[0x40, 0, 0],
        ];
        let (out, may_end) = passed(Frames::of_request(10), &[&stream.concat()]);
        assert_eq!((out.unwrap(), may_end), (b"\x01\x02hh\x00\x40\x05hello".to_vec(), true));
    }

    #[test]
    fn frames_have_a_length_and_streams_end_between_them() {
        assert_eq!(passed(Frames::of_request(10), &[&[1, 11]]).0, Err(TooLong));
        assert_eq!(
            passed(Frames::of_request(10), &[&[4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]).0,
            Err(TooLong)
        );
        for cut in [&[1, 2, b'h'][..], &[1], &[0, 0x40], &[0, 5, b'h'], &[0x21, 1]] {
            assert!(!passed(Frames::of_request(10), &[cut]).1, "{cut:?}");
        }
        // Data may be as long as it likes.
        assert_eq!(passed(Frames::of_request(10), &[&[0, 0x80, 1, 0, 0]]).0.unwrap(), [0, 0x80, 1, 0, 0]);
        assert_eq!(passed(Frames::one_way(10), &[&[0, 4, 11]]).0, Err(TooLong));
        assert_eq!(passed(Frames::one_way(10), &[&[2, 0xff, 0xff]]), (Ok(vec![2, 0xff, 0xff]), true));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes: Vec<u8>, at: prop::sample::Index, one_way: bool) {
            let frames = || if one_way { Frames::one_way(100) } else { Frames::of_request(100) };
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(passed(frames(), &[first, second]), passed(frames(), &[&bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(passed(frames(), &single), passed(frames(), &[&bytes]));
        }
    }
}
