//! What a continent's drivers send in a day: the product's rules of intervals over a sample of drivers who drive riders, cruise
//! and stand, in towns of a made-up continent, scaled to the fleet; beside it the same with one interval for all. With what an
//! update costs, the cores and connections that it takes. Prints tables in Markdown.
//!
//! `bench-rides-fleet --fleet 3000000 --sample 30000`

use std::time::Duration;

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_rides::domain::interval::Intervals;

const DAY: f64 = 86_400.0;
/// Minutes are counted.
const MINUTES: usize = 1_440;
/// Of 100 drivers of the fleet, who are on duty, by hour from midnight on; 100 at the evening peak.
const ON_DUTY: [f64; 24] = [
    45.0, 35.0, 28.0, 24.0, 25.0, 32.0, 48.0, 68.0, 80.0, 76.0, 70.0, 70.0, 74.0, 76.0, 74.0, 76.0, 84.0, 94.0, 100.0,
    98.0, 90.0, 80.0, 70.0, 58.0,
];
/// Of 100 on duty, who have a rider or go to one.
const ON_TRIP: [f64; 24] = [
    45.0, 40.0, 36.0, 32.0, 34.0, 42.0, 52.0, 60.0, 60.0, 50.0, 45.0, 46.0, 50.0, 50.0, 46.0, 48.0, 54.0, 60.0, 62.0,
    58.0, 54.0, 52.0, 50.0, 48.0,
];
/// Pickup and trip, mean seconds.
const TRIP_S: f64 = 1_100.0;
/// Of 100 who become free, how many stand until the next ride; the others drive around.
const STANDS: f64 = 55.0;
/// Who drives around changes its neighbourhood so often, seconds.
const CELL_S: f64 = 240.0;
/// A cell of the rules, km².
const CELL_KM2: f64 = 0.737;
/// Towns, and how much smaller than the first the one of a rank is: as the rank to this power.
const TOWNS: u32 = 5_000;
const RANK: f64 = 0.8;
/// Of 100 drivers, those outside of all towns, and how many of them share a cell.
const RURAL: f64 = 8.0;
const RURAL_CELL: f64 = 0.5;

#[derive(Parser)]
struct Args {
    /// Drivers on duty at the peak.
    #[arg(long, default_value_t = 3_000_000)]
    fleet: u64,
    /// How many of them are followed.
    #[arg(long, default_value_t = 30_000)]
    sample: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The one interval for all, with which it is compared, seconds.
    #[arg(long, default_value_t = 5)]
    fixed_s: u32,
    /// Server CPU of an update, µs: one in a request of its own.
    #[arg(long, default_value_t = 18.5)]
    single_us: f64,
    /// Of a hundred in a JSON list.
    #[arg(long, default_value_t = 0.70)]
    json_us: f64,
    /// Of a hundred in the compact form.
    #[arg(long, default_value_t = 0.31)]
    compact_us: f64,
    /// How full cores may be at the peak, %.
    #[arg(long, default_value_t = 60.0)]
    full: f64,
}

