//! One contract of positions, kept by memory, Redis and a Redis Cluster.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::{Place, Timestamp, Uuid};
use tessera_rides::config::Config;
use tessera_rides::domain::area::area_of;
use tessera_rides::domain::bounds::Bounds;
use tessera_rides::domain::ids::DriverId;
use tessera_rides::locations::{Duty, Entry, Locations, PARTS, Refusal, Report};
use tessera_testkit::redis;

use crate::support::{NOON, locations, place};

/// Gives positions without drivers.
enum Kind {
    Memory,
    Redis(redis::Redis),
    Cluster(redis::Cluster),
}

impl Kind {
    async fn empty(&mut self) -> Locations {
        let url = match self {
            Self::Memory => None,
            Self::Redis(server) => {
                server.command("FLUSHALL").unwrap();
                Some(server.url())
            }
            Self::Cluster(cluster) => {
                for node in cluster.nodes() {
                    node.command("FLUSHALL").unwrap();
                }
                Some(cluster.url())
            }
        };
        locations(&Config { locations: url, ..Config::default() }, NOON).await
    }
}

async fn contract(mut kind: Kind) {
    a_report_moves_a_driver_and_an_old_one_does_not(&kind.empty().await).await;
    reports_of_one_batch_count_in_their_order(&kind.empty().await).await;
    busy_silent_and_unfit_drivers_are_not_offered(&kind.empty().await).await;
    intervals_follow_density_and_parking(&kind.empty().await).await;
    who_enters_again_is_in_one_place(&kind.empty().await).await;
    who_is_known_stays_where_it_is(&kind.empty().await).await;
    a_phone_whose_clock_is_wrong_is_heard(&kind.empty().await).await;
    who_is_silent_does_not_count_and_is_forgotten(&kind.empty().await).await;
    areas_bounds_and_parts_are_of_the_same_drivers(&kind.empty().await).await;
    nearest_reaches_over_areas_and_the_date_line(&kind.empty().await).await;
    nobody_is_lost_when_many_move_the_same_drivers(&kind.empty().await).await;
    for seed in 0..6 {
        it_is_a_list_of_drivers(&kind.empty().await, seed).await;
    }
}

/// Many who report at the same moment are one batch for Redis.
#[tokio::test]
async fn reports_of_many_callers_go_to_redis_together() {
    const DRIVERS: u128 = 400;
    let server = redis::start();
    let config = Config { locations: Some(server.url()), ..Config::default() };
    let locations = locations(&config, NOON).await;
    let entry = |n| Entry { driver: driver(n), place: place(0.0, 0.0), duty: Duty::Free, at: NOON };
    locations.enter_unknown(&(0..DRIVERS).map(entry).collect::<Vec<_>>()).await.unwrap();
    server.command("CONFIG RESETSTAT").unwrap();
    let asked = (0..DRIVERS).map(|n| one(&locations, report(n, place(0.0, 0.0), 5 + n as u64 % 2), later(6)));
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| *answer == Ok(5)), "{answers:?}");
    let stats = server.command("INFO commandstats").unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls=")).unwrap();
    let calls: usize = line.split(',').next().unwrap().parse().unwrap();
    // Three batches, of at most a command for each part of the records.
    assert!(calls <= 2 + PARTS, "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    contract(Kind::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    contract(Kind::Redis(redis::start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_keeps_the_contract() {
    contract(Kind::Cluster(redis::start_cluster())).await;
}

fn driver(n: u128) -> DriverId {
    DriverId::from(Uuid::from_u128(n))
}

fn later(seconds: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(seconds))
}

fn report(n: u128, place: Place, seconds: u64) -> Report {
    Report { driver: driver(n), place, heading: Some(90), at: later(seconds) }
}

fn at(lat: f64, lng: f64) -> Place {
    Place::from_degrees(lat, lng).unwrap()
}

async fn one(locations: &Locations, report: Report, now: Timestamp) -> Result<u64, Refusal> {
    let mut answers = locations.report(&[report], now).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0).map(|next| next.as_secs())
}

async fn nearest(locations: &Locations, place: Place, most: usize, radius_m: f64, now: Timestamp) -> Vec<DriverId> {
    let near = locations.nearest(place, most, radius_m, now, |_| true).await.unwrap();
    assert!(near.is_sorted_by(|one, other| one.distance_m <= other.distance_m), "{near:?}");
    near.into_iter().map(|near| near.driver).collect()
}

