//! Who is asked first: candidates scored by time to the pickup, habit of accepting, and time without work; and which ride has
//! whom, where several want the same drivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::assign::{self, Edge};
use super::ids::DriverId;

/// Rides among which `balanced` chooses at once, so that an answer never takes long: about a second where all of them want the same
/// few drivers.
pub const AT_ONCE: usize = 1_000;

/// Who chooses, where several rides want the same drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Who has waited longest chooses first.
    #[default]
    Fifo,
    /// The rides of a short window have the drivers that are best for all of them together.
    Balanced,
}

/// The rules of matching. Times in seconds, distances in metres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matching {
    /// `fifo` or `balanced`.
    pub policy: Policy,
    /// For how long `balanced` collects rides before it gives them drivers, milliseconds. Who was denied does not wait again.
    pub window_ms: u32,
    /// What a second of waiting is worth with `balanced`, seconds of way.
    pub waiting_credit: u32,
    /// How long a driver has to answer.
    pub offer_s: u32,
    /// After how long the rider is told that nobody was found.
    pub search_s: u32,
    /// Whether a ride keeps its place in the line then and the search goes on, instead of ending as `no_driver`.
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
            policy: Policy::default(),
            window_ms: 2_000,
            waiting_credit: 5,
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

    /// Which of its candidates each ride has, by their place in its list; the longest waiting ride comes first. No driver is given
    /// twice. The answer of `balanced` serves as many rides as can be; of a line of rides for one driver it serves the one that
    /// waited longest, once the waiting is worth more than the difference of ways. Of more than [`AT_ONCE`] rides those that come
    /// first choose before the others.
    pub fn choose(&self, wishes: &[Wish<'_>]) -> Vec<Option<usize>> {
        // Numbers by id, so that a tie has one answer.
        let mut drivers: Vec<DriverId> = wishes.iter().flat_map(|wish| wish.candidates).map(|one| one.driver).collect();
        drivers.sort_unstable();
        drivers.dedup();
        let number = |driver: DriverId| drivers.binary_search(&driver).unwrap_or_default();
        let row = |wish: &Wish<'_>| {
            let credit = f64::from(self.waiting_credit) * wish.waited.as_secs_f64();
            let edge = |candidate: &Candidate| {
                let cost = ((self.score(candidate) - credit) * 1_000.0).round() as i64;
                Edge { column: number(candidate.driver), cost }
            };
            wish.candidates.iter().map(edge).collect()
        };
        let rows: Vec<Vec<Edge>> = wishes.iter().map(row).collect();
        let chosen = match self.policy {
            Policy::Fifo => assign::in_order(&rows),
            Policy::Balanced => assign::min_cost_in_slices(&rows, AT_ONCE),
        };
        let place =
            |(row, column): (&Vec<Edge>, Option<usize>)| row.iter().position(|edge| Some(edge.column) == column);
        rows.iter().zip(chosen).map(place).collect()
    }
}

/// A ride that waits, and who may be asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// For how long the search has gone on.
    pub waited: Duration,
    /// Each driver once.
    pub candidates: &'a [Candidate],
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

    fn chosen(rules: &Matching, wishes: &[(u64, &[Candidate])]) -> Vec<Option<u128>> {
        let wishes: Vec<Wish<'_>> = wishes
            .iter()
            .map(|(waited, candidates)| Wish { waited: Duration::from_secs(*waited), candidates })
            .collect();
        let chosen = rules.choose(&wishes);
        let driver = |(wish, place): (&Wish<'_>, Option<usize>)| Some(wish.candidates[place?].driver.uuid().as_u128());
        wishes.iter().zip(chosen).map(driver).collect()
    }

    #[test]
    fn near_willing_and_idle_drivers_come_first() {
        for policy in [Policy::Fifo, Policy::Balanced] {
            let rules = Matching { policy, ..Matching::default() };
            let first = |candidates: &[Candidate]| chosen(&rules, &[(0, candidates)])[0];
            assert_eq!(first(&[candidate(1, 100.0), candidate(2, 50.0)]), Some(2));
            assert_eq!(first(&[candidate(1, 100.0), Candidate { accepted: 0, ..candidate(2, 90.0) }]), Some(1));
            let idle = Candidate { idle: Duration::from_secs(3_600), ..candidate(2, 130.0) };
            assert_eq!(first(&[candidate(1, 100.0), idle]), Some(2));
            assert_eq!(first(&[candidate(2, 100.0), candidate(1, 100.0)]), Some(1), "a tie has one answer");
            assert_eq!(first(&[]), None);
        }
    }

    #[test]
    fn policies_differ_where_two_want_the_same() {
        let (ana, bob) = ([candidate(1, 60.0), candidate(2, 70.0)], [candidate(1, 60.0), candidate(2, 600.0)]);
        let wishes: [(u64, &[Candidate]); 2] = [(10, &ana), (5, &bob)];
        let rules = Matching::default();
        assert_eq!(chosen(&rules, &wishes), [Some(1), Some(2)], "who waited longest chooses");
        let rules = Matching { policy: Policy::Balanced, ..rules };
        assert_eq!(chosen(&rules, &wishes), [Some(2), Some(1)], "ten seconds for one save nine minutes for the other");
        // One driver for two: waiting makes up for the way.
        let (near, far) = ([candidate(1, 60.0)], [candidate(1, 400.0)]);
        assert_eq!(chosen(&rules, &[(20, &far), (10, &near)]), [None, Some(1)]);
        assert_eq!(chosen(&rules, &[(90, &far), (10, &near)]), [Some(1), None]);
    }

    #[test]
    fn the_radius_grows_to_an_end() {
        let rules = Matching::default();
        assert_eq!([0, 10, 1_000].map(|s| rules.radius(Duration::from_secs(s))), [2_000.0, 3_000.0, 8_000.0]);
    }
}
