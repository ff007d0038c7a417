//! The squares in which the index in memory keeps drivers: rows of one height, cut so that all squares have about one area.
//!
//! A square is found with a few integer operations, an H3 cell costs 0.3 µs (docs/adr/0011). Eight times eight squares are a tile;
//! squares of a tile lie in straight rows, tiles of two rows need not lie above each other.

use tessera_kernel::Place;

/// The height of a square, 1e-7 degree: 430 m. Four of them are 0.74 km², a cell of the rules.
const HEIGHT_E7: u32 = 38_671;
/// Squares along the side of a tile.
pub(super) const SIDE: usize = 8;
/// Squares of a tile.
pub(super) const SQUARES: usize = SIDE * SIDE;
const QUARTER_E7: i64 = 900_000_000;
const HALF_E7: i64 = 1_800_000_000;
const TURN_E7: i64 = 3_600_000_000;

/// A row of tiles.
struct Row {
    /// Its first tile.
    first: u32,
    /// Squares around the earth, a multiple of [`SIDE`].
    squares: u32,
    /// How much narrower a degree of longitude is there than at the equator.
    narrow: f64,
}

/// All squares of the earth.
pub(super) struct Grid {
    rows: Box<[Row]>,
}

/// The square of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Its tile among all of the earth.
    pub(super) tile: u32,
    /// The row of that.
    pub(super) row: u32,
    /// Which square of the tile, row by row.
    pub(super) square: usize,
}

impl Grid {
    pub(super) fn new() -> Self {
        let height = f64::from(HEIGHT_E7) * SIDE as f64;
        let count = (2.0 * QUARTER_E7 as f64 / height) as u32 + 1;
        let mut first = 0;
        let row = |number: u32| {
            let middle = (f64::from(number) + 0.5) * height - QUARTER_E7 as f64;
            let narrow = (middle / 1e7).to_radians().cos().max(0.0);
            let tiles = (TURN_E7 as f64 * narrow / height).round().max(1.0) as u32;
            first += tiles;
            Row { first: first - tiles, squares: tiles * SIDE as u32, narrow }
        };
        Self { rows: (0..count).map(row).collect() }
    }

    pub(super) fn spot(&self, place: Place) -> Spot {
        let line = line(i64::from(place.lat_e7()));
        let number = line / SIDE as u32;
        let row = &self.rows[number as usize];
        // The date line is in the first square.
        let column = column(i64::from(place.lng_e7()), row.squares) as u32 % row.squares;
        let square = (line as usize % SIDE) * SIDE + column as usize % SIDE;
        Spot { tile: row.first + column / SIDE as u32, row: number, square }
    }

    /// How much narrower a degree of longitude is in a row.
    pub(super) fn narrow(&self, row: u32) -> f64 {
        self.rows[row as usize].narrow
    }

    /// The tiles of a row: the first, and how many.
    pub(super) fn tiles(&self, row: u32) -> (u32, u32) {
        let row = &self.rows[row as usize];
        (row.first, row.squares / SIDE as u32)
    }

    /// Squares of a row from west to east, at most once around. Before the first and behind the last they go on.
    pub(super) fn columns(&self, row: u32, bounds: &Bounds) -> (i64, i64) {
        let squares = self.rows[row as usize].squares;
        let west = column(bounds.lng - bounds.across, squares);
        let east = column(bounds.lng + bounds.across, squares);
        if east - west < i64::from(squares) {
            return (west, east);
        }
        let west = column(bounds.lng, squares) - i64::from(squares) / 2;
        (west, west + i64::from(squares) - 1)
    }
}

/// A rectangle around a place, 1e-7 degree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    lat: i64,
    lng: i64,
    up: i64,
    across: i64,
}

impl Bounds {
    /// All that is so near, on a plane on which a degree of longitude is so much narrower.
    pub(super) fn around(place: Place, degrees: f64, narrow: f64) -> Self {
        // A bit more, so that nothing is lost by rounding.
        let up = (degrees * 1e7).min(TURN_E7 as f64) as i64 + 2;
        let across = (degrees * 1e7 / narrow.max(1e-9)).min(TURN_E7 as f64) as i64 + 2;
        Self { lat: place.lat_e7().into(), lng: place.lng_e7().into(), up, across }
    }

    /// The rows of squares, from south to north.
    pub(super) fn lines(&self) -> (u32, u32) {
        (line((self.lat - self.up).max(-QUARTER_E7)), line((self.lat + self.up).min(QUARTER_E7)))
    }
}

/// The row of squares of a latitude.
fn line(lat: i64) -> u32 {
    (lat + QUARTER_E7) as u32 / HEIGHT_E7
}

/// The square of a longitude, of so many.
fn column(lng: i64, squares: u32) -> i64 {
    ((lng + HALF_E7) * i64::from(squares)).div_euclid(TURN_E7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn squares_have_one_area_and_numbers_of_their_own() {
        let grid = Grid::new();
        let mut next = 0;
        for (number, row) in grid.rows.iter().enumerate() {
            assert_eq!(row.first, next);
            next += row.squares / SIDE as u32;
            let width = TURN_E7 as f64 / f64::from(row.squares) * row.narrow;
            if row.narrow > 0.05 {
                assert!((0.98..1.02).contains(&(width / f64::from(HEIGHT_E7))), "row {number}: {width}");
            }
        }
    }

    proptest! {
        /// What is within a distance is in the squares of its bounds, over the date line and at the poles, too.
        #[test]
        fn bounds_leave_nothing_out(
            lat in prop_oneof![-90.0..=90.0f64, Just(90.0), Just(-90.0)],
            lng in prop_oneof![-180.0..=180.0f64, Just(180.0), Just(-180.0), 179.9..180.0f64],
            up in -1.0..1.0f64,
            across in -1.0..1.0f64,
            degrees in 0.0..3.0f64,
        ) {
            let grid = Grid::new();
            let narrow = lat.to_radians().cos();
            let here = Place::from_degrees(lat, lng).unwrap();
            let there = (lng + across * degrees / narrow.max(1e-9)).clamp(lng - 180.0, lng + 180.0);
            let there = if there.abs() > 180.0 { there - 360.0 * there.signum() } else { there };
            let there = Place::from_degrees((lat + up * degrees).clamp(-90.0, 90.0), there).unwrap();
            let (bounds, spot) = (Bounds::around(here, degrees, narrow), grid.spot(there));
            let (south, north) = bounds.lines();
            let line = spot.row * SIDE as u32 + (spot.square / SIDE) as u32;
            prop_assert!((south..=north).contains(&line));
            let (first, tiles) = grid.tiles(spot.row);
            let column = i64::from(spot.tile - first) * SIDE as i64 + (spot.square % SIDE) as i64;
            let (west, east) = grid.columns(spot.row, &bounds);
            prop_assert!(west + (column - west).rem_euclid(i64::from(tiles) * SIDE as i64) <= east);
        }
    }
}
