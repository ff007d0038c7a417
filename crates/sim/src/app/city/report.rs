//! What a run tells in the end, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tessera_kernel::Timestamp;

use super::audit::Audit;
use super::tally::{Count, Outcome};
use super::{City, Plan};
use crate::domain::book::{Entry, State};
use crate::domain::latency::Summary;

/// Half, nearly all, and what the worst tenth has on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many there were.
    pub count: usize,
    /// Half were less.
    pub p50: f64,
    /// All but one of a hundred were less.
    pub p99: f64,
    /// The mean of the tenth that is the most.
    pub worst_decile: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let count = values.len();
        let at = |share: f64| values.get(((count as f64 * share).ceil() as usize).max(1) - 1).copied().unwrap_or(0.0);
        let worst = &values[count - count.div_ceil(10)..];
        // The sum of none is less than nothing: -0.0.
        let worst_decile = if worst.is_empty() { 0.0 } else { worst.iter().sum::<f64>() / worst.len() as f64 };
        Self { count, p50: at(0.5), p99: at(0.99), worst_decile }
    }

    fn json(&self) -> Value {
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let Self { count, p50, p99, worst_decile } = *self;
        json!({ "count": count, "p50": round(p50), "p99": round(p99), "worst_decile": round(worst_decile) })
    }
}

/// What the rides of a run were like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// Rides that were requested.
    pub requested: usize,
    /// Of them those that a driver accepted.
    pub matched: usize,
    /// Of the requested ones those that their rider cancelled before anybody accepted.
    pub cancelled_waiting: usize,
    /// Rides that were cancelled after a driver had accepted.
    pub cancelled_later: usize,
    /// Rides for which nobody was found.
    pub no_driver: usize,
    /// Offers that were made.
    pub offers: usize,
    /// What riders owe for cancellations, minor units.
    pub fees: i64,
    /// From the request to the first offer, seconds.
    pub to_offer: Spread,
    /// From the request to the acceptance, seconds.
    pub to_match: Spread,
    /// From the acceptance to the arrival, seconds; while riders came.
    pub to_pickup: Spread,
}

impl Matching {
    /// Of these rides; who arrived after `closed` was in a hurry, and is not asked how long it took.
    fn of(entries: &[Entry], closed: Timestamp) -> Self {
        let at = |entry: &Entry, kind: &str| -> Option<Timestamp> {
            entry.history.iter().find(|event| event.kind == kind).map(|event| event.at)
        };
        let between = |entry: &Entry, from: &str, to: &str| Some(at(entry, to)?.since(at(entry, from)?).as_secs_f64());
        let spread =
            |from: &str, to: &str| Spread::of(entries.iter().filter_map(|entry| between(entry, from, to)).collect());
        let to_pickup = |entry: &Entry| {
            at(entry, "arrived").filter(|at| *at <= closed).and_then(|_| between(entry, "accepted", "arrived"))
        };
        let requested: Vec<&Entry> = entries.iter().filter(|entry| at(entry, "requested").is_some()).collect();
        let count = |wanted: &dyn Fn(&Entry) -> bool| requested.iter().filter(|entry| wanted(entry)).count();
        let is_matched = |entry: &Entry| at(entry, "accepted").is_some();
        let is_cancelled = |entry: &Entry| entry.state == State::Cancelled;
        Self {
            requested: requested.len(),
            matched: count(&is_matched),
            cancelled_waiting: count(&|entry| is_cancelled(entry) && !is_matched(entry)),
            cancelled_later: count(&|entry| is_cancelled(entry) && is_matched(entry)),
            no_driver: count(&|entry| entry.state == State::NoDriver),
            offers: requested.iter().flat_map(|entry| &entry.history).filter(|event| event.kind == "offered").count(),
            fees: entries.iter().filter_map(|entry| entry.cancelled.as_ref()).map(|ended| ended.fee).sum(),
            to_offer: spread("requested", "offered"),
            to_match: spread("requested", "accepted"),
            to_pickup: Spread::of(entries.iter().filter_map(to_pickup).collect()),
        }
    }

    /// Of the rides that were not cancelled while they waited, the share that was matched.
    pub fn rate(&self) -> f64 {
        self.matched as f64 / (self.requested - self.cancelled_waiting).max(1) as f64
    }

