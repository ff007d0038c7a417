//! Seats with their prices, as kept in one column: version byte 1, then four bytes of number and eight of price each, big
//! endian, in ascending order of numbers.

use crate::Error;
use crate::domain::ids::SeatNumber;

const VERSION: u8 = 1;

/// A seat and what it costs the buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedSeat {
    /// Which.
    pub seat: SeatNumber,
    /// Minor units of the event's currency.
    pub price: i64,
}

/// Seats as stored.
pub(super) fn encode(seats: &[PricedSeat]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 12 * seats.len());
    bytes.push(VERSION);
    for PricedSeat { seat, price } in seats {
        bytes.extend(seat.0.to_be_bytes());
        bytes.extend(price.to_be_bytes());
    }
    bytes
}

/// Seats from what is stored of `what`.
pub(super) fn decode(bytes: &[u8], what: impl FnOnce() -> String) -> Result<Vec<PricedSeat>, Error> {
    let seats = bytes.split_first().filter(|(version, _)| **version == VERSION).and_then(|(_, rest)| {
        let (chunks, left) = rest.as_chunks::<12>();
        let seat = |chunk: &[u8; 12]| {
            let (number, price) = chunk.split_first_chunk::<4>()?;
            let price = i64::from_be_bytes(price.try_into().ok()?);
            Some(PricedSeat { seat: SeatNumber(u32::from_be_bytes(*number)), price })
        };
        left.is_empty().then(|| chunks.iter().map(seat).collect::<Option<Vec<_>>>()).flatten()
    });
    seats.ok_or_else(|| Error::Corrupt { what: what(), reason: "its seats are not as they were written".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_of_version_1_are_read() {
        let seats =
            vec![PricedSeat { seat: SeatNumber(7), price: 4500 }, PricedSeat { seat: SeatNumber(8), price: -1 }];
        let stored = encode(&seats);
        assert_eq!(stored[..13], [1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0x11, 0x94]);
        assert_eq!(decode(&stored, String::new).unwrap(), seats);
        for broken in [&stored[..24], &[], &[2]] {
            let error = decode(broken, || "hold x".into()).unwrap_err();
            assert!(error.to_string().contains("hold x"), "{error}");
        }
    }
}
