//! Who gets which driver, by four policies, in a city in virtual time: the roads of an extract, riders from real origins to real
//! destinations, drivers who go to pickups and destinations and are free again where the ride ends. Every seed is the same city
//! for each policy: the same riders, and the same answer of a driver to a ride. Prints tables in Markdown.
//!
//! `bench-rides-policies --seeds 20 --drivers 300 --hours 3`

mod cheapest;
mod city;
mod figures;
mod places;

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use tessera_rides::network;

use self::city::{Plan, Policy};
use self::figures::{Figures, NAMES, interval};
use self::places::Places;

#[derive(Parser)]
struct Args {
    /// An OpenStreetMap extract in PBF form; the packaged one of Porto without it.
    #[arg(long)]
    extract: Option<PathBuf>,
    /// Trips: lines of latitude and longitude of the pickup and of the destination, below a line of names.
    #[arg(long, default_value = "crates/sim/data/porto-trips.csv")]
    trips: PathBuf,
    /// Cities, each from its own seed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..))]
    seeds: u64,
    #[arg(long, default_value_t = 300)]
    drivers: usize,
    /// Hours in which riders come; those of the first half hour are not counted.
    #[arg(long, default_value_t = 3)]
    hours: u64,
    /// Requests, in shares of what the drivers can serve if a ride takes each the mean trip and three minutes more.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 0.8, 1.0, 1.3])]
    loads: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let imported = match &args.extract {
        Some(path) => network::import(path)?,
        None => network::read(network::PORTO)?,
    };
    let trips =
        std::fs::read_to_string(&args.trips).with_context(|| format!("the trips `{}`", args.trips.display()))?;
    let began = Instant::now();
    let places = Places::of(&imported.network, &trips)?;
    println!(
        "{} places; a trip takes {:.0} s in the mean, its line is {:.0} m long ({:.1} s for the table of ways)",
        places.count(),
        places.mean_trip_s(),
        places.mean_trip_m(),
        began.elapsed().as_secs_f64()
    );
    let (args, places) = (&args, &places);
    let reports: Vec<String> = thread::scope(|scope| {
        let levels: Vec<_> = args.loads.iter().map(|load| scope.spawn(move || level(args, places, *load))).collect();
        levels.into_iter().map(|level| level.join().unwrap_or_else(|_| "a run failed".to_owned())).collect()
    });
    for report in reports {
        println!("\n{report}");
    }
    println!("\n{:.1} s in all", began.elapsed().as_secs_f64());
    Ok(())
}

/// All policies and seeds under one load, as tables.
fn level(args: &Args, places: &Places, load: f64) -> String {
    let per_minute = load * args.drivers as f64 * 60.0 / (places.mean_trip_s() + 180.0);
    let plan = Plan { drivers: args.drivers, per_minute, hours: args.hours };
    let runs: Vec<(Policy, Vec<Figures>)> = Policy::ALL
        .into_iter()
        .map(|policy| (policy, (0..args.seeds).map(|seed| city::run(places, &plan, policy, seed)).collect()))
        .collect();
    let mut text = format!(
        "Load {load}: {per_minute:.1} requests a minute, {} drivers\n\n| policy | {} |\n|{}\n",
        args.drivers,
        NAMES.join(" | "),
        "---|".repeat(NAMES.len() + 1)
    );
    let mut row = |name: &str, values: &dyn Fn(usize) -> Vec<f64>| {
        let cells: Vec<String> = (0..NAMES.len()).map(|at| interval(&values(at))).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    };
    for (policy, runs) in &runs {
        row(policy.name(), &|at| runs.iter().map(|run| run.0[at]).collect());
    }
    // Seed by seed the city is the same, so differences are known better than the figures themselves.
    for (one, other) in [(1, 0), (2, 0), (3, 0), (3, 2)] {
        let ((policy, runs), (less, base)) = (&runs[one], &runs[other]);
        let name = format!("*{}, less {}*", policy.name(), less.name());
        row(&name, &|at| runs.iter().zip(base).map(|(run, base)| run.0[at] - base.0[at]).collect());
    }
    text
}