    fn offers_per_match(&self) -> f64 {
        self.offers as f64 / self.matched.max(1) as f64
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What people decided, in 16 digits.
    pub decisions: String,
    /// From the first rider to the last.
    pub took: Duration,
    /// How it ended for riders, by how many.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// What was counted.
    pub counts: Vec<(&'static str, u64)>,
    /// Positions that changed nothing, by reason.
    pub refused: BTreeMap<String, u64>,
    /// How drivers and riders were brought together.
    pub matching: Matching,
    /// How far drivers who accepted were, seconds by road.
    pub pickup_eta: Spread,
    /// The greatest multiple in an estimate, and the share of estimates with any.
    pub surge: (f64, f64),
    /// What calls took.
    pub latencies: Vec<(&'static str, Summary)>,
    /// What must not have happened and did.
    pub findings: Vec<String>,
    seed: u64,
    drivers: u64,
}

impl Report {
    pub(super) fn new(
        city: &City,
        plan: &Plan,
        decisions: String,
        took: Duration,
        closed: Timestamp,
        audit: Audit,
    ) -> Self {
        let tally = &city.tally;
        let Audit { entries, mut findings } = audit;
        let (broken, reasons) = tally.broken();
        findings.extend(reasons.iter().cloned());
        if broken > reasons.len() as u64 {
            findings.push(format!("{broken} such errors in all"));
        }
        let known = tally.rides();
        let surged = known.iter().filter(|known| known.surge > 1.0).count();
        let most = known.iter().map(|known| known.surge).fold(1.0, f64::max);
        let counted = |(outcome, name): &(Outcome, &'static str)| (*name, tally.outcome(*outcome));
        let mut counts: Vec<_> = Count::ALL.iter().map(|(count, name)| (*name, tally.of(*count))).collect();
        counts.push(("requests sent again", city.client.repeated()));
        Self {
            decisions,
            took,
            outcomes: Outcome::ALL.iter().map(counted).filter(|(_, count)| *count > 0).collect(),
            counts,
            refused: tally.refusals(),
            matching: Matching::of(&entries, closed),
            pickup_eta: Spread::of(tally.etas().into_iter().map(f64::from).collect()),
            surge: (most, surged as f64 / known.len().max(1) as f64),
            latencies: city.client.latencies(),
            findings,
            seed: plan.seed,
            drivers: plan.drivers,
        }
    }

    /// Whether all holds and nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// For programs. Times in seconds, latencies in microseconds.
    pub fn json(&self) -> Value {
        let us = |at: Duration| at.as_micros() as u64;
        let latency = |(name, summary): &(&'static str, Summary)| {
            let Summary { count, p50, p90, p99, longest, .. } = *summary;
            let figures = json!({
                "count": count, "p50_us": us(p50), "p90_us": us(p90), "p99_us": us(p99), "longest_us": us(longest),
            });
            ((*name).to_owned(), figures)
        };
        let matching = &self.matching;
        json!({
            "seed": self.seed, "drivers": self.drivers, "decisions": self.decisions, "took_s": self.took.as_secs_f64(),
            "outcomes": self.outcomes,
            "counts": self.counts.iter().map(|(name, count)| (name.replace(' ', "_"), json!(count))).collect::<Map<_, _>>(),
            "positions_refused": self.refused,
            "matching": {
                "requested": matching.requested, "matched": matching.matched, "rate": matching.rate(),
                "cancelled_waiting": matching.cancelled_waiting, "cancelled_later": matching.cancelled_later,
                "no_driver": matching.no_driver, "offers": matching.offers,
                "offers_per_match": matching.offers_per_match(), "fees": matching.fees,
                "to_offer_s": matching.to_offer.json(), "to_match_s": matching.to_match.json(),
                "to_pickup_s": matching.to_pickup.json(), "pickup_eta_s": self.pickup_eta.json(),
            },
            "surge": { "most": self.surge.0, "share_of_estimates": self.surge.1 },
            "latencies": self.latencies.iter().map(latency).collect::<Map<_, _>>(),
            "findings": self.findings,
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let riders = self.outcomes.values().sum::<u64>();
        writeln!(
            f,
            "{riders} riders and {} drivers in {seconds:.0} s; seed {}, decisions {}",
            self.drivers, self.seed, self.decisions
        )?;
        for (name, count) in &self.outcomes {
            writeln!(f, "  {count:>9}  {name}")?;
        }
        writeln!(f)?;
        for (name, count) in self.counts.iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "{name:<22} {count:>9}")?;
        }
        for (why, count) in &self.refused {
            writeln!(f, "{:<22} {count:>9}", format!("refused as {why}"))?;
        }
        let matching = &self.matching;
        writeln!(
            f,
            "\nmatching: {} of {} requests matched ({:.1} % without those cancelled while they waited), {:.2} offers a match",
            matching.matched,
            matching.requested,
            matching.rate() * 100.0,
            matching.offers_per_match()
        )?;
        writeln!(
            f,
            "cancelled: {} while they waited, {} after a driver had accepted; nobody was found for {}; fees {}.{:02}",
            matching.cancelled_waiting,
            matching.cancelled_later,
            matching.no_driver,
            matching.fees / 100,
            matching.fees % 100
        )?;
        let (most, share) = self.surge;
        writeln!(f, "surge: up to {most:.2}, in {:.1} % of the estimates", share * 100.0)?;
        writeln!(f, "\n{:<28} {:>7} {:>8} {:>8} {:>16}", "seconds", "count", "p50", "p99", "mean of worst 10%")?;
        let rows = [
            ("request to first offer", &matching.to_offer),
            ("request to acceptance", &matching.to_match),
            ("pickup ETA when accepted", &self.pickup_eta),
            ("acceptance to arrival", &matching.to_pickup),
        ];
        for (name, Spread { count, p50, p99, worst_decile }) in rows {
            writeln!(f, "{name:<28} {count:>7} {p50:>8.1} {p99:>8.1} {worst_decile:>16.1}")?;
        }
        let ms = |at: Duration| format!("{:.1}", at.as_secs_f64() * 1_000.0);
        writeln!(f, "\n{:<12} {:>9} {:>8} {:>8} {:>8} {:>9}", "call", "count", "p50 ms", "p90", "p99", "longest")?;
        for (name, Summary { count, p50, p90, p99, longest, .. }) in &self.latencies {
            let (p50, p90, p99, longest) = (ms(*p50), ms(*p90), ms(*p99), ms(*longest));
            writeln!(f, "{name:<12} {count:>9} {p50:>8} {p90:>8} {p99:>8} {longest:>9}")?;
        }
        match self.findings.as_slice() {
            [] => writeln!(f, "\nhistories, offers, drivers, deadlines, fares and fees are as they must be"),
            findings => {
                writeln!(f, "\n{} findings:", findings.len())?;
                findings.iter().try_for_each(|finding| writeln!(f, "  - {finding}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_tenth_is_told_apart() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 100, p50: 50.0, p99: 99.0, worst_decile: 95.5 });
        assert_eq!(Spread::of(vec![3.0]), Spread { count: 1, p50: 3.0, p99: 3.0, worst_decile: 3.0 });
        assert_eq!(format!("{:?}", Spread::of(Vec::new())), format!("{:?}", Spread::default()));
    }
}