async fn a_report_moves_a_driver_and_an_old_one_does_not(locations: &Locations) {
    let porto = place(0.0, 0.0);
    locations.enter(driver(1), porto, Duty::Free, NOON).await.unwrap();
    let next = place(0.0005, 0.0);
    assert!(one(locations, report(1, next, 5), later(5)).await.is_ok());
    assert_eq!(one(locations, report(1, porto, 5), later(5)).await, Err(Refusal::Stale), "the same moment again");
    assert_eq!(one(locations, report(1, porto, 3), later(5)).await, Err(Refusal::Stale), "out of order");
    let known = locations.get(driver(1)).await.unwrap().unwrap();
    assert_eq!((known.place, known.heading, known.at, known.duty), (next, Some(90), later(5), Duty::Free));
    assert_eq!(one(locations, report(2, porto, 5), later(5)).await, Err(Refusal::OffDuty));
    assert_eq!(one(locations, report(1, porto, 10), later(90)).await, Err(Refusal::Past));
    assert_eq!(one(locations, report(1, porto, 90), later(10)).await, Err(Refusal::Future));
    assert_eq!(one(locations, report(1, place(0.1, 0.0), 10), later(10)).await, Err(Refusal::Jump));
    assert!(one(locations, report(1, place(0.1, 0.0), 400), later(400)).await.is_ok(), "in the time it is possible");
    assert!(nearest(locations, porto, 5, 2_000.0, later(400)).await.is_empty());
    assert_eq!(nearest(locations, place(0.1, 0.0), 5, 2_000.0, later(400)).await, [driver(1)]);
    assert!(locations.leave(driver(1)).await.unwrap());
    assert!(!locations.leave(driver(1)).await.unwrap() && !locations.set_duty(driver(1), Duty::Free).await.unwrap());
    assert_eq!((locations.get(driver(1)).await.unwrap(), locations.count().await.unwrap()), (None, 0));
}

async fn reports_of_one_batch_count_in_their_order(locations: &Locations) {
    let entry = |n| Entry { driver: driver(n), place: place(0.0, 0.0), duty: Duty::Free, at: NOON };
    locations.enter_unknown(&[entry(1), entry(2)]).await.unwrap();
    let up = |steps: f64| place(0.001 * steps, 0.0);
    let batch = [
        report(1, up(1.0), 5),
        report(2, up(3.0), 5),
        report(3, up(0.0), 5),
        report(1, up(2.0), 10),
        report(1, up(9.0), 10),
        report(2, up(3.0), 90),
    ];
    let answers = locations.report(&batch, later(10)).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok() && answers[3].is_ok(), "{answers:?}");
    let refused = [answers[2], answers[4], answers[5]];
    assert_eq!(refused, [Err(Refusal::OffDuty), Err(Refusal::Stale), Err(Refusal::Future)]);
    let known = locations.get_all(&[driver(1), driver(2), driver(3)]).await.unwrap();
    let places: Vec<_> = known.into_iter().map(|known| known.map(|known| (known.place, known.at))).collect();
    assert_eq!(places, [Some((up(2.0), later(10))), Some((up(3.0), later(5))), None]);
    assert!(locations.report(&[], NOON).await.unwrap().is_empty());
}

async fn busy_silent_and_unfit_drivers_are_not_offered(locations: &Locations) {
    let here = place(0.0, 0.0);
    for n in 1..=4 {
        locations.enter(driver(n), place(0.0, n as f64 / 1_000.0), Duty::Free, NOON).await.unwrap();
    }
    assert_eq!(nearest(locations, here, 9, 1_000.0, NOON).await, (1..=4).map(driver).collect::<Vec<_>>());
    assert_eq!(nearest(locations, here, 2, 1_000.0, NOON).await, [driver(1), driver(2)]);
    assert_eq!(nearest(locations, here, 9, 200.0, NOON).await, [driver(1), driver(2)]);
    assert!(locations.set_duty(driver(1), Duty::Busy).await.unwrap());
    let unfit = locations.nearest(here, 9, 1_000.0, NOON, |id| id != driver(2)).await.unwrap();
    assert_eq!(unfit.iter().map(|near| near.driver).collect::<Vec<_>>(), [driver(3), driver(4)]);
    // 5 s between reports, so that 15 are the end.
    one(locations, report(3, place(0.0, 0.003), 10), later(10)).await.unwrap();
    one(locations, report(1, place(0.0, 0.001), 10), later(10)).await.unwrap();
    assert_eq!(nearest(locations, here, 9, 1_000.0, later(20)).await, [driver(3)]);
    // Who is heard again is offered again, and so is who gets free.
    one(locations, report(4, place(0.0, 0.004), 20), later(20)).await.unwrap();
    locations.set_duty(driver(1), Duty::Free).await.unwrap();
    assert_eq!(nearest(locations, here, 9, 1_000.0, later(20)).await, [driver(1), driver(3), driver(4)]);
}

