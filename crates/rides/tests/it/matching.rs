//! Races: many riders, drivers, matchers and clocks at once. Whoever wins, there is one winner.

use std::sync::Arc;
use std::time::Duration;

use tessera_rides::app::{Asker, StatusChange};
use tessera_rides::config::Config;
use tessera_rides::domain::ids::{DriverId, RideId};
use tessera_rides::domain::ride::State;
use tessera_rides::jobs::due;
use tessera_rides::jobs::matcher::Matcher;
use tessera_testkit::sql::Databases;

use crate::judge::judge;
use crate::support::{Town, open, place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_winner_on_sqlite() {
    rush(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_winner_on_postgres() {
    rush(&Databases::postgres()).await;
}

/// Two matchers that do not know of each other's claims on areas, drivers who answer at random and twice, riders who cancel.
async fn rush(databases: &Databases) {
    const DRIVERS: usize = 8;
    const RIDES: usize = 30;
    let mut config = Config::default();
    config.matching.search_s = 3_600;
    config.matching.offer_s = 1;
    let town = Arc::new(Town::live(&databases.fresh(), config).await);
    let mut drivers = Vec::new();
    for n in 0..DRIVERS {
        drivers.push(town.driver(&format!("driver {n}"), place(0.0, n as f64 / 2_000.0)).await);
    }
    let mut rides = Vec::new();
    for n in 0..RIDES {
        rides.push(town.request(&format!("rider {n}"), place(0.0, n as f64 / 8_000.0)).await.id);
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let mut loops = Vec::new();
    for _ in 0..2 {
        let (app, stop) = (town.app.clone(), stop.clone());
        loops.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                // A new one each time: its areas are still the old one's, or nobody's.
                let mut matcher = Matcher::new(app.clone());
                matcher.round().await.unwrap();
                matcher.give_back().await;
                due::round(&app).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    let answering: Vec<_> = drivers
        .iter()
        .enumerate()
        .map(|(n, driver)| {
            let (town, driver, stop) = (Arc::clone(&town), *driver, stop.clone());
            tokio::spawn(async move {
                let mut turn = n;
                while !stop.is_cancelled() {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    drive(&town, driver, &mut turn).await;
                }
            })
        })
        .collect();
    let cancelling = {
        let (town, rides) = (Arc::clone(&town), rides.clone());
        tokio::spawn(async move {
            for (n, ride) in rides.iter().enumerate().filter(|(n, _)| n % 5 == 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = town.app.cancel(&Asker::Rider(format!("rider {n}").into()), *ride, String::new(), false).await;
            }
        })
    };
    cancelling.await.unwrap();
    for _ in 0..600 {
        if unfinished(&town, &rides).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    for task in loops.into_iter().chain(answering) {
        task.await.unwrap();
    }
    let ends = judge(&town.app.store, &rides).await;
    assert!(ends.contains_key("completed"), "somebody was driven: {ends:?}");
}

async fn unfinished(town: &Town, rides: &[RideId]) -> usize {
    let mut count = 0;
    for ride in rides {
        let ride = town.app.store.ride(*ride).await.unwrap().unwrap();
        // Who was denied by everybody waits on: no driver is asked twice.
        let asked = town.app.store.asked(&[ride.id]).await.unwrap().len();
        let waits_in_vain = ride.state == State::Requested && asked >= 8;
        count += usize::from(!ride.state.is_final() && !waits_in_vain);
    }
    count
}

/// A driver answers what is open, mostly yes, sometimes twice or to two questions at once, and drives what was accepted.
async fn drive(town: &Town, driver: DriverId, turn: &mut usize) {
    let app = &town.app;
    let Some(ride) = app.store.ride_of_driver(driver).await.unwrap() else { return };
    *turn += 1;
    match ride.state {
        State::Offered => {
            let (asked, offer) = open(&ride);
            assert_eq!(asked, driver);
            match *turn % 4 {
                0 => drop(app.respond(driver, ride.id, offer, false).await),
                1 => {
                    let both = tokio::join!(
                        app.respond(driver, ride.id, offer, true),
                        app.respond(driver, ride.id, offer, false)
                    );
                    assert!(both.0.is_err() || both.1.is_err(), "yes and no to one offer");
                }
                _ => drop(app.respond(driver, ride.id, offer, true).await),
            }
        }
        State::Accepted if turn.is_multiple_of(7) => {
            let _ = app.cancel(&Asker::Driver(driver), ride.id, "a flat tyre".into(), false).await;
        }
        State::Accepted => drop(app.set_status(driver, ride.id, StatusChange::Arrived).await),
        State::Arrived => drop(app.set_status(driver, ride.id, StatusChange::PickedUp(ride.code.clone())).await),
        State::PickedUpRider => drop(app.set_status(driver, ride.id, StatusChange::Completed).await),
        _ => {}
    }
}
