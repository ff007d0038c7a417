//! Any commands at any time: riders, drivers, matchers with old and new claims, lapses and cancellations at random and at once,
//! on few rides and drivers. Whatever was refused, the histories are sound.
//!
//! A fault prints its seed; `TESSERA_STEPS_SEED` sets the first one. What each caller does repeats with it, how they meet does not.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::{Clock, Ids, RandomIds, SystemClock, Uuid};
use tessera_rides::app::Shift;
use tessera_rides::config::Config;
use tessera_rides::domain::ids::{DriverId, OfferId, RideId};
use tessera_rides::domain::ride::{Command, NewOffer, Party, Ride};
use tessera_rides::locations::Duty;
use tessera_rides::store::{Step, Stepped};
use tessera_store::claims::{Acquire, Acquired};
use tessera_testkit::redis;
use tessera_testkit::sql::Databases;

use crate::judge::judge;
use crate::support::{Town, place};

const CALLERS: u64 = 24;
const COMMANDS: usize = 60;
const ROUNDS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_commands_on_sqlite() {
    any_commands(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_commands_on_postgres() {
    any_commands(&Databases::postgres()).await;
}

async fn any_commands(databases: &Databases) {
    let first = std::env::var("TESSERA_STEPS_SEED").ok().map(|text| text.parse().unwrap());
    let first = first.unwrap_or_else(|| SystemClock.now().micros() as u64);
    let (mut requested, mut done) = (0, 0);
    for seed in first..first + ROUNDS {
        eprintln!("seed {seed}");
        let town = Arc::new(Town::live(&databases.fresh(), Config::default()).await);
        let mut dice = StdRng::seed_from_u64(seed);
        let mut drivers = Vec::new();
        for n in 0..dice.random_range(2..6) {
            drivers.push(town.driver(&format!("driver {n}"), place(0.0, f64::from(n) / 2_000.0)).await);
        }
        let mut rides = Vec::new();
        for n in 0..dice.random_range(3..9) {
            rides.push(town.request(&format!("rider {n}"), place(0.0, 0.001)).await);
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let dice = StdRng::seed_from_u64(seed ^ (caller << 32));
                tokio::spawn(caller_of(Arc::clone(&town), rides.clone(), drivers.clone(), dice))
            })
            .collect();
        requested += rides.len();
        for caller in callers {
            done += caller.await.unwrap();
        }
        let ids: Vec<RideId> = rides.iter().map(|ride| ride.id).collect();
        judge(&town.app.store, &ids).await;
        town.app.store.close().await;
    }
    // In one round all its rides may be cancelled before anything else comes about.
    assert!(done > requested, "{done} steps on {requested} rides");
}

/// Somebody who wants anything; gives how often it came about.
async fn caller_of(town: Arc<Town>, rides: Vec<Ride>, drivers: Vec<DriverId>, mut dice: StdRng) -> usize {
    let mut done = 0;
    for _ in 0..COMMANDS {
        let ride = &rides[dice.random_range(0..rides.len())];
        let driver = drivers[dice.random_range(0..drivers.len())];
        let known = town.app.store.ride(ride.id).await.unwrap().unwrap();
        let offer = known.offer.as_ref().map_or(OfferId::from(Uuid::nil()), |offer| offer.id);
        // Mostly who is concerned, sometimes anybody.
        let driver = known.bound_driver().filter(|_| dice.random_bool(0.8)).unwrap_or(driver);
        let command = match dice.random_range(0..100) {
            0..35 => Command::Offer(new_offer(&town, driver, &mut dice).await),
            35..55 => Command::Accept { driver, offer },
            55..63 => Command::Deny { driver, offer },
            63..69 => Command::Lapse { offer },
            69..75 => Command::Arrive(driver),
            75..81 => Command::PickUp { driver, code: ride.code.clone() },
            81..86 => Command::Complete(driver),
            86..92 => Command::Cancel { by: Party::Driver, driver: Some(driver), reason: "a flat tyre".into() },
            92..95 => Command::Cancel { by: Party::Rider, driver: None, reason: "found a bus".into() },
            95 => Command::Cancel { by: Party::Operator, driver: None, reason: "closed".into() },
            96 => Command::NoShow(driver),
            97 => Command::Expire,
            98 => Command::GiveUp(Duration::from_millis(dice.random_range(0..2_000))),
            _ => Command::Request,
        };
        let step = Step { ride: ride.id, command, rider: None };
        done += usize::from(matches!(town.app.store.step(step).await.unwrap(), Stepped::Done(..)));
    }
    done
}

/// An offer under a claim of now, of some time ago or of none, open for up to 50 ms.
async fn new_offer(town: &Town, driver: DriverId, dice: &mut StdRng) -> NewOffer {
    let id = RandomIds.next();
    let wish = Acquire {
        partition: Uuid::from_u128(7),
        resources: vec![driver.uuid()],
        holder: id,
        ttl: Duration::from_millis(5),
        longest: Duration::from_secs(60),
    };
    let claimed = match town.claims.acquire(wish).await.unwrap() {
        Acquired::Claim(claim) => claim.token,
        // Not ours, and tried all the same.
        Acquired::Taken { .. } => SystemClock.now().micros(),
    };
    let token = claimed - if dice.random_bool(0.2) { dice.random_range(0..20_000) } else { 0 };
    let window = Duration::from_millis(dice.random_range(1..50));
    NewOffer { id: OfferId::from(id), driver, token, window, eta_s: 60 }
}

/// An offer that is over with the transaction that made it has been made all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_cancelled_at_once_counts() {
    an_offer_cancelled_at_once(&Databases::sqlite(), Config::default()).await;
    an_offer_cancelled_at_once(&Databases::postgres(), Config::default()).await;
    let server = redis::start();
    let config = Config { locations: Some(server.url()), ..Config::default() };
    an_offer_cancelled_at_once(&Databases::postgres(), config).await;
}

