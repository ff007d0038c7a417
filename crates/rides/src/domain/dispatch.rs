//! Who is asked first: candidates scored by time to the pickup, habit of accepting, and time without work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::DriverId;

/// The rules of matching: who has waited longest chooses first. Times in seconds, distances in metres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matching {
    /// How long a driver has to answer.
    pub offer_s: u32,
    /// After how long the rider is told that nobody was found.
    pub search_s: u32,
    /// Whether a ride keeps its place in the line then, instead of ending as `no_driver`.
    pub keep_place: bool,
    /// How far is looked at first.
    pub radius_m: u32,
    /// How much further with each second of waiting.
    pub grow_m_per_s: u32,
    /// The furthest.
    pub radius_max_m: u32,
    /// How many of the nearest are compared by road.
    pub candidates: u32,
    /// What a driver's share of accepted offers is worth, seconds of way for all of them.
    pub acceptance_s: u32,
    /// What an hour without work is worth, seconds of way.
    pub idle_hour_s: u32,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            offer_s: 15,
            search_s: 60,
            keep_place: false,
            radius_m: 2_000,
            grow_m_per_s: 100,
            radius_max_m: 8_000,
            candidates: 10,
            acceptance_s: 60,
            idle_hour_s: 60,
        }
    }
}

impl Matching {
    /// How far is looked after so long a wait.
    pub fn radius(&self, waited: Duration) -> f64 {
        let grown = f64::from(self.radius_m) + f64::from(self.grow_m_per_s) * waited.as_secs_f64();
        grown.min(f64::from(self.radius_max_m.max(self.radius_m)))
    }

    /// Seconds of way, less what speaks for the driver: the least is asked first.
    pub fn score(&self, candidate: &Candidate) -> f64 {
        // Without a history one is taken for a good driver.
        let rate = (f64::from(candidate.accepted) + 4.0) / (f64::from(candidate.offered) + 5.0);
        let idle = candidate.idle.as_secs_f64().min(7_200.0) / 3_600.0;
        candidate.eta_s - f64::from(self.acceptance_s) * rate - f64::from(self.idle_hour_s) * idle
    }

    /// Candidates in the order in which they are asked.
    pub fn ranked(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        candidates.sort_by(|a, b| self.score(a).total_cmp(&self.score(b)).then(a.driver.cmp(&b.driver)));
        candidates
    }
}

/// A driver who may be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub driver: DriverId,
    /// To the pickup by road, seconds.
    pub eta_s: f64,
    /// Offers so far.
    pub offered: u32,
    /// Of them accepted.
    pub accepted: u32,
    /// Without work.
    pub idle: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: u128, eta_s: f64) -> Candidate {
        let driver = DriverId::from(tessera_kernel::Uuid::from_u128(n));
        Candidate { driver, eta_s, offered: 10, accepted: 8, idle: Duration::ZERO }
    }

    #[test]
    fn near_willing_and_idle_drivers_come_first() {
        let rules = Matching::default();
        let order = |candidates: Vec<Candidate>| {
            rules.ranked(candidates).into_iter().map(|candidate| candidate.driver.uuid().as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(order(vec![candidate(1, 100.0), candidate(2, 50.0)]), [2, 1]);
        assert_eq!(order(vec![candidate(1, 100.0), Candidate { accepted: 0, ..candidate(2, 90.0) }]), [1, 2]);
        let idle = Candidate { idle: Duration::from_secs(3_600), ..candidate(2, 130.0) };
        assert_eq!(order(vec![candidate(1, 100.0), idle]), [2, 1]);
        assert_eq!(order(vec![candidate(2, 100.0), candidate(1, 100.0)]), [1, 2], "a tie has one answer");
    }

    #[test]
    fn the_radius_grows_to_an_end() {
        let rules = Matching::default();
        assert_eq!([0, 10, 1_000].map(|s| rules.radius(Duration::from_secs(s))), [2_000.0, 3_000.0, 8_000.0]);
    }
}
