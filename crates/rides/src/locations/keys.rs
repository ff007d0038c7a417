//! Names of what is kept in Redis, and the commands on it.

use h3o::{CellIndex, Resolution};
use tessera_kernel::{Place, Uuid};
use tessera_store::redis::Cmd;

use super::PARTS;
use crate::domain::ids::DriverId;

/// The areas in use.
pub(super) const AREAS: &str = "rides:areas";
/// How many free drivers were counted, and that somebody counts or did a moment ago.
pub(super) const COUNTED: &str = "rides:{free}counted";
pub(super) const COUNTING: &str = "rides:{free}counting";
/// The radius of the earth differs by 0.03 % from ours, and a GEO set keeps places to less than a metre.
const SLACK: f64 = 1.001;
/// The same, for what is near, metres.
const SLACK_M: f64 = 2.0;
/// GEO sets end here.
const MOST_LATITUDE: f64 = 85.05;

/// What a distance may be in a GEO set.
pub(super) fn at_the_most(metres: f64) -> f64 {
    metres * SLACK + SLACK_M
}

/// The members of an area's GEO set around a place, nearest first, with their distances in metres.
pub(super) fn around(area: u64, place: Place, radius_m: f64, count: usize) -> Cmd {
    let mut ask = command("GEOSEARCH", &free(area));
    ask.arg("FROMLONLAT").arg(place.lng()).arg(latitude(place));
    ask.arg("BYRADIUS").arg(at_the_most(radius_m)).arg("m");
    ask.arg("ASC").arg("COUNT").arg(count).arg("WITHDIST");
    ask
}

/// Takes a driver out of a set.
pub(super) fn out_of(key: String, driver: DriverId) -> Cmd {
    let mut ask = command("ZREM", &key);
    ask.arg(driver.uuid().as_bytes());
    ask
}

pub(super) fn command(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(key);
    command
}

/// The free drivers of an area.
pub(super) fn free(area: u64) -> String {
    format!("rides:{{{area:x}}}free")
}

/// The drivers of an area by cell.
pub(super) fn all(area: u64) -> String {
    format!("rides:{{{area:x}}}all")
}

/// The records of a part.
pub(super) fn key_of(part: usize) -> String {
    format!("rides:{{d{part}}}")
}

/// Which part a driver's record is in.
pub(super) fn part_of(driver: DriverId) -> usize {
    let (high, low) = driver.uuid().as_u64_pair();
    // Ids need not be random, so that their bits are mixed first.
    let mixed = (high ^ low.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize % PARTS
}

/// Where the drivers of a cell are counted, and the cell's number there.
pub(super) fn counted_in(cell: CellIndex) -> (u64, u64) {
    let area = cell.parent(Resolution::Seven).unwrap_or(cell);
    (area.into(), cell.child_position(Resolution::Seven).unwrap_or_default())
}

pub(super) fn latitude(place: Place) -> f64 {
    place.lat().clamp(-MOST_LATITUDE, MOST_LATITUDE)
}

pub(super) fn id_of(member: &[u8]) -> Option<DriverId> {
    Uuid::from_slice(member).ok().map(DriverId::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cells::{cell_of, flat_m, middle_of, narrow_at};
    use super::super::search::AREA_REACH_M;
    use super::*;
    use crate::domain::area::area_of;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// What the search leaves out is out of reach, and what is counted beside an area is near it.
        #[test]
        fn no_place_is_far_from_the_middle_of_its_area(lat in -80.0..80.0f64, lng in -180.0..180.0f64) {
            let place = Place::from_degrees(lat, lng).unwrap();
            let far = |area: u64| {
                let middle = CellIndex::try_from(area).ok().and_then(middle_of).unwrap();
                flat_m(middle, place, narrow_at(place))
            };
            prop_assert!(far(area_of(place)) <= AREA_REACH_M);
            let (area, number) = counted_in(cell_of(place));
            prop_assert!(far(area) <= AREA_REACH_M * 1.5 && number < 7);
        }
    }
}