fn main() {
    let args = Args::parse();
    let dynamic = Intervals::default();
    let fixed = Intervals {
        dense_s: args.fixed_s,
        sparse_s: args.fixed_s,
        trip_s: args.fixed_s,
        longest_s: args.fixed_s,
        ..dynamic.clone()
    };
    let runs = [
        (format!("{} s for all", args.fixed_s), day(&args, &fixed)),
        ("by the rules".to_owned(), day(&args, &dynamic)),
    ];
    println!("{} drivers at the peak, {} of them followed, seed {}\n", args.fleet, args.sample, args.seed);
    println!("| interval | updates/s, peak | updates/s, mean | mean interval, peak hour, s |\n|---|---|---|---|");
    for (name, day) in &runs {
        println!("| {name} | {:.0} | {:.0} | {:.1} |", day.peak, day.mean, day.interval);
    }
    let states = &runs[1].1;
    println!(
        "\n| on duty, by state, all day | % of the time | % of the updates | mean interval, s |\n|---|---|---|---|"
    );
    for (name, at) in [("on a trip", 0), ("drives around", 1), ("stands", 2)] {
        let (time, sent) = (states.time[at], states.sent[at]);
        let of = |part: f64, all: &[f64; 3]| part / all.iter().sum::<f64>() * 100.0;
        println!("| {name} | {:.0} | {:.0} | {:.1} |", of(time, &states.time), of(sent, &states.sent), time / sent);
    }
    let costs = [
        ("one in a request", args.single_us),
        ("JSON, 100 in a request", args.json_us),
        ("compact, 100 in a request", args.compact_us),
    ];
    println!(
        "\n| cores at the peak, {:.0} % full | µs an update | {} | {} |\n|---|---|---|---|",
        args.full, runs[0].0, runs[1].0
    );
    for (name, micros) in costs {
        let cores = |day: &Day| day.peak * micros / 1e6 / (args.full / 100.0);
        println!("| {name} | {micros} | {:.1} | {:.1} |", cores(&runs[0].1), cores(&runs[1].1));
    }
    println!(
        "\nConnections: {} kept ones of drivers at the peak; of edges that send batches of 100, each answered within 20 ms:",
        args.fleet
    );
    for (name, day) in &runs {
        println!("- {name}: {:.0}", (day.peak / 100.0 * 0.02).ceil());
    }
}

/// What the sample sends, and its time, by state.
struct Tally {
    minutes: Vec<f64>,
    time: [f64; 3],
    sent: [f64; 3],
}

/// What a fleet sends.
struct Day {
    peak: f64,
    mean: f64,
    /// Mean over who is on duty in the busiest minute.
    interval: f64,
    /// Of a trip, driving around and standing: seconds, and updates.
    time: [f64; 3],
    sent: [f64; 3],
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Trip,
    Cruises,
    Stands,
}

fn day(args: &Args, rules: &Intervals) -> Day {
    let continent = Continent::new(args.fleet as f64);
    let mut tally = Tally { minutes: vec![0.0; MINUTES], time: [0.0; 3], sent: [0.0; 3] };
    for number in 0..args.sample {
        // Who is on duty at an hour: those whose share is below the curve, so that the same drivers make a shift.
        let share = (number as f64 + 0.5) / args.sample as f64 * 100.0;
        let mut driver = Driver::new(&continent, args.seed, number);
        let hours: Vec<usize> = (0..24).filter(|hour| ON_DUTY[*hour] > share).collect();
        for shift in hours.chunk_by(|one, next| one + 1 == *next) {
            let (from, until) = (shift[0] as f64 * 3_600.0, (shift[shift.len() - 1] + 1) as f64 * 3_600.0);
            driver.works(rules, from, until, &mut tally);
        }
    }
    let Tally { minutes, time, sent } = tally;
    let scale = args.fleet as f64 / args.sample as f64;
    let busiest = (0..MINUTES).max_by(|one, other| minutes[*one].total_cmp(&minutes[*other])).unwrap_or(0);
    let peak = minutes[busiest] * scale / 60.0;
    Day {
        peak,
        mean: minutes.iter().sum::<f64>() * scale / DAY,
        interval: ON_DUTY[busiest / 60] / 100.0 * args.fleet as f64 / peak,
        time,
        sent,
    }
}

/// Towns by rank, each densest in its middle and thinner outwards, as the logarithm of the distance has it.
struct Continent {
    /// The share of drivers in all towns up to each.
    up_to: Vec<f64>,
    /// Drivers of the fleet in each.
    drivers: Vec<f64>,
}

impl Continent {
    fn new(fleet: f64) -> Self {
        let sizes: Vec<f64> = (1..=TOWNS).map(|rank| f64::from(rank).powf(-RANK)).collect();
        let all: f64 = sizes.iter().sum();
        let mut sum = 0.0;
        let up_to = sizes.iter().map(|size| {
            sum += size / all;
            sum
        });
        Self {
            up_to: up_to.collect(),
            drivers: sizes.iter().map(|size| size / all * fleet * (1.0 - RURAL / 100.0)).collect(),
        }
    }

