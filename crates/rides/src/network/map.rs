//! The network as a picture: its roads as lines, each once, and the box around them.

use tessera_kernel::Place;

use super::Network;
use crate::domain::traffic::RoadClass;

/// A stretch of road between two junctions.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// What sort of road.
    pub class: RoadClass,
    /// Number of the junction where its line begins.
    pub from: u32,
    /// Number of the junction where it ends.
    pub to: u32,
    /// Whether one may drive it from `to` to `from` as well.
    pub two_way: bool,
    /// Its points in the direction of travel.
    pub line: Vec<Place>,
}

/// A box on the earth that does not cross the 180th meridian; its sides belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least latitude, degrees.
    pub south: f64,
    /// The least longitude, degrees.
    pub west: f64,
    /// The greatest latitude, degrees.
    pub north: f64,
    /// The greatest longitude, degrees.
    pub east: f64,
}

impl Bounds {
    /// The whole earth.
    pub const EARTH: Self = Self { south: -90.0, west: -180.0, north: 90.0, east: 180.0 };

    /// Whether a place is inside.
    pub fn contains(&self, place: Place) -> bool {
        (self.south..=self.north).contains(&place.lat()) && (self.west..=self.east).contains(&place.lng())
    }

    /// The least box around some places; `None` around none.
    pub fn around(places: impl IntoIterator<Item = Place>) -> Option<Self> {
        places.into_iter().fold(None, |bounds: Option<Self>, place| {
            let (lat, lng) = (place.lat(), place.lng());
            Some(match bounds {
                None => Self { south: lat, west: lng, north: lat, east: lng },
                Some(known) => Self {
                    south: known.south.min(lat),
                    west: known.west.min(lng),
                    north: known.north.max(lat),
                    east: known.east.max(lng),
                },
            })
        })
    }
}

impl Network {
    /// Every stretch of road, one that is driven both ways once.
    pub fn roads(&self) -> impl Iterator<Item = Stretch> + '_ {
        let numbered = self.edges.iter().enumerate().map(|(number, edge)| (*edge, self.has_twin(number)));
        let once = numbered.filter(|(edge, two_way)| !(edge.against && *two_way));
        once.map(|(edge, two_way)| Stretch {
            class: edge.class,
            from: edge.from,
            to: edge.to,
            two_way,
            line: self.points(edge).collect(),
        })
    }
}
