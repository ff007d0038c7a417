//! When an endpoint or an upstream is left alone for a while because it fails.

/// When to give up on an endpoint, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Failures one after the other.
    pub failures: u32,
    /// How long it is left alone the first time; each further time adds as much again.
    pub pause_us: u64,
    /// The longest pause.
    pub longest_pause_us: u64,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    failures: u32,
    pauses: u32,
    until_us: u64,
    is_trying: bool,
    /// Counts trials, so that a late end of one is not taken for the end of another.
    trials: u32,
}

/// Whether an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Good,
    /// Its pause is over: one request may try it.
    OnTrial,
    /// It may not, until then.
    Paused {
        /// Microseconds, on the clock of the caller.
        until_us: u64,
    },
}

impl Record {
    /// Whether it may be asked now.
    pub fn standing(&self, now_us: u64) -> Standing {
        match self.until_us {
            0 => Standing::Good,
            until_us if now_us < until_us || self.is_trying => Standing::Paused { until_us: until_us.max(now_us) },
            _ => Standing::OnTrial,
        }
    }

    /// One request was chosen to try it. Gives the number of the trial.
    pub fn try_it(&mut self) -> u32 {
        self.is_trying = true;
        self.trials = self.trials.wrapping_add(1);
        self.trials
    }

    /// The request that tried it is over. Where it told nothing, another one may try.
    pub fn end_trial(&mut self, number: u32) {
        if self.trials == number {
            self.is_trying = false;
        }
    }

    /// Whether nothing speaks against it.
    pub fn is_clean(&self) -> bool {
        self.failures == 0 && self.pauses == 0 && self.until_us == 0
    }

    /// It answered well. Gives whether it is back after a pause.
    pub fn succeeded(&mut self) -> bool {
        let was_paused = self.until_us != 0;
        let pauses = if was_paused { self.pauses } else { self.pauses.saturating_sub(1) };
        *self = Self { pauses, trials: self.trials, ..Self::default() };
        was_paused
    }

    /// It failed. Gives the end of its pause where it is paused by this.
    pub fn failed(&mut self, now_us: u64, tolerance: Tolerance) -> Option<u64> {
        self.failures = self.failures.saturating_add(1);
        let was_on_trial = std::mem::take(&mut self.is_trying);
        if self.until_us != 0 && now_us < self.until_us {
            return None;
        }
        if !was_on_trial && self.failures < tolerance.failures {
            return None;
        }
        self.pauses = self.pauses.saturating_add(1);
        let pause_us = tolerance.pause_us.saturating_mul(u64::from(self.pauses)).min(tolerance.longest_pause_us);
        self.until_us = now_us + pause_us.max(1);
        self.failures = 0;
        Some(self.until_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { failures: 3, pause_us: 10, longest_pause_us: 25 };

    #[test]
    fn failures_in_a_row_lead_to_a_pause_and_a_trial() {
        let mut record = Record::default();
        assert_eq!((record.failed(1, TOLERANCE), record.failed(2, TOLERANCE)), (None, None));
        assert!(!record.succeeded(), "a success starts the count anew");
        assert_eq!([3, 4].map(|now| record.failed(now, TOLERANCE)), [None, None]);
        assert_eq!(record.failed(5, TOLERANCE), Some(15));
        assert_eq!(record.standing(14), Standing::Paused { until_us: 15 });
        assert_eq!(record.standing(15), Standing::OnTrial);
        record.try_it();
        assert!(matches!(record.standing(16), Standing::Paused { .. }), "one trial at a time");
        assert_eq!(record.failed(17, TOLERANCE), Some(37), "the second pause is longer");
        record.try_it();
        assert_eq!(record.failed(37, TOLERANCE), Some(62), "up to the longest");
        record.try_it();
        assert!(record.succeeded());
        assert_eq!(record.standing(63), Standing::Good);
    }

    #[test]
    fn a_trial_that_tells_nothing_makes_way_for_another() {
        let mut record = Record::default();
        assert_eq!([1, 2, 3].map(|now| record.failed(now, TOLERANCE)), [None, None, Some(13)]);
        let first = record.try_it();
        record.end_trial(first);
        assert_eq!(record.standing(20), Standing::OnTrial);
        let second = record.try_it();
        record.end_trial(first);
        assert!(matches!(record.standing(20), Standing::Paused { .. }), "that was not its end");
        record.end_trial(second);
        assert_eq!(record.standing(20), Standing::OnTrial);
    }
}
