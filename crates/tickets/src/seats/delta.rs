//! Changes of seats as stored in the feed, and the snapshot as sent.
//!
//! Feed, version 1: one byte 1, then for each change one byte of what it became (0 free, 1 held, 2 booked), four bytes of
//! number and, where held, eight bytes of its end in microseconds; all big endian.
//!
//! Snapshot, version 1: one byte 1, eight bytes of sequence, four bytes of count, then two bits a seat, four seats a byte,
//! the first seat in the lowest bits: 0 free, 1 held, 2 booked, 3 not sold. 60,000 seats are 15,013 bytes.

use tessera_kernel::Timestamp;

use crate::domain::ids::SeatNumber;

const VERSION: u8 = 1;

/// What became of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which seat.
    pub seat: SeatNumber,
    /// What it is now.
    pub to: ChangeTo,
}

/// What a seat became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeTo {
    /// It can be had.
    Free,
    /// It is kept for somebody until then.
    Held(Timestamp),
    /// It is sold.
    Booked,
}

/// Changes as stored.
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 13 * changes.len());
    bytes.push(VERSION);
    for Change { seat, to } in changes {
        let (kind, until) = match to {
            ChangeTo::Free => (0, None),
            ChangeTo::Held(until) => (1, Some(until)),
            ChangeTo::Booked => (2, None),
        };
        bytes.push(kind);
        bytes.extend(seat.0.to_be_bytes());
        if let Some(until) = until {
            bytes.extend(until.micros().to_be_bytes());
        }
    }
    bytes
}

/// Changes from what is stored.
///
/// # Errors
/// A text that says at which byte it is not what [`encode`] writes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let Some((&VERSION, mut rest)) = bytes.split_first() else {
        return Err(format!("it does not begin with version {VERSION}"));
    };
    let broken = |left: &[u8]| format!("it breaks off or is unknown at byte {}", bytes.len() - left.len());
    let mut changes = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (number, after) = after.split_first_chunk::<4>().ok_or_else(|| broken(rest))?;
        let seat = SeatNumber(u32::from_be_bytes(*number));
        let (to, after) = match kind {
            0 => (ChangeTo::Free, after),
            1 => {
                let (until, after) = after.split_first_chunk::<8>().ok_or_else(|| broken(rest))?;
                (ChangeTo::Held(Timestamp::from_micros(i64::from_be_bytes(*until))), after)
            }
            2 => (ChangeTo::Booked, after),
            _ => return Err(broken(rest)),
        };
        changes.push(Change { seat, to });
        rest = after;
    }
    Ok(changes)
}

/// A snapshot from the states of all seats as they are in it.
pub fn packed_snapshot(seq: i64, count: usize, packed: &[u8]) -> Vec<u8> {
    let mut bytes = begun(seq, count);
    bytes.extend(packed);
    bytes
}

fn begun(seq: i64, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(13 + count.div_ceil(4));
    bytes.push(VERSION);
    bytes.extend(seq.to_be_bytes());
    bytes.extend((count as u32).to_be_bytes());
    bytes
}

/// A snapshot from two-bit states in the order of the numbers.
pub fn snapshot(seq: i64, count: usize, states: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut bytes = begun(seq, count);
    let (mut byte, mut filled) = (0, 0);
    for state in states {
        byte |= (state & 3) << (2 * filled);
        filled += 1;
        if filled == 4 {
            bytes.push(byte);
            (byte, filled) = (0, 0);
        }
    }
    if filled > 0 {
        bytes.push(byte);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let to = prop_oneof![
            Just(ChangeTo::Free),
            any::<i64>().prop_map(|at| ChangeTo::Held(Timestamp::from_micros(at))),
            Just(ChangeTo::Booked),
        ];
        (any::<u32>(), to).prop_map(|(number, to)| Change { seat: SeatNumber(number), to })
    }

    proptest! {
        #[test]
        fn changes_read_back(changes in prop::collection::vec(change(), 0..20)) {
            let bytes = encode(&changes);
            prop_assert_eq!(decode(&bytes).unwrap(), changes);
        }

        #[test]
        fn anything_else_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(changes) = decode(&bytes) {
                prop_assert_eq!(encode(&changes), bytes);
            }
        }
    }

    #[test]
    fn a_stadium_is_fifteen_kilobytes() {
        assert_eq!(snapshot(7, 60_000, (0..60_000).map(|_| 0)).len(), 15_013);
        let bytes = snapshot(258, 5, [1, 2, 3, 0, 2].into_iter());
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 5, 0b00_11_10_01, 0b10]);
    }

    #[test]
    fn stored_feeds_of_version_1_are_read() {
        let stored = [1, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 2, 0, 0, 1, 0, 0, 0, 0, 0, 3];
        let held = Change { seat: SeatNumber(7), to: ChangeTo::Held(Timestamp::from_micros(9)) };
        let booked = Change { seat: SeatNumber(256), to: ChangeTo::Booked };
        let free = Change { seat: SeatNumber(3), to: ChangeTo::Free };
        assert_eq!(decode(&stored).unwrap(), [held, booked, free]);
    }
}
