//! The index in this process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tessera_bench::process::Pid;
use tessera_bench::sorted::Sorted;
use tessera_kernel::Timestamp;
use tessera_rides::domain::interval::Intervals;
use tessera_rides::locations::{Duty, Entry, Index, Report};

use super::fleet::Fleet;

/// When the first of them come on duty.
pub const EPOCH: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
/// Between two reports of a driver.
const EVERY: Duration = Duration::from_secs(5);
/// Reports that an edge sends together.
const BATCH: usize = 100;
/// How far the nearest are looked for, metres.
pub const RADIUS_M: f64 = 8_000.0;

/// Measures and prints.
pub fn measure(fleet: &Fleet, rounds: u32, questions: usize) -> anyhow::Result<()> {
    let before = Pid::own().memory_kb()?;
    let index = Index::new(Intervals::default(), EPOCH);
    for (driver, place) in fleet.drivers() {
        index.enter(&Entry { driver: *driver, place: *place, duty: Duty::Free, at: EPOCH }, false);
    }
    let count = fleet.drivers().len();
    let mut round = 0;
    let bytes = (Pid::own().memory_kb()? - before) * 1_024 / count as u64;
    println!("{count} drivers: {bytes} bytes each");

    let order = order(count);
    for batch in [1, BATCH] {
        let (mut cpu, mut took, mut taken) = (Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..rounds {
            round += 1;
            let reports = reports(fleet, &order, round);
            let (before, began) = (thread_cpu()?, Instant::now());
            taken += update(&index, &reports, batch, at(round));
            (cpu, took) = (cpu + thread_cpu()? - before, took + began.elapsed());
        }
        println!(
            "one thread, {batch} in a batch: {:.0} updates a second, {:.3} µs of CPU each",
            taken as f64 / took.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / taken as f64
        );
    }

    let (mut took, mut taken) = (Duration::ZERO, 0);
    for _ in 0..rounds {
        round += 1;
        let reports = reports(fleet, &order, round);
        let (one, other) = reports.split_at(count / 2);
        let began = Instant::now();
        taken += std::thread::scope(|scope| {
            let halves = [one, other].map(|half| scope.spawn(|| update(&index, half, BATCH, at(round))));
            halves.into_iter().map(|thread| thread.join().unwrap_or_default()).sum::<usize>()
        });
        took += began.elapsed();
    }
    println!("two threads, {BATCH} in a batch: {:.0} updates a second", taken as f64 / took.as_secs_f64());

    round += 1;
    let (over, updates, began) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let asked = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in round.. {
                for some in order.chunks(BATCH) {
                    let taken = update(&index, &reports(fleet, some, round), BATCH, at(round));
                    updates.fetch_add(taken as u64, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
        let asked = ask(&index, fleet, questions, round);
        over.store(true, Ordering::Relaxed);
        asked
    });
    let beside = updates.into_inner() as f64 / began.elapsed().as_secs_f64();
    print_times(&format!("the nearest ten, beside {beside:.0} updates a second"), asked);
    Ok(())
}

/// When all of them report in a round.
pub fn at(round: u32) -> Timestamp {
    EPOCH.plus(EVERY * round)
}

/// Everybody, in an order of chance that is not the one in which they came.
fn order(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut StdRng::seed_from_u64(13));
    order
}

/// What drivers report in a round.
fn reports(fleet: &Fleet, drivers: &[usize], round: u32) -> Vec<Report> {
    drivers.iter().map(|number| fleet.report(*number, round, at(round))).collect()
}

/// How many reports were taken.
fn update(index: &Index, reports: &[Report], batch: usize, now: Timestamp) -> usize {
    let taken = |batch| index.report_all(batch, now).iter().filter(|answer| answer.is_ok()).count();
    reports.chunks(batch).map(taken).sum()
}

/// How long each question took, µs. It is asked where drivers are.
fn ask(index: &Index, fleet: &Fleet, questions: usize, round: u32) -> Vec<f64> {
    let mut dice = StdRng::seed_from_u64(11);
    let count = fleet.drivers().len();
    let mut took = Vec::with_capacity(questions);
    for _ in 0..questions {
        let (_, place) = fleet.drivers()[dice.random_range(0..count)];
        let began = Instant::now();
        let near = index.nearest(place, 10, RADIUS_M, at(round), |_| true);
        took.push(began.elapsed().as_secs_f64() * 1e6);
        assert!(!near.is_empty(), "there is one at the very place");
    }
    took
}

/// Prints half of them, nearly all and almost all.
pub fn print_times(what: &str, took: Vec<f64>) {
    let took = Sorted::new(took);
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs", took.at(0.5), took.at(0.99), took.at(0.999));
}

/// CPU of this thread so far (proc(5): `schedstat`, nanoseconds).
fn thread_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split_whitespace().next().context("schedstat")?.parse()?))
}
