//! How often a driver reports: often where it is dense and something moves, seldom where nothing is gained.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The rules. Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intervals {
    /// Where it is dense, and whenever a parked driver moves again.
    pub dense_s: u32,
    /// Where hardly anyone is.
    pub sparse_s: u32,
    /// Drivers in a cell (0.7 km²) from which on it counts as dense; below, the interval grows as they get fewer.
    pub dense_drivers: u32,
    /// On a trip: what the rider's map shows.
    pub trip_s: u32,
    /// After how long without moving a driver counts as parked; each time as long again doubles the interval.
    pub parked_s: u32,
    /// The longest interval of a parked driver.
    pub longest_s: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { dense_s: 5, sparse_s: 20, dense_drivers: 8, trip_s: 10, parked_s: 1_200, longest_s: 300 }
    }
}

/// How far a driver may drift and still count as standing, metres: a GPS wanders.
pub const STANDING_M: f64 = 30.0;

impl Intervals {
    /// The next interval.
    ///
    /// `neighbours`: drivers in the cell, this one included. `standing`: since it last moved.
    pub fn next(&self, busy: bool, neighbours: u32, standing: Duration) -> Duration {
        let seconds = if busy {
            self.trip_s
        } else if standing.as_secs() >= u64::from(self.parked_s.max(1)) {
            let times = (standing.as_secs() / u64::from(self.parked_s.max(1))).min(16) as u32;
            self.dense_s.saturating_mul(1 << times).min(self.longest_s.max(self.dense_s))
        } else if neighbours >= self.dense_drivers {
            self.dense_s
        } else {
            let missing = self.dense_drivers - neighbours.max(1).min(self.dense_drivers);
            let span = self.sparse_s.saturating_sub(self.dense_s);
            self.dense_s + span * missing / self.dense_drivers.saturating_sub(1).max(1)
        };
        Duration::from_secs(u64::from(seconds.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(busy: bool, neighbours: u32, standing_s: u64) -> u64 {
        Intervals::default().next(busy, neighbours, Duration::from_secs(standing_s)).as_secs()
    }

    #[test]
    fn dense_is_often_and_sparse_is_seldom() {
        assert_eq!(next(false, 8, 0), 5);
        assert_eq!(next(false, 5_000, 0), 5);
        assert_eq!(next(false, 1, 0), 20);
        assert_eq!(next(false, 0, 0), 20);
        let between: Vec<u64> = (1..=8).map(|neighbours| next(false, neighbours, 0)).collect();
        assert!(between.is_sorted_by(|a, b| a >= b), "{between:?}");
    }

    #[test]
    fn a_parked_driver_backs_off_and_is_back_at_once() {
        assert_eq!(next(false, 50, 1_199), 5);
        assert_eq!([1_200, 2_400, 3_600].map(|s| next(false, 50, s)), [10, 20, 40]);
        assert_eq!(next(false, 50, 1_000_000), 300);
        assert_eq!(next(false, 50, 0), 5);
        assert_eq!(next(true, 50, 1_000_000), 10);
    }

    #[test]
    fn odd_settings_do_not_panic() {
        let odd = Intervals { dense_s: 0, sparse_s: 0, dense_drivers: 0, trip_s: 0, parked_s: 0, longest_s: 0 };
        for neighbours in [0, 1, 9] {
            assert_eq!(odd.next(false, neighbours, Duration::from_secs(9)), Duration::from_secs(1));
        }
    }
}
