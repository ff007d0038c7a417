//! A driver's record as it is kept in Redis: 40 bytes, the first of which is the version of the form.
//!
//! Version 2, numbers little endian: `2`; latitude and longitude (i32, 1e-7 degree); heading (u16, 65535: not known); when it was
//! taken, since when the driver stands there and when it was heard (i64, milliseconds since 1970); interval (u32, milliseconds);
//! 1 for busy and 2 for one who has reported since it came, added up.

use std::time::Duration;

use tessera_kernel::{Place, Timestamp};

use super::{Duty, Located, rules};
use crate::domain::ids::DriverId;

const VERSION: u8 = 2;
const NO_HEADING: u16 = u16::MAX;
const SIZE: usize = 40;
const BUSY: u8 = 1;
const REPORTED: u8 = 2;

/// What is known of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) heading: Option<u16>,
    /// When it was there, by the phone; milliseconds since 1970.
    pub(super) at_ms: i64,
    /// Since when it stands where it is, milliseconds since 1970.
    pub(super) standing_ms: i64,
    /// When it was heard, by the clock of who took it, milliseconds since 1970.
    pub(super) heard_ms: i64,
    pub(super) interval_ms: u32,
    pub(super) duty: Duty,
    /// Whether it has reported since it came.
    pub(super) reported: bool,
}

impl Record {
    pub(super) fn located(&self, driver: DriverId) -> Located {
        let time = |ms: i64| Timestamp::from_micros(ms * 1_000);
        let (at, heard) = (time(self.at_ms), time(self.heard_ms));
        Located { driver, place: self.place, heading: self.heading, at, heard, duty: self.duty }
    }

    /// Whether it may be offered rides.
    pub(super) fn is_free(&self, now_ms: i64) -> bool {
        self.duty == Duty::Free && !rules::is_silent(now_ms - self.heard_ms, i64::from(self.interval_ms))
    }

    pub(super) fn write(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.place.lat_e7().to_le_bytes());
        bytes[5..9].copy_from_slice(&self.place.lng_e7().to_le_bytes());
        bytes[9..11].copy_from_slice(&self.heading.unwrap_or(NO_HEADING).to_le_bytes());
        bytes[11..19].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[19..27].copy_from_slice(&self.standing_ms.to_le_bytes());
        bytes[27..35].copy_from_slice(&self.heard_ms.to_le_bytes());
        bytes[35..39].copy_from_slice(&self.interval_ms.to_le_bytes());
        bytes[39] = if self.duty == Duty::Busy { BUSY } else { 0 } + if self.reported { REPORTED } else { 0 };
        bytes
    }

    /// What was written; nothing where it is of a version that is not known here, as if the driver had not been heard yet.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok().filter(|bytes: &&[u8; SIZE]| bytes[0] == VERSION)?;
        let heading = u16::from_le_bytes(part(bytes, 9));
        Some(Self {
            place: Place::from_e7(i32::from_le_bytes(part(bytes, 1)), i32::from_le_bytes(part(bytes, 5))).ok()?,
            heading: (heading != NO_HEADING).then_some(heading),
            at_ms: i64::from_le_bytes(part(bytes, 11)),
            standing_ms: i64::from_le_bytes(part(bytes, 19)),
            heard_ms: i64::from_le_bytes(part(bytes, 27)),
            interval_ms: u32::from_le_bytes(part(bytes, 35)),
            duty: if bytes[39] & BUSY == 0 { Duty::Free } else { Duty::Busy },
            reported: bytes[39] & REPORTED != 0,
        })
    }
}

fn part<const N: usize>(bytes: &[u8; SIZE], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

/// Milliseconds since 1970.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}

/// An interval as it is kept.
pub(super) fn interval_ms(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_it_was() {
        let record = Record {
            place: Place::from_degrees(41.15, -8.61).unwrap(),
            heading: Some(90),
            at_ms: 1_800_000_000_000,
            standing_ms: 1_799_999_999_000,
            heard_ms: 1_800_000_002_000,
            interval_ms: 5_000,
            duty: Duty::Busy,
            reported: true,
        };
        let mut written = vec![2];
        written.extend(411_500_000_i32.to_le_bytes());
        written.extend((-86_100_000_i32).to_le_bytes());
        written.extend([90, 0]);
        written.extend(1_800_000_000_000_i64.to_le_bytes());
        written.extend(1_799_999_999_000_i64.to_le_bytes());
        written.extend(1_800_000_002_000_i64.to_le_bytes());
        written.extend([0x88, 0x13, 0, 0, 3]);
        assert_eq!(record.write().as_slice(), written);
        assert_eq!(Record::read(&written), Some(record));
        let unknown = Record { heading: None, duty: Duty::Free, ..record };
        assert_eq!(Record::read(&unknown.write()), Some(unknown));
        written[0] = 1;
        assert_eq!((Record::read(&written), Record::read(&[]), Record::read(&[1])), (None, None, None));
    }
}