async fn intervals_follow_density_and_parking(locations: &Locations) {
    let here = place(0.0, 0.0);
    locations.enter(driver(1), here, Duty::Free, NOON).await.unwrap();
    assert_eq!(one(locations, report(1, here, 10), later(10)).await, Ok(20), "alone");
    for n in 2..=8 {
        locations.enter(driver(n), here, Duty::Free, NOON).await.unwrap();
    }
    assert_eq!(one(locations, report(1, here, 20), later(20)).await, Ok(5), "among eight");
    locations.set_duty(driver(2), Duty::Busy).await.unwrap();
    assert_eq!(one(locations, report(2, here, 20), later(20)).await, Ok(10), "on a trip");
    // A GPS wanders; the driver stands.
    let drift = |n: u64| place((n % 2) as f64 * 0.000_03, 0.0);
    let mut last = 0;
    for seconds in (50..=1_230).step_by(30) {
        last = one(locations, report(1, drift(seconds / 10), seconds), later(seconds)).await.unwrap();
    }
    assert_eq!(last, 10, "parked for twenty minutes");
    assert_eq!(one(locations, report(1, place(0.002, 0.0), 1_260), later(1_260)).await, Ok(5), "it moves");
    // Far from all others it is counted where it is now.
    assert_eq!(one(locations, report(1, place(0.05, 0.0), 1_500), later(1_500)).await, Ok(20));
}

async fn who_enters_again_is_in_one_place(locations: &Locations) {
    let (here, there) = (place(0.0, 0.0), place(0.5, 0.5));
    locations.enter(driver(1), here, Duty::Free, NOON).await.unwrap();
    locations.enter(driver(1), there, Duty::Busy, NOON).await.unwrap();
    assert!(nearest(locations, here, 5, 5_000.0, NOON).await.is_empty());
    assert!(nearest(locations, there, 5, 5_000.0, NOON).await.is_empty(), "busy");
    locations.enter(driver(1), there, Duty::Free, NOON).await.unwrap();
    assert_eq!(nearest(locations, there, 5, 5_000.0, NOON).await, [driver(1)]);
    assert_eq!(locations.count().await.unwrap(), 1);
}

/// Of two who let a driver come the slower one changes nothing.
async fn who_is_known_stays_where_it_is(locations: &Locations) {
    let (here, there) = (place(0.0, 0.0), place(0.002, 0.0));
    let entry = |n, place, seconds| Entry { driver: driver(n), place, duty: Duty::Free, at: later(seconds) };
    locations.enter_unknown(&[entry(1, there, 6)]).await.unwrap();
    one(locations, report(1, there, 5), later(6)).await.unwrap();
    locations.set_duty(driver(1), Duty::Busy).await.unwrap();
    locations.enter_unknown(&[entry(1, here, 7), entry(2, here, 7)]).await.unwrap();
    assert_eq!(one(locations, report(1, here, 4), later(7)).await, Err(Refusal::Stale));
    let known = locations.get_all(&[driver(1), driver(2)]).await.unwrap();
    let known: Vec<_> = known.into_iter().flatten().map(|known| (known.place, known.duty)).collect();
    assert_eq!(known, [(there, Duty::Busy), (here, Duty::Free)]);
}

/// Positions are told apart by the phone's clock, silence by the one here.
async fn a_phone_whose_clock_is_wrong_is_heard(locations: &Locations) {
    let here = place(0.0, 0.0);
    for n in 1..=8 {
        locations.enter(driver(n), here, Duty::Free, later(50)).await.unwrap();
    }
    assert_eq!(one(locations, report(1, here, 5), later(55)).await, Ok(5), "slow by 50 s, first after its shift began");
    assert_eq!(one(locations, report(1, here, 4), later(56)).await, Err(Refusal::Stale));
    assert_eq!(one(locations, report(2, here, 80), later(55)).await, Ok(5), "fast by 25 s");
    for n in 3..=8 {
        locations.leave(driver(n)).await.unwrap();
    }
    assert_eq!(nearest(locations, here, 9, 500.0, later(70)).await.len(), 2, "three intervals of 5 s");
    assert!(nearest(locations, here, 9, 500.0, later(71)).await.is_empty());
}

