//! What a run tells in the end, for people and as JSON.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::audit::Audit;
use super::onsale::{Plan, outcomes};
use super::stage::Stage;
use crate::domain::latency::Summary;

/// How fair the line was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Fairness {
    /// How many were served.
    pub served: u64,
    /// Order of arrival against order of numbers among those who came before the doors opened: about 0 for a draw by lot.
    pub by_lot: Option<f64>,
    /// Order of arrival against order of service among all others: about 1 for first in, first out.
    pub in_turn: Option<f64>,
    /// How many have a higher number than somebody who asked only after they had theirs.
    pub overtaken: u64,
    /// Whether the lottery's seed is the one that was promised.
    pub promise_kept: Option<bool>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The event.
    pub event: String,
    /// What the fans decided, in 16 digits.
    pub decisions: String,
    /// From the first fan to the last.
    pub took: Duration,
    /// How fans ended, by how many.
    pub outcomes: std::collections::BTreeMap<&'static str, u64>,
    /// Counts that are printed.
    pub counts: Vec<(&'static str, u64)>,
    /// What calls took.
    pub latencies: Vec<(&'static str, Summary)>,
    /// How fair it was.
    pub fairness: Fairness,
    /// The books.
    pub audit: Audit,
    /// What must not have happened and did.
    pub findings: Vec<String>,
    seed: u64,
    fans: u64,
    has_room: bool,
}

impl Report {
    pub(super) fn new(
        stage: &Stage,
        plan: &Plan,
        decisions: String,
        took: Duration,
        fairness: Fairness,
        audit: Audit,
    ) -> Self {
        let tally = &stage.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut findings = audit.findings.clone();
        let (broken, reasons) = tally.broken();
        findings.extend(reasons);
        if broken > findings.len() as u64 {
            findings.push(format!("{broken} such errors in all"));
        }
        if fairness.overtaken > 0 {
            findings.push(format!("{} were overtaken in the waiting room by some who came later", fairness.overtaken));
        }
        if fairness.promise_kept == Some(false) {
            findings.push("the seed of the lottery is not the one that was promised".into());
        }
        Self {
            event: stage.event.clone(),
            decisions,
            took,
            outcomes: outcomes(tally),
            counts: vec![
                ("holds", read(&tally.holds)),
                ("seats and places held", read(&tally.held)),
                ("conflicts", read(&tally.conflicts)),
                ("cards declined", read(&tally.declined)),
                ("double taps", read(&tally.doubled)),
                ("requests sent again", stage.client.repeated()),
                ("bot attempts", read(&tally.bot_attempts)),
                ("bot holds", read(&tally.bot_holds)),
            ],
            latencies: stage.client.latencies(),
            fairness,
            audit,
            findings,
            seed: plan.seed,
            fans: plan.fans,
            has_room: plan.room.is_some(),
        }
    }

    /// Whether all agrees and nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// For programs. Latencies in microseconds.
    pub fn json(&self) -> Value {
        let latency = |(name, summary): &(&'static str, Summary)| {
            let Summary { count, p50, p90, p99, p999, longest } = summary;
            let us = |at: &Duration| at.as_micros() as u64;
            let figures = json!({
                "count": count, "p50_us": us(p50), "p90_us": us(p90), "p99_us": us(p99), "p999_us": us(p999),
                "longest_us": us(longest),
            });
            (name.replace(' ', "_"), figures)
        };
        let count = |(name, count): &(&'static str, u64)| (name.replace(' ', "_"), json!(count));
        json!({
            "event": self.event, "seed": self.seed, "fans": self.fans, "decisions": self.decisions,
            "took_s": self.took.as_secs_f64(), "outcomes": self.outcomes,
            "counts": self.counts.iter().map(count).collect::<serde_json::Map<_, _>>(),
            "latencies": self.latencies.iter().map(latency).collect::<serde_json::Map<_, _>>(),
            "fairness": self.fairness,
            "books": {
                "capacity": self.audit.seats.total, "sold": self.audit.seats.booked, "held": self.audit.seats.held,
                "free": self.audit.seats.free, "tickets": self.audit.tickets, "orders_sold": self.audit.captured,
                "orders_unpaid": self.audit.unpaid, "revenue": self.audit.revenue,
            },
            "findings": self.findings,
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        writeln!(f, "{} fans in {seconds:.1} s; seed {}, decisions {}", self.fans, self.seed, self.decisions)?;
        for (name, count) in &self.outcomes {
            writeln!(f, "  {count:>9}  {name}")?;
        }
        writeln!(f, "\n{:<22} {:>9} {:>9}", "", "count", "a second")?;
        for (name, count) in self.counts.iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "{name:<22} {count:>9} {:>9.0}", rate(*count))?;
        }
        let ms = |at: Duration| format!("{:.1}", at.as_secs_f64() * 1_000.0);
        let (p50, p90, p99, p999, longest) = ("p50 ms", "p90", "p99", "p99.9", "longest");
        writeln!(
            f,
            "\n{:<12} {:>9} {:>9} {p50:>8} {p90:>8} {p99:>8} {p999:>8} {longest:>9}",
            "call", "count", "a second"
        )?;
        for (name, Summary { count, p50, p90, p99, p999, longest }) in &self.latencies {
            let (p50, p90, p99) = (ms(*p50), ms(*p90), ms(*p99));
            let (p999, longest, per_second) = (ms(*p999), ms(*longest), rate(*count));
            writeln!(f, "{name:<12} {count:>9} {per_second:>9.0} {p50:>8} {p90:>8} {p99:>8} {p999:>8} {longest:>9}")?;
        }
        self.write_fairness(f)?;
        let Audit { seats, captured, unpaid, tickets, revenue, .. } = &self.audit;
        writeln!(
            f,
            "\nbooks: {} for sale = {} free + {} held + {} sold; {captured} orders, {tickets} tickets, {}.{:02} EUR; {unpaid} orders came to nothing",
            seats.total,
            seats.free,
            seats.held,
            seats.booked,
            revenue / 100,
            revenue % 100,
        )?;
        match self.findings.as_slice() {
            [] => writeln!(f, "seats, orders, payments and capacity agree"),
            findings => {
                writeln!(f, "{} findings:", findings.len())?;
                findings.iter().try_for_each(|finding| writeln!(f, "  - {finding}"))
            }
        }
    }
}

impl Report {
    fn write_fairness(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fairness { served, by_lot, in_turn, overtaken, promise_kept } = self.fairness;
        let tau = |tau: Option<f64>| tau.map_or("-".to_owned(), |tau| format!("{tau:.4}"));
        if !self.has_room {
            let order = "order of arrival and of first hold";
            return writeln!(f, "\nfairness: {order} agree by {} (Kendall's tau, {served} holders)", tau(in_turn));
        }
        let promise = match promise_kept {
            None => "no draw",
            Some(true) => "its seed is the one that was promised",
            Some(false) => "ITS SEED IS NOT THE ONE THAT WAS PROMISED",
        };
        writeln!(f, "\nfairness: {served} were let in; Kendall's tau of arrival and number:")?;
        writeln!(f, "  before the doors {:>8}  a draw by lot gives about 0; {promise}", tau(by_lot))?;
        writeln!(
            f,
            "  after the doors  {:>8}  first in, first out gives about 1; {overtaken} were overtaken",
            tau(in_turn)
        )
    }
}
