//! Positions in the compact form (docs/rides.md).

use tessera_kernel::{Place, Timestamp};
use tessera_rides::domain::ids::DriverId;

/// Its media type.
pub const KIND: &str = "application/octet-stream";
/// Its version.
const VERSION: u8 = 1;
/// How long a position is.
const SIZE_BYTES: usize = 34;
/// Stands for no heading.
const NO_HEADING: u16 = u16::MAX;

/// Who is where and drives where to, all at one moment.
pub fn positions(all: impl ExactSizeIterator<Item = (DriverId, Place, Option<u16>)>, at: Timestamp) -> Vec<u8> {
    let mut body = Vec::with_capacity(1 + all.len() * SIZE_BYTES);
    body.push(VERSION);
    let at_ms = (at.micros() / 1_000).unsigned_abs();
    for (driver, place, heading) in all {
        body.extend(driver.uuid().as_bytes());
        body.extend(place.lat_e7().to_le_bytes());
        body.extend(place.lng_e7().to_le_bytes());
        body.extend(heading.unwrap_or(NO_HEADING).to_le_bytes());
        body.extend(at_ms.to_le_bytes());
    }
    body
}