    /// A driver's town; none is the country.
    fn town(&self, dice: &mut StdRng) -> Option<usize> {
        if dice.random_range(0.0..100.0) < RURAL {
            return None;
        }
        let share = dice.random_range(0.0..1.0);
        Some(self.up_to.partition_point(|up_to| *up_to < share).min(self.drivers.len() - 1))
    }

    /// How many of the fleet are in the cell of a driver in a town.
    fn cell(&self, town: Option<usize>, dice: &mut StdRng) -> f64 {
        let Some(town) = town else { return RURAL_CELL };
        let drivers = self.drivers[town];
        // A town of ten thousand drivers thins out by e each 3 km.
        let scale_km = 3.0 * (drivers / 10_000.0).cbrt();
        let middle = drivers / (std::f64::consts::TAU * scale_km * scale_km);
        // Distance from the middle, in scales: as many drivers live there as density times circumference says.
        let mut log = || -(1.0 - dice.random_range(0.0..1.0_f64)).ln();
        middle * (-(log() + log())).exp() * CELL_KM2
    }
}

struct Driver<'a> {
    continent: &'a Continent,
    town: Option<usize>,
    dice: StdRng,
}

impl<'a> Driver<'a> {
    fn new(continent: &'a Continent, seed: u64, number: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed << 40 | number);
        Self { continent, town: continent.town(&mut dice), dice }
    }

    /// About so long.
    fn lasts(&mut self, mean: f64) -> f64 {
        -(1.0 - self.dice.random_range(0.0..1.0_f64)).ln() * mean
    }

    /// Others of the fleet in the cell, at an hour, and this one.
    fn neighbours(&mut self, hour: usize) -> u32 {
        let mean = self.continent.cell(self.town, &mut self.dice) * ON_DUTY[hour % 24] / 100.0;
        if mean > 30.0 {
            // It is dense, whatever the exact number.
            return mean as u32;
        }
        let (mut others, mut left) = (0, self.dice.random_range(0.0..1.0_f64));
        while left > (-mean).exp() {
            left *= self.dice.random_range(0.0..1.0_f64);
            others += 1;
        }
        others + 1
    }

    /// A shift, seconds of the day.
    fn works(&mut self, rules: &Intervals, from: f64, until: f64, tally: &mut Tally) {
        let mut state = if self.dice.random_range(0.0..100.0) < ON_TRIP[(from / 3_600.0) as usize % 24] {
            State::Trip
        } else {
            self.free()
        };
        // Not all begin at the same moment.
        let mut now = from + self.dice.random_range(0.0..60.0);
        while now < until {
            let hour = (now / 3_600.0) as usize % 24;
            let ends = now
                + self.lasts(match state {
                    State::Trip => TRIP_S,
                    // So long that the share on trips is that of the hour.
                    _ => TRIP_S * (100.0 - ON_TRIP[hour]) / ON_TRIP[hour],
                });
            let ends = ends.min(until);
            let began = now;
            let mut neighbours = self.neighbours(hour);
            let mut moved_on = now + CELL_S;
            // It says at once that it moves again, or what it does now.
            while now < ends {
                tally.sent[state as usize] += 1.0;
                tally.minutes[((now / 60.0) as usize).min(MINUTES - 1)] += 1.0;
                if state != State::Stands && now > moved_on {
                    (neighbours, moved_on) = (self.neighbours((now / 3_600.0) as usize), now + CELL_S);
                }
                let standing = if state == State::Stands { now - began } else { 0.0 };
                now += rules.next(state == State::Trip, neighbours, Duration::from_secs_f64(standing)).as_secs_f64();
            }
            tally.time[state as usize] += ends - began;
            now = ends;
            state = if state == State::Trip { self.free() } else { State::Trip };
        }
    }

    fn free(&mut self) -> State {
        if self.dice.random_range(0.0..100.0) < STANDS { State::Stands } else { State::Cruises }
    }
}
