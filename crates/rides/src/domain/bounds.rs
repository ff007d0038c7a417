//! Rectangles of the map.

use tessera_kernel::Place;

/// A rectangle of the map. Where west is greater than east it reaches over the date line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least latitude and the western longitude.
    pub south_west: Place,
    /// The greatest latitude and the eastern longitude.
    pub north_east: Place,
}

impl Bounds {
    /// Whether a place is inside.
    pub fn contains(&self, place: Place) -> bool {
        let (low, high) = (self.south_west, self.north_east);
        let (west, east, lng) = (low.lng_e7(), high.lng_e7(), place.lng_e7());
        let between = if west <= east { (west..=east).contains(&lng) } else { lng >= west || lng <= east };
        between && (low.lat_e7()..=high.lat_e7()).contains(&place.lat_e7())
    }

    /// About how far a place is outside, metres.
    pub fn distance_m(&self, place: Place) -> f64 {
        if self.contains(place) {
            return 0.0;
        }
        let (low, high) = (self.south_west, self.north_east);
        let lat = place.lat().clamp(low.lat(), high.lat());
        let level = |lng: f64| Place::from_degrees(lat, lng).map_or(f64::MAX, |edge| edge.distance_m(place));
        let above = Place::from_degrees(lat, place.lng()).ok().filter(|above| self.contains(*above));
        above.map_or_else(|| level(low.lng()).min(level(high.lng())), |above| above.distance_m(place))
    }

    /// The least rectangle around some places, not over the date line; `None` around none.
    pub fn around(places: impl IntoIterator<Item = Place>) -> Option<Self> {
        places.into_iter().fold(None, |known, place| {
            let Self { south_west: low, north_east: high } =
                known.unwrap_or(Self { south_west: place, north_east: place });
            let corner = |lat: i32, lng: i32| Place::from_e7(lat, lng).ok();
            Some(Self {
                south_west: corner(low.lat_e7().min(place.lat_e7()), low.lng_e7().min(place.lng_e7()))?,
                north_east: corner(high.lat_e7().max(place.lat_e7()), high.lng_e7().max(place.lng_e7()))?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: f64, lng: f64) -> Place {
        Place::from_degrees(lat, lng).unwrap()
    }

    #[test]
    fn the_least_around_some_places_has_all_of_them() {
        let bounds = Bounds::around([place(0.0, 0.01), place(-0.01, 0.0), place(-0.005, 0.004)]).unwrap();
        assert_eq!(bounds, Bounds { south_west: place(-0.01, 0.0), north_east: place(0.0, 0.01) });
        assert!(bounds.contains(place(-0.01, 0.01)) && !bounds.contains(place(0.001, 0.0)));
        assert_eq!(Bounds::around([]), None);
    }

    #[test]
    fn it_may_reach_over_the_date_line() {
        let bounds = Bounds { south_west: place(-1.0, 179.0), north_east: place(1.0, -179.0) };
        assert!(bounds.contains(place(0.0, 179.5)) && bounds.contains(place(0.0, -179.5)));
        assert!(!bounds.contains(place(0.0, 0.0)));
    }
}
