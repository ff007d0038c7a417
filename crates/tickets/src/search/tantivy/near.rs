//! How far the venues of a segment are from a place. Each venue is looked at once for a query, however many of its events
//! pass by; and by its point on the unit sphere, where nearness is a subtraction: the square of half the straight line
//! through the earth is the haversine.

use tantivy::DocId;
use tantivy::columnar::ColumnValues;
use tessera_kernel::{EARTH_RADIUS_M, Place};

use super::numbers::{Numbers, Stored};
use super::schema;

/// Further than anything on the earth.
const NOWHERE: u32 = u32::MAX - 1;
/// So near the edge, as a part of the haversine, the exact distance decides. Rounding errors are far below.
const NEAR_EDGE: f64 = 1e-6;
/// So far round the earth, as a haversine, the exact distance decides: there, rounding errors are not small.
const FAR: f64 = 0.99;
/// So near a whole number of metres the exact distance decides which it is.
const NEAR_METRE: f64 = 1e-3;

/// The venues of a segment.
pub(super) struct Venues {
    /// For each document the number of its venue.
    numbers: Numbers,
    spots: Vec<Option<Spot>>,
}

/// A place, and its point on the unit sphere.
#[derive(Clone, Copy)]
struct Spot {
    place: Place,
    point: [f64; 3],
}

impl Spot {
    fn new(place: Place) -> Self {
        let (lat, lng) = (place.lat().to_radians(), place.lng().to_radians());
        Self { place, point: [lat.cos() * lng.cos(), lat.cos() * lng.sin(), lat.sin()] }
    }

    /// The haversine of the angle between them.
    fn haversine(&self, other: &Self) -> f64 {
        let [x, y, z] = std::array::from_fn(|axis| (self.point[axis] - other.point[axis]) / 2.0);
        x * x + y * y + z * z
    }
}

impl Venues {
    /// So many, by the columns of their numbers and places. A venue is where the first of its events says.
    pub(super) fn read(count: usize, venues: Stored, lat: &dyn ColumnValues<u64>, lng: &dyn ColumnValues<u64>) -> Self {
        let numbers = Numbers::read(venues);
        let mut seen = vec![false; count];
        let mut spots = vec![None; count];
        for doc in 0..lat.num_vals() {
            let venue = numbers.get(doc) as usize;
            if let (Some(seen), Some(spot)) = (seen.get_mut(venue), spots.get_mut(venue))
                && !std::mem::replace(seen, true)
            {
                *spot = schema::read_place(lat.get_val(doc), lng.get_val(doc)).map(Spot::new);
            }
        }
        Self { numbers, spots }
    }
}

/// Distances of a segment's venues from one place.
pub(super) struct Distances<'s> {
    venues: &'s Venues,
    middle: Option<Spot>,
    radius_m: u32,
    /// The haversine of the radius.
    edge: f64,
    /// By the venue's number: whether it is inside, where somebody asked.
    inside: Vec<Inside>,
    /// By the venue's number: metres and one, or zero while nobody has asked.
    metres: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Unknown,
    No,
    Yes,
}

impl<'s> Distances<'s> {
    /// From `middle`. `measured` says whether metres will be asked for, or only what is inside the radius.
    pub(super) fn new(venues: &'s Venues, middle: Option<Place>, radius_m: Option<u32>, measured: bool) -> Self {
        let radius = radius_m.unwrap_or(0);
        let angle = (f64::from(radius) / EARTH_RADIUS_M).min(std::f64::consts::PI);
        let edge = (angle / 2.0).sin().powi(2);
        let counted = |wanted: bool| if wanted { venues.spots.len() } else { 0 };
        Self {
            venues,
            middle: middle.map(Spot::new),
            radius_m: radius,
            edge,
            inside: vec![Inside::Unknown; counted(radius_m.is_some() && !measured)],
            metres: vec![0; counted(measured)],
        }
    }

    /// Whether a document's venue is within the radius, edge included.
    pub(super) fn is_inside(&mut self, doc: DocId) -> bool {
        if !self.metres.is_empty() {
            return self.metres(doc) <= self.radius_m;
        }
        let venue = self.venues.numbers.get(doc) as usize;
        match self.inside.get(venue) {
            Some(Inside::Yes) => return true,
            Some(Inside::No) => return false,
            Some(Inside::Unknown) | None => {}
        }
        let spot = self.venues.spots.get(venue).copied().flatten();
        let is_inside = self.middle.zip(spot).is_some_and(|(middle, spot)| {
            let haversine = middle.haversine(&spot);
            match (haversine - self.edge).abs() <= self.edge * NEAR_EDGE {
                true => rounded_up(middle.place.distance_m(spot.place)) <= u64::from(self.radius_m),
                false => haversine < self.edge,
            }
        });
        if let Some(known) = self.inside.get_mut(venue) {
            *known = if is_inside { Inside::Yes } else { Inside::No };
        }
        is_inside
    }

    /// Whole metres to a document's venue, rounded up, so that comparing them with a radius is exact; [`NOWHERE`] where
    /// it has no place.
    pub(super) fn metres(&mut self, doc: DocId) -> u32 {
        let venue = self.venues.numbers.get(doc) as usize;
        match self.metres.get(venue) {
            Some(0) | None => {}
            Some(known) => return known - 1,
        }
        let spot = self.venues.spots.get(venue).copied().flatten();
        let metres = self.middle.zip(spot).map_or(NOWHERE, |(middle, spot)| {
            let haversine = middle.haversine(&spot);
            let about = 2.0 * EARTH_RADIUS_M * haversine.sqrt().min(1.0).asin();
            let exact = match haversine > FAR || (about - about.round()).abs() < NEAR_METRE {
                true => middle.place.distance_m(spot.place),
                false => about,
            };
            u32::try_from(rounded_up(exact)).unwrap_or(NOWHERE).min(NOWHERE)
        });
        if let Some(known) = self.metres.get_mut(venue) {
            *known = metres + 1;
        }
        metres
    }
}

/// At most half round the earth, so it fits.
pub(super) fn rounded_up(metres: f64) -> u64 {
    metres.ceil() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the sphere says is what the exact distance says.
        #[test]
        fn haversines_are_those_of_the_distance(
            lat in -90.0..=90.0_f64, lng in -180.0..=180.0_f64,
            dlat in -90.0..90.0_f64, dlng in -180.0..180.0_f64, power in 0..7_i32,
        ) {
            let scale = 10_f64.powi(-power);
            let one = Place::from_degrees(lat, lng).unwrap();
            let lng = (lng + dlng * scale + 540.0).rem_euclid(360.0) - 180.0;
            let two = Place::from_degrees((lat + dlat * scale).clamp(-90.0, 90.0), lng).unwrap();
            let exact = one.distance_m(two);
            let haversine = Spot::new(one).haversine(&Spot::new(two));
            let of_exact = (exact / EARTH_RADIUS_M / 2.0).sin().powi(2);
            prop_assert!((haversine - of_exact).abs() <= of_exact * 1e-8 + 1e-18, "{haversine} {of_exact}");
        }
    }
}