async fn who_is_silent_does_not_count_and_is_forgotten(locations: &Locations) {
    let here = place(0.0, 0.0);
    for n in 1..=3 {
        locations.enter(driver(n), here, Duty::Free, NOON).await.unwrap();
    }
    locations.set_duty(driver(3), Duty::Busy).await.unwrap();
    one(locations, report(1, here, 10), later(10)).await.unwrap();
    let free = async |seconds| locations.free_by_area(later(seconds)).await.unwrap();
    assert_eq!((free(15).await, free(16).await), ([(area_of(here), 2)].into(), [(area_of(here), 1)].into()));
    // Who is looked for in vain is found again once it reports.
    assert_eq!(nearest(locations, here, 9, 500.0, later(16)).await, [driver(1)]);
    let forget = async |n, seconds| locations.forget(driver(n), later(seconds)).await.unwrap();
    assert!(!forget(2, 0).await, "it was heard then");
    assert!(!forget(1, 10).await && !forget(3, 10).await && !forget(4, 10).await);
    assert!(forget(2, 10).await);
    assert_eq!((locations.get(driver(2)).await.unwrap(), locations.count().await.unwrap()), (None, 2));
}

async fn areas_bounds_and_parts_are_of_the_same_drivers(locations: &Locations) {
    let mut free: HashMap<u64, u32> = HashMap::new();
    let mut inside = HashSet::new();
    let bounds = Bounds { south_west: place(0.0, 0.0), north_east: place(0.08, 0.06) };
    for n in 0..60_u128 {
        let here = place((n % 10) as f64 / 60.0, (n / 10) as f64 / 40.0);
        let duty = if n % 3 == 0 { Duty::Busy } else { Duty::Free };
        locations.enter(driver(n), here, duty, NOON).await.unwrap();
        if duty == Duty::Free {
            *free.entry(area_of(here)).or_default() += 1;
        }
        if bounds.contains(here) {
            inside.insert(driver(n));
        }
    }
    assert_eq!(locations.free_by_area(NOON).await.unwrap(), free);
    let within = |most| async move { locations.within(&bounds, most).await.unwrap() };
    let found: HashSet<DriverId> = within(1_000).await.into_iter().map(|located| located.driver).collect();
    assert_eq!(found, inside);
    assert!(inside.len() > 5 && within(5).await.len() == 5);
    let mut all = Vec::new();
    for part in 0..PARTS {
        all.extend(locations.part(part).await.unwrap().into_iter().map(|located| located.driver));
    }
    assert_eq!(all.len(), 60);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 60);
    assert_eq!(locations.count().await.unwrap(), 60);
    // Who leaves is not counted any more.
    for n in 0..60 {
        locations.leave(driver(n)).await.unwrap();
    }
    assert!(locations.free_by_area(NOON).await.unwrap().is_empty() && within(9).await.is_empty());
    let here = place(0.0, 0.0);
    locations.enter(driver(1), here, Duty::Free, NOON).await.unwrap();
    assert_eq!(locations.free_by_area(NOON).await.unwrap(), HashMap::from([(area_of(here), 1)]));
    assert_eq!(within(9).await.len(), 1);
}

async fn nearest_reaches_over_areas_and_the_date_line(locations: &Locations) {
    locations.enter(driver(1), at(0.0, 179.999), Duty::Free, NOON).await.unwrap();
    locations.enter(driver(2), at(0.0, -179.99), Duty::Free, NOON).await.unwrap();
    assert_eq!(nearest(locations, at(0.0, -179.999), 2, 5_000.0, NOON).await, [driver(1), driver(2)]);
    locations.enter(driver(3), at(41.15, -8.70), Duty::Free, NOON).await.unwrap();
    assert_eq!(nearest(locations, at(41.15, -8.61), 1, 10_000.0, NOON).await, [driver(3)]);
    assert!(nearest(locations, at(41.15, -8.61), 1, 5_000.0, NOON).await.is_empty());
    let over = Bounds { south_west: at(-1.0, 179.0), north_east: at(1.0, -179.0) };
    assert_eq!(locations.within(&over, 9).await.unwrap().len(), 2);
}

