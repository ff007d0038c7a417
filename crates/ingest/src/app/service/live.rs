//! A run of this process while it is under way: its counters, how fast they move, and the hand that stops it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tessera_kernel::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::app::progress::Progress;
use crate::store::Counts;

/// Speed is measured over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// A run under way.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug)]
struct Sample {
    at: Timestamp,
    rows: BTreeMap<String, u64>,
}

/// How fast a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speed {
    /// Of all resources together.
    pub rows_per_second: f64,
    /// By resource: seconds until the API's own total is reached, where there is one and rows are coming.
    pub eta_s: BTreeMap<String, u64>,
}

impl Live {
    /// A run that begins, and stops with this token.
    pub(super) fn stopped_by(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The counters now.
    pub(super) fn counts(&self) -> Vec<Counts> {
        self.progress.view()
    }

    /// Remembers the counters for the speed.
    pub(super) fn sample(&self, counts: &[Counts], now: Timestamp) {
        let rows = counts.iter().map(|counts| (counts.name.clone(), counts.rows)).collect();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample { at: now, rows });
        while samples.get(1).is_some_and(|second| now.since(second.at) >= WINDOW) {
            samples.pop_front();
        }
    }

    /// How fast it is now, against the oldest sample of the window.
    pub(super) fn speed(&self, counts: &[Counts], now: Timestamp) -> Speed {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = samples.front() else { return Speed::default() };
        let seconds = now.since(oldest.at).as_secs_f64();
        if seconds <= 0.0 {
            return Speed::default();
        }
        let mut speed = Speed::default();
        for counts in counts {
            let before = oldest.rows.get(&counts.name).copied().unwrap_or(0);
            let rate = counts.rows.saturating_sub(before) as f64 / seconds;
            speed.rows_per_second += rate;
            if let (Some(expected), true) = (counts.expected_rows, rate > 0.0 && counts.status == "running") {
                let eta = expected.saturating_sub(counts.rows) as f64 / rate;
                speed.eta_s.insert(counts.name.clone(), eta.ceil() as u64);
            }
        }
        speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: u64) -> Vec<Counts> {
        let orders = Counts { name: "orders".into(), status: "running".into(), rows, ..Counts::default() };
        vec![Counts { expected_rows: Some(1000), ..orders.clone() }, Counts { name: "items".into(), ..orders }]
    }

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let live = Live::default();
        assert_eq!(live.speed(&counts(5), at(0)), Speed::default());
        for second in 0..30 {
            live.sample(&counts(second as u64 * 20), at(second));
        }
        let speed = live.speed(&counts(600), at(30));
        assert_eq!(speed.rows_per_second, 40.0);
        assert_eq!(speed.eta_s, BTreeMap::from([("orders".to_owned(), 20)]));
        assert!(live.samples.lock().unwrap().len() <= 12, "samples are bounded");
    }
}
