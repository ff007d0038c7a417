//! A search for the nearest drivers in sets by area.

use h3o::CellIndex;
use tessera_kernel::Place;

use super::Near;
use super::cells::{cell_of, flat_m, middle_of, narrow_at};
use super::record::Record;
use crate::domain::area::area_of;
use crate::domain::ids::DriverId;

/// No point of an area is further than this from its middle, metres (the largest one's corner, and some room).
pub(super) const AREA_REACH_M: f64 = 1_850.0;
/// The furthest that is looked, in areas.
const MAX_RING: u32 = 64;

/// Who is near a place, as far as is known.
pub(super) struct Search {
    pub(super) place: Place,
    pub(super) most: usize,
    pub(super) radius_m: f64,
    pub(super) now_ms: i64,
    /// Nearest first.
    pub(super) near: Vec<Near>,
}

impl Search {
    /// The furthest that counts: where enough were found, as far as the last of them.
    pub(super) fn bound(&self) -> f64 {
        match self.near.last() {
            Some(last) if self.near.len() >= self.most => last.distance_m,
            _ => self.radius_m,
        }
    }

    /// The areas within the radius.
    pub(super) fn areas(&self) -> Vec<u64> {
        let narrow = narrow_at(self.place);
        let middle = CellIndex::try_from(area_of(self.place)).unwrap_or_else(|_| cell_of(self.place));
        let is_reached = |area: &CellIndex| {
            let far = middle_of(*area).map(|middle| flat_m(middle, self.place, narrow));
            far.is_some_and(|far| far <= self.radius_m + AREA_REACH_M)
        };
        let rings = (0..=MAX_RING).map(|ring| middle.grid_ring::<Vec<_>>(ring).into_iter().filter(is_reached));
        rings
            .map(|ring| ring.map(u64::from).collect())
            .take_while(|ring: &Vec<u64>| !ring.is_empty())
            .flatten()
            .collect()
    }

    /// Adds a driver who is near enough; one who is silent is not offered rides.
    pub(super) fn add(&mut self, driver: DriverId, record: &Record, fits: &impl Fn(DriverId) -> bool) {
        if !record.is_free(self.now_ms) {
            return;
        }
        let distance_m = flat_m(record.place, self.place, narrow_at(self.place));
        let is_known = self.near.iter().any(|near| near.driver == driver);
        if is_known || distance_m > self.bound() || !fits(driver) {
            return;
        }
        let behind = self.near.partition_point(|near| near.distance_m <= distance_m);
        self.near.insert(behind, Near { driver, place: record.place, distance_m });
        self.near.truncate(self.most);
    }
}
