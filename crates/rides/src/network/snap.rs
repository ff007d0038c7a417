//! The nearest road to a place.

use std::collections::HashMap;
use std::ops::RangeInclusive;

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

/// Towards the poles degrees of longitude narrow; from here on, where no road is, they are taken as no narrower.
const NARROWEST: f64 = 0.01;

/// Which edges touch which square. Of two edges over the same points only one is here.
#[derive(Debug)]
pub(super) struct Grid {
    squares: HashMap<(i32, i32), Vec<u32>>,
    /// From the southernmost to the northernmost square with a road, and from the westernmost to the easternmost.
    rows: RangeInclusive<i32>,
    columns: RangeInclusive<i32>,
}

impl Default for Grid {
    /// Without any road.
    fn default() -> Self {
        Self { squares: HashMap::new(), rows: NOWHERE, columns: NOWHERE }
    }
}

/// No square.
const NOWHERE: RangeInclusive<i32> = RangeInclusive::new(1, 0);

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
        let of = |line: fn(&(i32, i32)) -> i32| {
            let lines = || squares.keys().map(line);
            lines().min().zip(lines().max()).map_or(NOWHERE, |(first, last)| first..=last)
        };
        let (rows, columns) = (of(|square| square.0), of(|square| square.1));
        Self { squares, rows, columns }
    }

    /// The squares of a ring around one, as far as there may be a road: those up to `ring` rows and `ring * wide` columns away that
    /// are in no ring before.
    fn ring(&self, (row, column): (i32, i32), ring: i32, wide: i32) -> impl Iterator<Item = (i32, i32)> + '_ {
        let (out, inside) = (ring * wide, (ring - 1) * wide);
        cut(row - ring..=row + ring, &self.rows).flat_map(move |at| {
            let spans = match (at - row).abs() == ring {
                true => [column - out..=column + out, NOWHERE],
                false => [column - out..=column - inside - 1, column + inside + 1..=column + out],
            };
            spans.into_iter().flat_map(move |span| cut(span, &self.columns)).map(move |column| (at, column))
        })
    }
}

/// What two spans have in common.
fn cut(span: RangeInclusive<i32>, within: &RangeInclusive<i32>) -> RangeInclusive<i32> {
    *span.start().max(within.start())..=*span.end().min(within.end())
}

/// The rings around a place: how many squares they are wide for each that they are high, so that a ring is about as many metres to
/// each side, and how many metres that is at least.
fn shape_at(narrow: f64) -> (i32, f64) {
    let wide = (1.0 / narrow).floor();
    (wide as i32, METRES / PER_DEGREE * narrow * wide)
}

impl Network {
    /// The nearest place on a road within 2 km.
    pub fn snap(&self, place: Place) -> Option<Snapped> {
        let here = square(place);
        let narrow = place.lat().to_radians().cos().max(NARROWEST);
        let (wide, side_m) = shape_at(narrow);
        let mut best: Option<Snapped> = None;
        for ring in 0.. {
            // What lies in this ring is at least so far away.
            let least = f64::from(ring - 1) * side_m;
            if least > best.map_or(REACH_M, |best| best.off_m) {
                break;
            }
            for square in self.grid.ring(here, ring, wide) {
                for number in self.grid.squares.get(&square).into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many squares are looked at for a place without a road near it.
    fn looks(grid: &Grid, place: Place) -> usize {
        let (wide, side_m) = shape_at(place.lat().to_radians().cos().max(NARROWEST));
        let rings = (0..).take_while(|ring| f64::from(ring - 1) * side_m <= REACH_M);
        rings.map(|ring| grid.ring(square(place), ring, wide).count()).sum()
    }

    fn grid(rows: RangeInclusive<i32>, columns: RangeInclusive<i32>) -> Grid {
        Grid { squares: HashMap::new(), rows, columns }
    }

    #[test]
    fn few_squares_are_looked_at_wherever_it_is() {
        let all = grid(i32::MIN / 2..=i32::MAX / 2, i32::MIN / 2..=i32::MAX / 2);
        let city = grid(square(Place::from_degrees(41.1, -8.7).unwrap()).0..=21_100, -4_460..=-4_400);
        for (lat, most) in [(0.0, 500), (41.0, 1_000), (59.9, 1_600), (80.0, 3_000), (89.0, 30_000), (90.0, 50_000)] {
            let place = Place::from_degrees(lat, 12.0).unwrap();
            let count = looks(&all, place);
            assert!(count <= most, "{count} at {lat}");
            assert_eq!(looks(&city, place), 0, "far from all roads");
        }
        assert_eq!(looks(&Grid::default(), Place::from_degrees(41.0, 0.0).unwrap()), 0);
    }

    proptest! {
        /// Each square is in one ring, and one that is left out is out of reach.
        #[test]
        fn rings_are_all_squares_around(lat in -89.9..89.9_f64, up in -30..30_i32, right in -3_000..3_000_i32) {
            let place = Place::from_degrees(lat, 12.0).unwrap();
            let narrow = place.lat().to_radians().cos().max(NARROWEST);
            let (wide, side_m) = shape_at(narrow);
            let here = square(place);
            let there = (here.0 + up, here.1 + right);
            let only = grid(there.0..=there.0, there.1..=there.1);
            let rings: Vec<i32> = (0..3_100).filter(|ring| only.ring(here, *ring, wide).any(|at| at == there)).collect();
            prop_assert_eq!(rings.len(), 1);
            // The nearest that something in the square may be.
            let apart = |steps: i32| f64::from(steps.abs() - 1).max(0.0) * METRES / PER_DEGREE;
            let far = apart(up).max(apart(right) * narrow);
            prop_assert!(f64::from(rings[0] - 1) * side_m <= far + 1e-6, "{} {far}", rings[0]);
        }
    }
}
