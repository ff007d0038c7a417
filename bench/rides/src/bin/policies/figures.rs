//! What a run comes to, and how well runs tell it.

use std::collections::BTreeMap;

use tessera_bench::sorted::Sorted;

/// What is counted of a run.
pub const NAMES: [&str; 7] = [
    "matched, %",
    "matched, worst places, %",
    "pickup ETA, mean, s",
    "pickup ETA, p90, s",
    "wait, p90, s",
    "wait, worst tenth, s",
    "offers a match",
];

/// The figures of a run, as in [`NAMES`].
#[derive(Clone, Copy, Debug)]
pub struct Figures(pub [f64; NAMES.len()]);

/// How it went for a rider.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The pickup.
    pub place: usize,
    /// Seconds to the acceptance, or until the rider gave up.
    pub wait: f64,
    /// How far the driver was, where one accepted.
    pub eta: Option<f64>,
    /// Offers that were made.
    pub offers: u32,
}

impl Figures {
    /// From what riders tell.
    pub fn of(told: &[Told]) -> Self {
        let mut waits: Vec<f64> = told.iter().map(|one| one.wait).collect();
        let etas: Sorted = told.iter().filter_map(|one| one.eta).collect();
        waits.sort_unstable_by(f64::total_cmp);
        let worst = &waits[waits.len() - waits.len().div_ceil(10)..];
        let worst = mean(worst);
        let waits = Sorted::new(waits);
        let matched = etas.count() as f64;
        Self([
            matched / waits.count().max(1) as f64 * 100.0,
            worst_places(told),
            etas.mean(),
            etas.at(0.9),
            waits.at(0.9),
            worst,
            f64::from(told.iter().map(|one| one.offers).sum::<u32>()) / matched.max(1.0),
        ])
    }
}

/// Of 100 riders who are matched at the tenth of the pickups where it is least likely.
fn worst_places(told: &[Told]) -> f64 {
    let mut places: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for one in told {
        let (riders, matched) = places.entry(one.place).or_default();
        *riders += 1.0;
        *matched += f64::from(u8::from(one.eta.is_some()));
    }
    let mut places: Vec<(f64, f64)> = places.into_values().collect();
    places.sort_unstable_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
    places.truncate(places.len().div_ceil(10));
    let (riders, matched) = places.into_iter().fold((0.0, 0.0), |sum, place| (sum.0 + place.0, sum.1 + place.1));
    matched / f64::max(riders, 1.0) * 100.0
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The mean over runs, and half of its 95 % interval.
pub fn interval(values: &[f64]) -> String {
    let count = values.len().max(2) as f64;
    let mean = mean(values);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // No minus before nothing.
    let mean = if mean.abs() < 0.005 { 0.0 } else { mean };
    // Student's t, to two digits from ten runs on.
    let deviations = 1.96 + 2.5 / (count - 1.0);
    format!("{mean:.2} ± {:.2}", deviations * (variance / count).sqrt())
}
