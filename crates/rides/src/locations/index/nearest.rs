//! The search for the nearest drivers: squares around a place, further and further, until nobody who is nearer can be outside.

use tessera_kernel::{Place, Timestamp};

use super::grid::{Bounds, SIDE};
use super::tile::Tile;
use super::{Frame, Index};
use crate::domain::ids::DriverId;
use crate::locations::Near;
use crate::locations::cells::{METRES, narrow_at, squared_m};

/// How far is looked first, metres: in the middle of a city there are enough.
const FIRST_M: f64 = 150.0;
/// How much further each time.
const FURTHER: f64 = 1.6;
/// So many are measured at a time: the memory of all of them is waited for at once.
const AT_ONCE: usize = 64;

/// A search under way.
struct Search<'a, F> {
    index: &'a Index,
    frame: &'a Frame,
    place: Place,
    narrow: f64,
    most: usize,
    now: u32,
    fits: F,
    /// Further than this is nobody of interest, metres squared.
    bound: f64,
    /// Nearest first, with the distance squared.
    near: Vec<(f64, (i32, i32), DriverId)>,
}

impl Index {
    /// The nearest free drivers within `radius_m` of a place whose reports are not overdue three times, nearest first, at most
    /// `most`. `fits` says who may be among them; it must not ask this index.
    pub fn nearest(
        &self,
        place: Place,
        most: usize,
        radius_m: f64,
        now: Timestamp,
        fits: impl Fn(DriverId) -> bool,
    ) -> Vec<Near> {
        if most == 0 {
            return Vec::new();
        }
        let mut search = Search {
            index: self,
            frame: &self.read(),
            place,
            narrow: narrow_at(place),
            most,
            now: self.ticks(now),
            fits,
            bound: radius_m * radius_m,
            near: Vec::with_capacity(most + 1),
        };
        search.run();
        let near = search.near.into_iter().filter_map(|(far, (lat, lng), driver)| {
            Some(Near { driver, place: Place::from_e7(lat, lng).ok()?, distance_m: far.sqrt() })
        });
        near.collect()
    }
}

impl<F: Fn(DriverId) -> bool> Search<'_, F> {
    fn run(&mut self) {
        let mut reach = FIRST_M.min(self.bound.sqrt());
        let mut inner = None;
        loop {
            let outer = Bounds::around(self.place, reach / METRES, self.narrow);
            self.look(&outer, inner.as_ref());
            let bound = self.bound.sqrt();
            // Enough were found, or the radius is reached.
            if reach >= bound {
                return;
            }
            reach = if self.near.len() == self.most { bound } else { (reach * FURTHER).min(bound) };
            inner = Some(outer);
        }
    }

    /// Looks at all squares within bounds, but those that were looked at.
    fn look(&mut self, outer: &Bounds, inner: Option<&Bounds>) {
        let (grid, frame) = (&self.index.grid, self.frame);
        let (south, north) = outer.lines();
        let side = SIDE as i64;
        let columns = |row: u32| {
            let (west, east) = grid.columns(row, outer);
            (west.div_euclid(side), east.div_euclid(side))
        };
        let (rows, (west, east)) = ((south / SIDE as u32)..=(north / SIDE as u32), columns(south / SIDE as u32));
        if i64::from(rows.end() - rows.start() + 1) * (east - west + 1) > frame.tiles.len() as i64 {
            for tile in frame.tiles.iter().filter(|tile| rows.contains(&tile.row)) {
                let (first, count) = grid.tiles(tile.row);
                let (west, east) = columns(tile.row);
                let column = west + (i64::from(tile.number - first) - west).rem_euclid(count.into());
                // Where they go around, the first and the last may be one.
                (column..=east).step_by(count as usize).for_each(|column| self.look_at(tile, column, outer, inner));
            }
            return;
        }
        for row in rows {
            let (first, count) = grid.tiles(row);
            let (west, east) = columns(row);
            for column in west..=east {
                if let Some(tile) = frame.tile(first + column.rem_euclid(count.into()) as u32) {
                    self.look_at(tile, column, outer, inner);
                }
            }
        }
    }

    /// The same in a tile, which is the so-many-th of its row.
    fn look_at(&mut self, tile: &Tile, column: i64, outer: &Bounds, inner: Option<&Bounds>) {
        let wanted = self.squares(tile, column, outer);
        let seen = inner.map(|inner| self.squares(tile, column, inner)).filter(|seen| !seen.is_empty());
        if wanted.is_empty() || seen.as_ref() == Some(&wanted) {
            return;
        }
        let members = tile.read();
        for line in wanted.south..wanted.north {
            let squares = |from: usize, to: usize| members.of(line * SIDE + from..line * SIDE + to);
            match seen.as_ref().filter(|seen| (seen.south..seen.north).contains(&line)) {
                Some(seen) => {
                    self.measure(squares(wanted.west, seen.west));
                    self.measure(squares(seen.east, wanted.east));
                }
                None => self.measure(squares(wanted.west, wanted.east)),
            }
        }
    }

    /// The squares of a tile within bounds.
    fn squares(&self, tile: &Tile, column: i64, bounds: &Bounds) -> Squares {
        let (side, first) = (SIDE as i64, i64::from(tile.row) * SIDE as i64);
        let (south, north) = bounds.lines();
        let (west, east) = self.index.grid.columns(tile.row, bounds);
        let within = |at: i64| at.clamp(0, side) as usize;
        Squares {
            south: within(i64::from(south) - first),
            north: within(i64::from(north) + 1 - first),
            west: within(west - column * side),
            east: within(east + 1 - column * side),
        }
    }

    fn measure(&mut self, members: &[u32]) {
        for members in members.chunks(AT_ONCE) {
            let mut far = [0.0; AT_ONCE];
            for (far, member) in far.iter_mut().zip(members) {
                let (lat, lng) = self.frame.slot(*member).position();
                *far = squared_m(lat, lng, self.place, self.narrow);
            }
            for (far, member) in far.into_iter().zip(members) {
                if far <= self.bound {
                    self.add(far, *member);
                }
            }
        }
    }

    /// Adds one who is near enough, if it may be offered rides.
    fn add(&mut self, far: f64, member: u32) {
        let slot = self.frame.slot(member);
        let driver = slot.driver();
        // Who moved to another square meanwhile is met twice.
        let is_known = self.near.iter().any(|(.., known)| *known == driver);
        if is_known || !self.index.is_free(slot.said(), self.now) || !(self.fits)(driver) {
            return;
        }
        let behind = self.near.partition_point(|(other, ..)| *other <= far);
        self.near.insert(behind, (far, slot.position(), driver));
        self.near.truncate(self.most);
        if let (true, Some((furthest, ..))) = (self.near.len() == self.most, self.near.last()) {
            self.bound = *furthest;
        }
    }
}

/// Some squares of a tile, each end not included.
#[derive(PartialEq)]
struct Squares {
    south: usize,
    north: usize,
    west: usize,
    east: usize,
}

impl Squares {
    fn is_empty(&self) -> bool {
        self.south >= self.north || self.west >= self.east
    }
}
