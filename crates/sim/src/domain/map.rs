//! A seat map as a fan sees it: rows of seats, and what is free.

use serde::Deserialize;

/// What is in front of the states of a snapshot: version, sequence, count.
const HEADER_BYTES: usize = 13;
/// The only version there is.
const VERSION: u8 = 1;

/// The rows of an event, in the order of its plan, and how many seats and places there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// First number and count of each row.
    pub rows: Vec<(u32, u32)>,
    /// Seats and places.
    pub seats: u32,
}

/// `GET /event/{id}/plan`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Plan {
    seats: u32,
    sections: Vec<Section>,
}

#[derive(Debug, Deserialize)]
struct Section {
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    first: u32,
    count: u32,
}

impl From<Plan> for Map {
    fn from(plan: Plan) -> Self {
        let rows = plan.sections.into_iter().flat_map(|section| section.rows);
        Self { rows: rows.map(|row| (row.first, row.count)).collect(), seats: plan.seats }
    }
}

/// A snapshot of `GET /event/{id}/seats`: two bits a seat.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a>(&'a [u8]);

impl<'a> Snapshot<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (head, states) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is shorter than its head")?;
        let count = u32::from_be_bytes([head[9], head[10], head[11], head[12]]);
        match head[0] {
            VERSION if states.len() == (count as usize).div_ceil(4) => Ok(Self(states)),
            VERSION => Err(format!("{} bytes are not the states of {count} seats", states.len())),
            version => Err(format!("version {version} is unknown")),
        }
    }

    /// Whether a seat is free.
    pub fn is_free(&self, seat: u32) -> bool {
        self.0.get(seat as usize / 4).is_some_and(|byte| byte >> (2 * (seat % 4)) & 3 == 0)
    }
}

impl Map {
    /// So many free seats side by side, in the first row that has them from a preferred one on, all around. `place` is
    /// where the fan would like to sit, in thousandths from the front of the first section to the back of the last.
    pub fn choose(&self, snapshot: Snapshot<'_>, place: u32, quantity: u32) -> Option<Vec<u32>> {
        let rows = self.rows.len();
        let first = rows * place.min(999) as usize / 1000;
        let row = (first..rows).chain(0..first).map(|row| self.rows[row]);
        row.filter_map(|(first, count)| together(snapshot, first, count, quantity)).next()
    }
}

fn together(snapshot: Snapshot<'_>, first: u32, count: u32, quantity: u32) -> Option<Vec<u32>> {
    let mut begin = first;
    for seat in first..first + count {
        if !snapshot.is_free(seat) {
            begin = seat + 1;
        } else if seat + 1 - begin == quantity {
            return Some((begin..=seat).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_chosen_side_by_side_from_the_preferred_row_on() {
        // Seats 1 and 6 are taken.
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9];
        bytes.extend([0b0000_0100, 0b0010_0000, 0]);
        let snapshot = Snapshot::read(&bytes).unwrap();
        let map = Map { rows: vec![(0, 3), (3, 6)], seats: 9 };
        assert_eq!(map.choose(snapshot, 0, 1), Some(vec![0]));
        assert_eq!(map.choose(snapshot, 0, 2), Some(vec![3, 4]));
        assert_eq!(map.choose(snapshot, 999, 3), Some(vec![3, 4, 5]));
        assert_eq!(map.choose(snapshot, 0, 4), None);
        assert_eq!(map.choose(snapshot, 500, 1), Some(vec![3]));
        assert!(!snapshot.is_free(4_000_000));
        assert!(
            Snapshot::read(&bytes[..15]).is_err() && Snapshot::read(&[2; 16]).is_err() && Snapshot::read(&[]).is_err()
        );
    }
}
