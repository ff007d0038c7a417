//! What was measured, and the sums over it.

use std::fmt;

use serde::Serialize;

use crate::contender::Contender;
use crate::process::Usage;

/// Contenders that take turns under the same conditions.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) key: &'static str,
    pub(crate) title: String,
    pub(crate) latency_ms: u64,
    pub(crate) concurrency: u16,
    pub(crate) entries: Vec<Entry>,
}

/// A contender in a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) contender: Contender,
    pub(crate) rows: u64,
    pub(crate) runs: usize,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: &'static str,
    pub(crate) contender: Contender,
    pub(crate) round: usize,
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) file_bytes: u64,
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

impl Sample {
    /// CPU time for each row, in microseconds.
    pub(crate) fn cpu_us_per_row(&self) -> f64 {
        self.usage.cpu_s() * 1e6 / self.rows as f64
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { wall_s, user_s, system_s, peak_bytes } = self.usage;
        write!(
            f,
            "{} {} {}: {} rows, wall {wall_s:.3} s, user {user_s:.3} s, system {system_s:.3} s, peak {:.0} MB",
            self.scenario,
            self.round + 1,
            self.contender.title(),
            self.rows,
            peak_bytes as f64 / 1e6
        )
    }
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of no figures.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { min, median, max })
    }

    /// With something added.
    pub(crate) fn plus(self, other: f64) -> Self {
        Self { min: self.min + other, median: self.median + other, max: self.max + other }
    }

    /// In other units.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { min: self.min * factor, median: self.median * factor, max: self.max * factor }
    }
}

/// The runs of one contender in one scenario.
pub(crate) fn of<'a>(samples: &'a [Sample], key: &str, contender: Contender) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.scenario == key && sample.contender == contender)
}

/// A figure of one contender in one scenario.
pub(crate) fn spread(
    samples: &[Sample],
    key: &str,
    contender: Contender,
    figure: impl Fn(&Sample) -> f64,
) -> Option<Spread> {
    Spread::of(of(samples, key, contender).map(figure))
}

/// CPU per row of one over another's: the ratio within each round, so that what disturbs a round disturbs both.
pub(crate) fn cpu_ratio(samples: &[Sample], key: &str, one: Contender, other: Contender) -> Option<Spread> {
    let ratios = of(samples, key, one).filter_map(|sample| {
        let beside = of(samples, key, other).find(|beside| beside.round == sample.round)?;
        Some(sample.cpu_us_per_row() / beside.cpu_us_per_row())
    });
    Spread::of(ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(Spread::of([].into_iter()), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0].into_iter()), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let sample = |contender, round, cpu_s| Sample {
            scenario: "cpu",
            contender,
            round,
            rows: 10,
            files: 1,
            file_bytes: 1,
            usage: Usage { wall_s: 1.0, user_s: cpu_s, system_s: 0.0, peak_bytes: 1 },
        };
        let samples = [
            sample(Contender::Tessera, 0, 3.0),
            sample(Contender::Bare, 0, 2.0),
            sample(Contender::Tessera, 1, 30.0),
            sample(Contender::Bare, 1, 20.0),
        ];
        let ratio = cpu_ratio(&samples, "cpu", Contender::Tessera, Contender::Bare).unwrap();
        assert!((ratio.min - 1.5).abs() < 1e-9 && (ratio.max - 1.5).abs() < 1e-9, "{ratio:?}");
    }
}
