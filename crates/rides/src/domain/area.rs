//! Areas: H3 cells of resolution 7 (about 5 km²). Each has a line of waiting rides, a price multiple and one matcher.

use h3o::{CellIndex, LatLng, Resolution};
use tessera_kernel::Place;

/// The area of a place.
pub fn area_of(place: Place) -> u64 {
    // A place is on the earth.
    LatLng::new(place.lat(), place.lng()).map_or(0, |at| u64::from(at.to_cell(Resolution::Seven)))
}

/// Its corners, for a map; none where it is not an area.
pub fn corners(area: u64) -> Vec<Place> {
    let Ok(cell) = CellIndex::try_from(area) else { return Vec::new() };
    cell.boundary().iter().filter_map(|corner| Place::from_degrees(corner.lat(), corner.lng()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_six_corners_around_its_places() {
        let porto = Place::from_degrees(41.15, -8.61).unwrap();
        let corners = corners(area_of(porto));
        assert_eq!(corners.len(), 6);
        assert!(corners.iter().all(|corner| corner.distance_m(porto) < 4_000.0));
        assert!(super::corners(7).is_empty());
    }
}
