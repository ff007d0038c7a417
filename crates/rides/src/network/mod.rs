//! The road network: imported from an OpenStreetMap extract, prepared once, loaded whole. Shortest paths by contraction
//! hierarchies.
//!
//! Turn restrictions and the time that a turn takes are not part of it. A path is the fastest at free flow; how long it takes
//! at an hour follows from its roads' classes ([`crate::domain::traffic`]).

mod file;
mod import;
mod map;
mod route;
mod snap;

use fast_paths::{FastGraph, InputGraph};
use serde::{Deserialize, Serialize};
use tessera_kernel::Place;

use crate::domain::traffic::RoadClass;

pub use file::FileError;
pub use import::{ImportError, Imported, PORTO, import, read};
pub use map::Stretch;
use route::Calculators;
pub use route::{Leg, Path};
use snap::Grid;
pub use snap::Snapped;

/// Milliseconds in an hour, times centimetres to kilometres: what turns length and speed into time.
const MS_CM_PER_KMH: u64 = 36;

/// A stretch of road in one direction, between two junctions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Number of the junction where it starts.
    from: u32,
    /// Number of the junction where it ends.
    to: u32,
    /// Its points in [`Network::shapes`], both ends included; read backwards where `against`.
    shape: u32,
    points: u32,
    against: bool,
    length_cm: u32,
    class: RoadClass,
    /// Free flow, km/h.
    speed: u8,
}

impl Edge {
    /// Time at free flow, milliseconds; at least 1.
    fn free_flow_ms(&self) -> u64 {
        (u64::from(self.length_cm) * MS_CM_PER_KMH / u64::from(self.speed.max(1))).max(1)
    }
}

/// A prepared network.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    /// Where its data comes from, to be shown with every map made of it.
    attribution: String,
    /// How many junctions there are.
    junctions: u32,
    /// By `from`, then `to`, then time.
    edges: Vec<Edge>,
    shapes: Vec<Place>,
    #[serde(serialize_with = "fast_paths::serialize_32", deserialize_with = "fast_paths::deserialize_32")]
    fast: FastGraph,
    #[serde(skip)]
    grid: Grid,
    #[serde(skip)]
    calculators: Calculators,
}

impl Network {
    /// Prepares it. The edges may come in any order, and must be of one strongly connected piece.
    fn prepare(attribution: String, junctions: u32, mut edges: Vec<Edge>, shapes: Vec<Place>) -> Self {
        edges.sort_by_key(|edge| (edge.from, edge.to, edge.free_flow_ms()));
        let mut input = InputGraph::new();
        for edge in &edges {
            if edge.from != edge.to {
                input.add_edge(edge.from as usize, edge.to as usize, edge.free_flow_ms() as usize);
            }
        }
        input.freeze();
        let fast = fast_paths::prepare(&input);
        let mut network = Self {
            attribution,
            junctions,
            edges,
            shapes,
            fast,
            grid: Grid::default(),
            calculators: Calculators::default(),
        };
        network.index();
        network
    }

    /// Makes what is not stored.
    fn index(&mut self) {
        self.grid = Grid::of(self);
    }

    /// Where its data comes from; to be shown beside every map and in every answer that a licence asks it for.
    pub fn attribution(&self) -> &str {
        &self.attribution
    }

    /// How many junctions it has.
    pub fn junctions(&self) -> usize {
        self.junctions as usize
    }

    /// How many directed stretches of road it has.
    pub fn stretches(&self) -> usize {
        self.edges.len()
    }

    /// The points of an edge in the direction of travel.
    fn points(&self, edge: Edge) -> impl DoubleEndedIterator<Item = Place> + Clone + '_ {
        let points = &self.shapes[edge.shape as usize..(edge.shape + edge.points) as usize];
        (0..points.len()).map(move |at| if edge.against { points[points.len() - 1 - at] } else { points[at] })
    }

    /// The edges from one junction to another, the quickest first.
    fn between(&self, from: u32, to: u32) -> &[Edge] {
        let start = self.edges.partition_point(|edge| (edge.from, edge.to) < (from, to));
        let end = self.edges.partition_point(|edge| (edge.from, edge.to) <= (from, to));
        &self.edges[start..end]
    }

    /// The number of the edge that runs the other way over the same points.
    fn twin(&self, number: usize) -> Option<usize> {
        let edge = &self.edges[number];
        let start = self.edges.partition_point(|other| (other.from, other.to) < (edge.to, edge.from));
        let others = self.between(edge.to, edge.from).iter().enumerate();
        others
            .filter(|(_, other)| other.shape == edge.shape && other.against != edge.against)
            .map(|(at, _)| start + at)
            .next()
    }

    fn has_twin(&self, number: usize) -> bool {
        self.twin(number).is_some()
    }
}

#[cfg(test)]
mod tests;
