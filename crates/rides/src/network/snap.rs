//! The nearest road to a place.

use std::collections::HashMap;

use tessera_kernel::Place;

use super::Network;

/// Squares of the grid in a degree: about 220 m from south to north.
const PER_DEGREE: f64 = 512.0;
/// Metres in a degree of latitude.
const METRES: f64 = 111_195.0;
/// How far a road may be, metres. Further off, a car cannot come.
pub const REACH_M: f64 = 2_000.0;

/// A place on a road.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapped {
    /// Number of the edge.
    pub(super) edge: u32,
    /// How far along it, centimetres.
    pub(super) along_cm: u32,
    /// Where that is.
    pub place: Place,
    /// How far from what was asked for, metres.
    pub off_m: f64,
}

/// Which edges touch which square. Of two edges over the same points only one is here.
#[derive(Debug, Default)]
pub(super) struct Grid(HashMap<(i32, i32), Vec<u32>>);

fn square(place: Place) -> (i32, i32) {
    ((place.lat() * PER_DEGREE).floor() as i32, (place.lng() * PER_DEGREE).floor() as i32)
}

impl Grid {
    pub(super) fn of(network: &Network) -> Self {
        let mut squares: HashMap<(i32, i32), Vec<u32>> = HashMap::new();
        for (number, edge) in network.edges.iter().enumerate() {
            if edge.against && network.has_twin(number) {
                continue;
            }
            let mut before: Option<(i32, i32)> = None;
            for place in network.points(*edge) {
                let here = square(place);
                let last = before.replace(here).unwrap_or(here);
                for lat in last.0.min(here.0)..=last.0.max(here.0) {
                    for lng in last.1.min(here.1)..=last.1.max(here.1) {
                        let edges = squares.entry((lat, lng)).or_default();
                        if edges.last() != Some(&(number as u32)) {
                            edges.push(number as u32);
                        }
                    }
                }
            }
        }
        Self(squares)
    }
}

impl Network {
    /// The nearest place on a road within 2 km.
    pub fn snap(&self, place: Place) -> Option<Snapped> {
        let (row, column) = square(place);
        let narrow = place.lat().to_radians().cos().max(0.01);
        let side_m = METRES / PER_DEGREE * narrow;
        let mut best: Option<Snapped> = None;
        for ring in 0.. {
            // What lies in this ring is at least so far away.
            let least = f64::from(ring - 1) * side_m;
            if least > best.map_or(REACH_M, |best| best.off_m) {
                break;
            }
            for (lat, lng) in ring_of(row, column, ring) {
                for number in self.grid.0.get(&(lat, lng)).into_iter().flatten() {
                    let found = self.project(place, *number, narrow);
                    if best.is_none_or(|best| found.off_m < best.off_m) {
                        best = Some(found);
                    }
                }
            }
        }
        best.filter(|best| best.off_m <= REACH_M)
    }

    /// The point of an edge that is nearest to a place, on a plane that touches the earth there.
    fn project(&self, place: Place, number: u32, narrow: f64) -> Snapped {
        let edge = &self.edges[number as usize];
        let flat = |point: Place| ((point.lng() - place.lng()) * narrow * METRES, (point.lat() - place.lat()) * METRES);
        let (mut walked, mut best) = (0.0, (f64::INFINITY, 0.0, place));
        let points = self.points(*edge);
        for (start, end) in points.clone().zip(points.skip(1)) {
            let ((ax, ay), (bx, by)) = (flat(start), flat(end));
            let (dx, dy) = (bx - ax, by - ay);
            let long = dx.hypot(dy);
            let share = if long > 0.0 { (-(ax * dx + ay * dy) / (long * long)).clamp(0.0, 1.0) } else { 0.0 };
            let off = (ax + share * dx).hypot(ay + share * dy);
            if off < best.0 {
                let lat = start.lat() + share * (end.lat() - start.lat());
                let lng = start.lng() + share * (end.lng() - start.lng());
                best = (off, walked + share * long, Place::from_degrees(lat, lng).unwrap_or(start));
            }
            walked += long;
        }
        // The plane's lengths differ a little from the sphere's: the share of the way is what holds.
        let share = if walked > 0.0 { best.1 / walked } else { 0.0 };
        let along_cm = (share * f64::from(edge.length_cm)) as u32;
        Snapped { edge: number, along_cm: along_cm.min(edge.length_cm), place: best.2, off_m: best.0 }
    }
}

/// The squares whose greater distance from the middle, in rows or columns, is `ring`.
fn ring_of(row: i32, column: i32, ring: i32) -> impl Iterator<Item = (i32, i32)> {
    (-ring..=ring).flat_map(move |up| {
        let whole = up.abs() == ring;
        let step = if whole { 1 } else { (2 * ring).max(1) };
        (-ring..=ring).step_by(step as usize).map(move |right| (row + up, column + right))
    })
}