/// Several callers move the same drivers while others set their duty: the last position of each and its duty stand.
async fn nobody_is_lost_when_many_move_the_same_drivers(locations: &Locations) {
    const DRIVERS: u128 = 24;
    for n in 0..DRIVERS {
        locations.enter(driver(n), place(0.0, 0.0), Duty::Free, NOON).await.unwrap();
    }
    let step = |n: u128, step: u64| place((step % 9) as f64 / 300.0, (n % 5) as f64 / 300.0);
    let movers = (0..3_u64).map(|mover| {
        let locations = locations.clone();
        tokio::spawn(async move {
            for turn in 1..40 {
                let at = turn * 30;
                // Everybody reports at the same moments: one of the three is first, for the others it is stale.
                let batch: Vec<Report> = (0..DRIVERS).map(|n| report(n, step(n, turn), at)).collect();
                for part in batch.chunks(8) {
                    locations.report(part, later(at)).await.unwrap();
                }
                if mover == 0 {
                    for n in 0..DRIVERS / 2 {
                        locations
                            .set_duty(driver(n), if turn % 2 == 0 { Duty::Free } else { Duty::Busy })
                            .await
                            .unwrap();
                    }
                }
            }
        })
    });
    for mover in movers.collect::<Vec<_>>() {
        mover.await.unwrap();
    }
    assert_eq!(locations.count().await.unwrap(), DRIVERS as usize);
    for n in 0..DRIVERS {
        let known = locations.get(driver(n)).await.unwrap().unwrap();
        let duty = if n < DRIVERS / 2 { Duty::Busy } else { Duty::Free };
        assert_eq!((known.place, known.at, known.duty), (step(n, 39), later(39 * 30), duty));
    }
    let near = nearest(locations, place(0.01, 0.01), 100, 8_000.0, later(39 * 30)).await;
    assert_eq!(near.len(), DRIVERS as usize / 2);
}

/// Whatever happens, it answers as a plain list does.
async fn it_is_a_list_of_drivers(locations: &Locations, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut list: HashMap<DriverId, (Place, Duty)> = HashMap::new();
    for _ in 0..200 {
        let id = driver(random.random_range(0..40) * 0x1_0000_0001);
        let here = place(random.random_range(-0.06..0.06), random.random_range(-0.06..0.06));
        match random.random_range(0..10) {
            0 => assert_eq!(locations.leave(id).await.unwrap(), list.remove(&id).is_some(), "seed {seed}"),
            what @ 1..=2 => {
                let duty = if what == 1 { Duty::Busy } else { Duty::Free };
                let known = list.get_mut(&id).map(|known| known.1 = duty).is_some();
                assert_eq!(locations.set_duty(id, duty).await.unwrap(), known, "seed {seed}");
            }
            _ => {
                locations.enter(id, here, Duty::Free, NOON).await.unwrap();
                list.insert(id, (here, Duty::Free));
            }
        }
    }
    let here = place(0.0, 0.0);
    for (most, radius_m) in [(1, 8_000.0), (5, 2_000.0), (12, 8_000.0), (100, 20_000.0)] {
        let near = locations.nearest(here, most, radius_m, NOON, |_| true).await.unwrap();
        let free = list.iter().filter(|(_, (_, duty))| *duty == Duty::Free);
        // Flat or round, distances in a city agree to a metre or two.
        let far = |place: &Place| place.distance_m(here);
        let surely = free.clone().filter(|(_, (place, _))| far(place) < radius_m - 20.0).count().min(most);
        let maybe = free.clone().filter(|(_, (place, _))| far(place) < radius_m + 20.0).count().min(most);
        assert!((surely..=maybe).contains(&near.len()), "seed {seed}: {} of {surely} to {maybe}", near.len());
        let mut distances: Vec<f64> = free.map(|(_, (place, _))| far(place)).collect();
        distances.sort_by(f64::total_cmp);
        for (near, expected) in near.iter().zip(distances) {
            assert_eq!(list[&near.driver], (near.place, Duty::Free), "seed {seed}");
            assert!((near.distance_m - expected).abs() < 20.0, "seed {seed}: {near:?} at {expected}");
        }
    }
    assert_eq!(locations.count().await.unwrap(), list.len(), "seed {seed}");
    for (id, (place, duty)) in list {
        let known = locations.get(id).await.unwrap().unwrap();
        assert_eq!((known.place, known.duty), (place, duty), "seed {seed}");
    }
}
