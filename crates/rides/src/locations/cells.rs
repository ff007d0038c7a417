//! Cells of the earth (H3) and distances between near places.

use h3o::{CellIndex, LatLng, Resolution};
use tessera_kernel::Place;

/// Of the cells in which drivers are counted in Redis: about 0.7 km².
const RESOLUTION: Resolution = Resolution::Eight;
/// Metres in a degree of latitude.
pub(super) const METRES: f64 = 111_195.0;

pub(super) fn cell_of(place: Place) -> CellIndex {
    let at = LatLng::new(place.lat(), place.lng());
    // A place is on the earth.
    at.map_or_else(|_| CellIndex::first(RESOLUTION), |at| at.to_cell(RESOLUTION))
}

pub(super) fn middle_of(index: CellIndex) -> Option<Place> {
    let middle = LatLng::from(index);
    Place::from_degrees(middle.lat(), middle.lng()).ok()
}

/// How much narrower a degree of longitude is there than at the equator.
pub(super) fn narrow_at(place: Place) -> f64 {
    place.lat().to_radians().cos()
}

/// Metres between two near places, as on a plane.
pub(super) fn flat_m(one: Place, other: Place, narrow: f64) -> f64 {
    squared_m(one.lat_e7(), one.lng_e7(), other, narrow).sqrt()
}

/// The square of that, which costs less, from a latitude and a longitude in units of 1e-7 degree.
pub(super) fn squared_m(lat: i32, lng: i32, other: Place, narrow: f64) -> f64 {
    let turn = 3_600_000_000_i64;
    let mut across = i64::from(lng) - i64::from(other.lng_e7());
    // The short way around.
    if across.abs() > turn / 2 {
        across -= turn * across.signum();
    }
    let (up, across) = (f64::from(lat) - f64::from(other.lat_e7()), across as f64 * narrow);
    (up * up + across * across) * (METRES / 1e7) * (METRES / 1e7)
}