async fn an_offer_cancelled_at_once(databases: &Databases, config: Config) {
    let town = Town::live(&databases.fresh(), config).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let mut rides = Vec::new();
    for n in 0..40 {
        let ride = town.request(&format!("rider {n}"), place(0.0, 0.0)).await.id;
        let mut dice = StdRng::seed_from_u64(n);
        let offer = NewOffer { window: Duration::from_secs(9), ..new_offer(&town, driver, &mut dice).await };
        let step = |command| town.app.store.step(Step { ride, command, rider: None });
        let cancel = Command::Cancel { by: Party::Rider, driver: None, reason: String::new() };
        // What is handed in together is mostly applied together.
        let _ = tokio::join!(step(Command::Offer(offer)), step(cancel));
        rides.push(ride);
        let is_free = async || town.app.locations.get(driver).await.unwrap().unwrap().duty == Duty::Free;
        let freed = async {
            while !is_free().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // Positions elsewhere are told in a moment, and nothing else is told after it.
        let freed = tokio::time::timeout(Duration::from_secs(10), freed).await;
        assert!(freed.is_ok(), "nothing is asked of the driver");
    }
    judge(&town.app.store, &rides).await;
    town.app.store.close().await;
}

/// Of an offer and the end of a shift there is one winner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_and_the_end_of_a_shift_do_not_cross() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let town = Town::live(&databases.fresh(), Config::default()).await;
        for n in 0..40 {
            let name: Arc<str> = format!("driver {n}").into();
            let driver = town.driver(&name, place(0.0, 0.001)).await;
            let ride = town.request("ana", place(0.0, 0.0)).await.id;
            let mut dice = StdRng::seed_from_u64(n);
            let offer = NewOffer { window: Duration::from_secs(9), ..new_offer(&town, driver, &mut dice).await };
            let offering = town.app.store.step(Step { ride, command: Command::Offer(offer), rider: None });
            let (_, ended) = tokio::join!(offering, town.app.shift(&name, Shift::Off));
            let row = town.app.store.drivers(&[driver]).await.unwrap().pop().unwrap();
            let bound = town.app.store.ride_of_driver(driver).await.unwrap().is_some();
            assert_eq!(row.on_duty, ended.is_err());
            assert!(row.on_duty || !bound, "asked for a ride, and off duty");
        }
        town.app.store.close().await;
    }
}

/// Two acceptances of one driver count twice, in one transaction too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptances_in_one_transaction_all_count() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let town = Town::live(&databases.fresh(), Config::default()).await;
        let driver = town.driver("dora", place(0.0, 0.001)).await;
        let mut rides = Vec::new();
        for n in 0..20 {
            let both = [format!("ana {n}"), format!("bob {n}")];
            let first = town.request(&both[0], place(0.0, 0.0)).await.id;
            let second = town.request(&both[1], place(0.0, 0.0)).await.id;
            let offer = async |token| NewOffer {
                window: Duration::from_secs(9),
                token,
                ..new_offer(&town, driver, &mut StdRng::seed_from_u64(n)).await
            };
            let token = SystemClock.now().micros();
            let (one, two) = (offer(token).await, offer(token + 1).await);
            let step = |ride, command| town.app.store.step(Step { ride, command, rider: None });
            let back = Command::Cancel { by: Party::Driver, driver: Some(driver), reason: String::new() };
            let (yes, also) = (Command::Accept { driver, offer: one.id }, Command::Accept { driver, offer: two.id });
            // What is handed in together is mostly applied together.
            let _ = tokio::join!(
                step(first, Command::Offer(one)),
                step(first, yes),
                step(first, back.clone()),
                step(second, Command::Offer(two)),
                step(second, also),
                step(second, back),
            );
            rides.extend([first, second]);
            if let Some(ride) = town.app.store.ride_of_driver(driver).await.unwrap() {
                step(ride.id, Command::Cancel { by: Party::Operator, driver: None, reason: String::new() })
                    .await
                    .unwrap();
            }
        }
        judge(&town.app.store, &rides).await;
        town.app.store.close().await;
    }
}
