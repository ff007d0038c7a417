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
