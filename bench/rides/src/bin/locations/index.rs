//! The index in this process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_bench::process::Pid;
use tessera_bench::sorted::Sorted;
use tessera_kernel::Timestamp;
use tessera_rides::domain::interval::Intervals;
use tessera_rides::locations::{Duty, Entry, Index};

use super::fleet::Fleet;

/// When the first of them come on duty.
pub const EPOCH: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
/// Between two reports of a driver.
const EVERY: Duration = Duration::from_secs(5);
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
    let bytes = (Pid::own().memory_kb()? - before) * 1_024 / count as u64;
    println!("{count} drivers: {bytes} bytes each");

    let (cpu, began) = (thread_cpu()?, Instant::now());
    let taken: usize = (1..=rounds).map(|round| update(&index, fleet, 0..count, round)).sum();
    let each = (thread_cpu()? - cpu).as_secs_f64() * 1e6 / taken as f64;
    println!(
        "one thread: {:.0} updates a second, {each:.3} µs of CPU each",
        taken as f64 / began.elapsed().as_secs_f64()
    );

    let began = Instant::now();
    let taken: usize = std::thread::scope(|scope| {
        let half = count / 2;
        let run = |part: std::ops::Range<usize>| {
            let index = &index;
            scope.spawn(move || {
                (rounds + 1..=2 * rounds).map(|round| update(index, fleet, part.clone(), round)).sum::<usize>()
            })
        };
        let threads = [run(0..half), run(half..count)];
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    println!("two threads: {:.0} updates a second", taken as f64 / began.elapsed().as_secs_f64());

    let (over, updates, began) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let asked = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 2 * rounds + 1;
            while !over.load(Ordering::Relaxed) {
                for part in 0..100 {
                    let taken = update(&index, fleet, part * count / 100..(part + 1) * count / 100, round);
                    updates.fetch_add(taken as u64, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                round += 1;
            }
        });
        let asked = ask(&index, fleet, questions, 2 * rounds);
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

/// Each of them reports; how many were taken.
fn update(index: &Index, fleet: &Fleet, part: std::ops::Range<usize>, round: u32) -> usize {
    let now = at(round);
    part.filter(|number| index.report(&fleet.report(*number, round, now), now).is_ok()).count()
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
