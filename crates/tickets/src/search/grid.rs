//! The earth in square cells of latitude and longitude, at several sizes. An event is indexed under the cell of each size
//! that it lies in; a circle is looked up as the few cells of one size that cover it, and its edge is checked exactly.

use tessera_kernel::Place;

/// Cells have sides of 180° / 2^level: from 626 km north to south down to 4.9.
pub(super) const LEVELS: [u32; 8] = [5, 6, 7, 8, 9, 10, 11, 12];
/// A circle is covered by at most so many cells.
const MAX_CELLS: i64 = 24;
/// Metres in a degree of latitude, a little less than there are, so that covers are rather too large.
const METRES_PER_DEGREE: f64 = 110_500.0;

/// A cell: its size, its row from the south pole and its column from the antimeridian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cell {
    level: u32,
    row: u32,
    column: u32,
}

impl Cell {
    /// The cell of a size that a place lies in.
    pub(super) fn of(place: Place, level: u32) -> Self {
        let row = row(place.lat(), level).clamp(0, rows(level) - 1);
        let column = column(place.lng(), level).rem_euclid(columns(level));
        Self { level, row: as_u32(row), column: as_u32(column) }
    }

    /// As it is in the index.
    pub(super) fn key(self) -> String {
        format!("{:x}.{:x}.{:x}", self.level, self.row, self.column)
    }
}

/// The cells that cover a circle, of the smallest size that does with few; `None` where it is so large that none does.
pub(super) fn cover(middle: Place, radius_m: u32) -> Option<Vec<Cell>> {
    let lat_span = f64::from(radius_m) / METRES_PER_DEGREE;
    let widest = (middle.lat().abs() + lat_span).min(90.0).to_radians().cos();
    // Within a cell's height of a pole every column is met.
    let lng_span = if widest < 0.02 { 180.0 } else { (lat_span / widest).min(180.0) };
    LEVELS.into_iter().rev().find_map(|level| {
        let first_row = row(middle.lat() - lat_span, level).max(0);
        let last_row = row(middle.lat() + lat_span, level).min(rows(level) - 1);
        let first_column = column(middle.lng() - lng_span, level);
        let last_column = column(middle.lng() + lng_span, level).min(first_column + columns(level) - 1);
        let (height, width) = (last_row - first_row + 1, last_column - first_column + 1);
        if height * width > MAX_CELLS {
            return None;
        }
        let cells = (first_row..=last_row).flat_map(|row| {
            (first_column..=last_column).map(move |column| Cell {
                level,
                row: as_u32(row),
                column: as_u32(column.rem_euclid(columns(level))),
            })
        });
        Some(cells.collect())
    })
}

fn rows(level: u32) -> i64 {
    1 << level
}

fn columns(level: u32) -> i64 {
    2 << level
}

/// Degrees are within ±540, so the rows and columns below fit easily.
fn row(lat: f64, level: u32) -> i64 {
    ((lat + 90.0) / 180.0 * rows(level) as f64).floor() as i64
}

fn column(lng: f64, level: u32) -> i64 {
    ((lng + 180.0) / 360.0 * columns(level) as f64).floor() as i64
}

fn as_u32(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A place within the circle lies in one of its cells, poles and antimeridian included.
        #[test]
        fn covers_hold_their_circles(
            lat in -90.0..=90.0_f64, lng in -180.0..=180.0_f64,
            dlat in -3.0..3.0_f64, dlng in -3.0..3.0_f64, radius_m in 1_u32..400_000,
        ) {
            let middle = Place::from_degrees(lat, lng).unwrap();
            let wrapped = (lng + dlng + 540.0).rem_euclid(360.0) - 180.0;
            let other = Place::from_degrees((lat + dlat).clamp(-90.0, 90.0), wrapped).unwrap();
            if let Some(cells) = cover(middle, radius_m) {
                prop_assert!(cells.len() <= usize::try_from(MAX_CELLS).unwrap());
                let unique: std::collections::BTreeSet<_> = cells.iter().collect();
                prop_assert_eq!(unique.len(), cells.len());
                if middle.distance_m(other) <= f64::from(radius_m) {
                    let level = cells[0].level;
                    prop_assert!(cells.contains(&Cell::of(other, level)), "{other} from {middle}");
                }
            }
        }
    }

    #[test]
    fn small_circles_have_small_cells() {
        let lisbon = Place::from_degrees(38.7223, -9.1393).unwrap();
        assert_eq!(cover(lisbon, 2_000).unwrap()[0].level, 12);
        assert_eq!(cover(lisbon, 50_000).unwrap()[0].level, 9);
        assert_eq!(cover(lisbon, 12_000_000), None);
    }
}
