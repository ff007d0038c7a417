//! The fastest way from one place on the network to another.

use std::sync::{Mutex, PoisonError};

use fast_paths::PathCalculator;
use tessera_kernel::Place;

use super::{Network, Snapped};
use crate::domain::traffic::Conditions;

/// Part of an edge that is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    edge: u32,
    from_cm: u32,
    to_cm: u32,
}

/// A way through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    legs: Vec<Leg>,
}

/// Scratch space of searches, used again: making it costs more than a search.
#[derive(Default)]
pub(super) struct Calculators(Mutex<Vec<PathCalculator>>);

impl std::fmt::Debug for Calculators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calculators")
    }
}

impl Network {
    /// The fastest way at free flow; `None` where there is none.
    pub fn path(&self, from: Snapped, to: Snapped) -> Option<Path> {
        if let Some(leg) = self.along_one_road(from, to) {
            return Some(Path { legs: vec![leg] });
        }
        let starts = self.ways_off(from);
        let ends = self.ways_onto(to);
        let weighed = |ways: &[(u32, Leg)]| {
            ways.iter()
                .map(|(junction, leg)| (*junction as usize, self.free_flow_ms(*leg) as usize))
                .collect::<Vec<_>>()
        };
        let found = self.with_calculator(|calculator| {
            calculator.calc_path_multiple_sources_and_targets(&self.fast, weighed(&starts), weighed(&ends))
        })?;
        let nodes = found.get_nodes();
        let cheapest = |ways: &[(u32, Leg)], junction: Option<&usize>| {
            let fit = ways.iter().filter(|(at, _)| Some(*at as usize) == junction.copied());
            fit.min_by_key(|(_, leg)| self.free_flow_ms(*leg)).map(|(_, leg)| *leg)
        };
        let mut legs = Vec::with_capacity(nodes.len() + 1);
        legs.push(cheapest(&starts, nodes.first())?);
        for pair in nodes.windows(2) {
            let (from, to) = (pair[0] as u32, pair[1] as u32);
            let number = self.edges.partition_point(|edge| (edge.from, edge.to) < (from, to));
            legs.push(Leg { edge: number as u32, from_cm: 0, to_cm: self.edges.get(number)?.length_cm });
        }
        legs.push(cheapest(&ends, nodes.last())?);
        legs.retain(|leg| leg.to_cm > leg.from_cm);
        Some(Path { legs })
    }

    /// The length of a way, metres.
    pub fn length_m(&self, path: &Path) -> f64 {
        path.legs.iter().map(|leg| f64::from(leg.to_cm - leg.from_cm)).sum::<f64>() / 100.0
    }

    /// How long it takes, seconds.
    pub fn seconds(&self, path: &Path, conditions: &Conditions<'_>) -> f64 {
        let millis =
            path.legs.iter().map(|leg| conditions.millis(self.edges[leg.edge as usize].class, self.free_flow_ms(*leg)));
        millis.sum::<f64>() / 1_000.0
    }

    /// The points of a way, its ends included.
    pub fn line(&self, path: &Path) -> Vec<Place> {
        let mut line: Vec<Place> = Vec::new();
        for leg in &path.legs {
            self.draw(*leg, &mut line);
        }
        line
    }

    /// How many seconds it takes from each place to one; `None` where there is no way, or no road.
    pub fn table(&self, from: &[Option<Snapped>], to: Snapped, conditions: &Conditions<'_>) -> Vec<Option<f64>> {
        from.iter().map(|from| Some(self.seconds(&self.path((*from)?, to)?, conditions))).collect()
    }

    fn with_calculator<T>(&self, work: impl FnOnce(&mut PathCalculator) -> T) -> T {
        let kept = self.calculators.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut calculator = kept.unwrap_or_else(|| fast_paths::create_calculator(&self.fast));
        let done = work(&mut calculator);
        self.calculators.0.lock().unwrap_or_else(PoisonError::into_inner).push(calculator);
        done
    }

    fn free_flow_ms(&self, leg: Leg) -> u64 {
        let edge = &self.edges[leg.edge as usize];
        edge.free_flow_ms() * u64::from(leg.to_cm - leg.from_cm) / u64::from(edge.length_cm.max(1))
    }

    /// The same place on the edge that runs the other way.
    fn other_side(&self, at: Snapped) -> Option<(u32, u32)> {
        let twin = self.twin(at.edge as usize)?;
        let length = self.edges[twin].length_cm;
        Some((twin as u32, length - at.along_cm.min(length)))
    }

    /// The way between two places of one road, if the second lies ahead of the first.
    fn along_one_road(&self, from: Snapped, to: Snapped) -> Option<Leg> {
        if from.edge != to.edge {
            return None;
        }
        if to.along_cm >= from.along_cm {
            return Some(Leg { edge: from.edge, from_cm: from.along_cm, to_cm: to.along_cm });
        }
        let ((edge, from_cm), (_, to_cm)) = (self.other_side(from)?, self.other_side(to)?);
        Some(Leg { edge, from_cm, to_cm })
    }

    /// The junctions that are next from a place, and the way there.
    fn ways_off(&self, at: Snapped) -> Vec<(u32, Leg)> {
        let ahead = |edge: u32, along: u32| {
            let end = &self.edges[edge as usize];
            (end.to, Leg { edge, from_cm: along, to_cm: end.length_cm })
        };
        let mut ways = vec![ahead(at.edge, at.along_cm)];
        ways.extend(self.other_side(at).map(|(edge, along)| ahead(edge, along)));
        ways
    }

    /// The junctions from which a place is next, and the way from there.
    fn ways_onto(&self, at: Snapped) -> Vec<(u32, Leg)> {
        let behind = |edge: u32, along: u32| (self.edges[edge as usize].from, Leg { edge, from_cm: 0, to_cm: along });
        let mut ways = vec![behind(at.edge, at.along_cm)];
        ways.extend(self.other_side(at).map(|(edge, along)| behind(edge, along)));
        ways
    }

    /// Adds a leg's points to a line.
    fn draw(&self, leg: Leg, line: &mut Vec<Place>) {
        let edge = &self.edges[leg.edge as usize];
        let (start, end) = (f64::from(leg.from_cm) / 100.0, f64::from(leg.to_cm) / 100.0);
        let mut add = |place: Place| {
            if line.last() != Some(&place) {
                line.push(place);
            }
        };
        let between = |from: Place, to: Place, share: f64| {
            let lat = from.lat() + share * (to.lat() - from.lat());
            let lng = from.lng() + share * (to.lng() - from.lng());
            Place::from_degrees(lat, lng).unwrap_or(from)
        };
        let mut walked = 0.0;
        let points = self.points(*edge);
        for (from, to) in points.clone().zip(points.skip(1)) {
            let long = from.distance_m(to);
            let share = |at: f64| if long > 0.0 { ((at - walked) / long).clamp(0.0, 1.0) } else { 0.0 };
            if walked + long >= start && walked <= end {
                add(between(from, to, share(start)));
                add(between(from, to, share(end)));
            }
            walked += long;
        }
    }
}
