//! The index that several processes share, in Redis: what a position and a question cost it, by what comes in a batch.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_bench::process::Pid;
use tessera_kernel::Place;
use tessera_rides::domain::ids::DriverId;
use tessera_rides::domain::interval::Intervals;
use tessera_rides::locations::{Duty, Entry, Locations, Report};
use tessera_store::redis::Redis;

use super::fleet::{Fleet, moved};
use super::index::{EPOCH, RADIUS_M, at, print_times};

/// Drivers of one city.
const DRIVERS: usize = 20_000;
/// Positions that are measured of each size of batch.
const BATCHES: [(usize, usize); 3] = [(1_000, 300_000), (100, 200_000), (1, 20_000)];
const QUESTIONS: usize = 5_000;

/// Measures and prints.
pub async fn measure(address: SocketAddr, redis_is: Pid) -> anyhow::Result<()> {
    let index = Locations::in_redis(Redis::open(&format!("redis://{address}")).await?, Intervals::default());
    let drivers = Fleet::city(DRIVERS);
    let entry =
        |(driver, place): &(DriverId, Place)| Entry { driver: *driver, place: *place, duty: Duty::Free, at: EPOCH };
    let entries: Vec<Entry> = drivers.iter().map(entry).collect();
    for some in entries.chunks(1_000) {
        index.enter_unknown(some).await?;
    }
    let (mut round, mut next) = (1, 0);
    for (batch, wanted) in BATCHES {
        let (cpu, own, began) = (redis_is.cpu_s()?, Pid::own().cpu_s()?, Instant::now());
        for _ in 0..wanted / batch {
            if next + batch > drivers.len() {
                (round, next) = (round + 1, 0);
            }
            let now = at(round);
            let of = |(driver, home): &(DriverId, Place)| Report {
                driver: *driver,
                place: moved(*home, round),
                heading: Some(90),
                at: now,
            };
            let reports: Vec<Report> = drivers[next..next + batch].iter().map(of).collect();
            let answers = index.report(&reports, now).await?;
            ensure!(answers.iter().all(Result::is_ok), "not all of {batch} positions were taken: {answers:?}");
            next += batch;
        }
        let each = |cpu: f64| cpu * 1e6 / wanted as f64;
        println!(
            "the index in Redis, {batch} in a batch: {:.1} µs of its CPU each, {:.1} of ours, {:.0} a second",
            each(redis_is.cpu_s()? - cpu),
            each(Pid::own().cpu_s()? - own),
            wanted as f64 / began.elapsed().as_secs_f64()
        );
    }
    let mut dice = StdRng::seed_from_u64(11);
    let mut took = Vec::with_capacity(QUESTIONS);
    let cpu = redis_is.cpu_s()?;
    for _ in 0..QUESTIONS {
        let (_, place) = drivers[dice.random_range(0..drivers.len())];
        let began = Instant::now();
        let near = index.nearest(place, 10, RADIUS_M, at(round), |_| true).await?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
        ensure!(!near.is_empty(), "there is one at the very place");
    }
    let each = (redis_is.cpu_s()? - cpu) * 1e6 / QUESTIONS as f64;
    print_times(&format!("the index in Redis, the nearest ten of {DRIVERS}, {each:.0} µs of its CPU each"), took);
    Ok(())
}
