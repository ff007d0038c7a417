//! Rounds of matching by three policies over the same random towns: what the ways cost, how many rides have a driver, and what the
//! choice itself takes. Straight lines; each ride may have its ten nearest drivers, as in the matcher.
//!
//! `bench-rides-policies --rounds 50 --rides 200 --drivers 300`

use std::time::Instant;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_rides::domain::assign::{Edge, cheapest_first, in_order, min_cost};

/// How many of the nearest a ride may have.
const NEAREST: usize = 10;
/// The side of the town, seconds of way.
const SIDE: f64 = 1_200.0;
/// Of 95 of 100 means of so many rounds, so far at most from the true one.
const DEVIATIONS: f64 = 1.96;

#[derive(Parser)]
struct Args {
    /// Random towns, each from its own seed.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    #[arg(long, default_value_t = 200)]
    rides: usize,
    #[arg(long, default_value_t = 300)]
    drivers: usize,
}

type Policy = fn(&[Vec<Edge>]) -> Vec<Option<usize>>;

fn main() {
    let args = Args::parse();
    let policies: [(&str, Policy); 3] =
        [("fifo", in_order), ("cheapest pair first", cheapest_first), ("balanced", min_cost)];
    println!("{} rides, {} drivers, {} towns", args.rides, args.drivers, args.rounds);
    for (name, choose) in policies {
        let (mut means, mut served, mut took) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..args.rounds {
            let rows = town(&args, seed);
            let began = Instant::now();
            let chosen = choose(&rows);
            took.push(began.elapsed().as_secs_f64() * 1e3);
            let cost = |(row, column): (&Vec<Edge>, &Option<usize>)| {
                row.iter().find(|edge| Some(edge.column) == *column).map(|edge| edge.cost as f64 / 1e3)
            };
            let costs: Vec<f64> = rows.iter().zip(&chosen).filter_map(cost).collect();
            means.push(costs.iter().sum::<f64>() / costs.len().max(1) as f64);
            served.push(costs.len() as f64 / rows.len().max(1) as f64 * 100.0);
        }
        let ((way, way_off), (share, share_off)) = (mean(&means), mean(&served));
        took.sort_unstable_by(f64::total_cmp);
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        println!(
            "{name}: {way:.1} ± {way_off:.1} s of way, {share:.1} ± {share_off:.1} % served, chosen in {median:.2} ms"
        );
    }
}

fn town(args: &Args, seed: u64) -> Vec<Vec<Edge>> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut place = || (dice.random_range(0.0..SIDE), dice.random_range(0.0..SIDE));
    let drivers: Vec<(f64, f64)> = (0..args.drivers).map(|_| place()).collect();
    let row = |_| {
        let (x, y) = place();
        let edge = |(column, driver): (usize, &(f64, f64))| Edge {
            column,
            cost: ((driver.0 - x).hypot(driver.1 - y) * 1e3) as i64,
        };
        let mut edges: Vec<Edge> = drivers.iter().enumerate().map(edge).collect();
        edges.sort_unstable_by_key(|edge| edge.cost);
        edges.truncate(NEAREST);
        edges
    };
    (0..args.rides).map(row).collect()
}

/// The mean, and half of its 95 % interval.
fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, DEVIATIONS * (variance / count).sqrt())
}
