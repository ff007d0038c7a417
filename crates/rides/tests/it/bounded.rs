//! What loops ask of the stores, however many drivers and processes there are.

use std::sync::Arc;

use tessera_kernel::Clock;
use tessera_rides::config::Config;
use tessera_rides::domain::area::area_of;
use tessera_rides::domain::ride::State;
use tessera_rides::jobs::demand;
use tessera_rides::jobs::duty::Duties;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::locations::{Duty, PARTS, Report};
use tessera_rides::routes::Crow;
use tessera_testkit::redis::{self, Redis};
use tessera_testkit::sql::Databases;

use crate::support::{Town, place};

/// How often a command was sent since the last `CONFIG RESETSTAT`.
fn calls(server: &Redis, command: &str) -> usize {
    let stats = server.command("INFO commandstats").unwrap();
    let name = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// Every process has the prices, and one of them counts for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_are_counted_once_for_all_processes() {
    let (databases, server) = (Databases::sqlite(), redis::start());
    let (url, config) = (databases.fresh(), Config { locations: Some(server.url()), ..Config::default() });
    let town = Town::still(&url, config.clone()).await;
    let clock = Arc::clone(town.clock.as_ref().unwrap());
    let other = Town::still_with(&url, config, Arc::new(Crow), clock).await;
    for n in 0..3 {
        town.driver(&format!("driver {n}"), place(0.0, 0.001)).await;
    }
    server.command("CONFIG RESETSTAT").unwrap();
    let counted = (area_of(place(0.0, 0.001)), 3);
    for town in [&town, &other, &town, &other] {
        demand::count(&town.app).await.unwrap();
        // However long this takes, nobody counts again meanwhile.
        server.command("PERSIST rides:{free}counting").unwrap();
        let known: Vec<_> = town.app.demands().into_iter().map(|(area, demand)| (area, demand.free)).collect();
        assert_eq!(known, [counted]);
    }
    assert_eq!(calls(&server, "hvals"), PARTS, "each part of the drivers is read once");
}

/// Who is on the same long trip as before is not looked at again by every matcher, all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_driver_is_not_compared_all_the_time() {
    let (databases, server) = (Databases::sqlite(), redis::start());
    let config = Config { locations: Some(server.url()), ..Config::default() };
    let town = Town::still(&databases.fresh(), config).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    town.request("ana", place(0.0, 0.0)).await;
    Matcher::new(town.app.clone()).round().await.unwrap();
    let mut duties = Duties::new(town.app.clone());
    town.passes(30);
    duties.round().await.unwrap();
    town.passes(30);
    duties.round().await.unwrap();
    server.command("CONFIG RESETSTAT").unwrap();
    for _ in 0..5 {
        town.passes(30);
        duties.round().await.unwrap();
    }
    assert_eq!(calls(&server, "hmget"), 0, "nothing has changed");
    // What is wrong about it is found in its turn.
    town.app.locations.set_duty(driver, Duty::Free).await.unwrap();
    for _ in 0..PARTS {
        duties.round().await.unwrap();
    }
    assert_eq!(town.app.locations.get(driver).await.unwrap().unwrap().duty, Duty::Busy);
}

/// Many who cannot be driven, and keep their place, do not hide who could be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_behind_many_has_a_turn() {
    let databases = Databases::sqlite();
    let mut config = Config::default();
    (config.matching.keep_place, config.matching.grow_m_per_s) = (true, 0);
    (config.matching.radius_m, config.matching.radius_max_m) = (300, 300);
    let town = Town::still(&databases.fresh(), config).await;
    let here = place(0.0, 0.0);
    // A driver who is too far away for all but one, in the same area.
    let around = [place(0.006, 0.0), place(-0.006, 0.0), place(0.0, 0.008), place(0.0, -0.008)];
    let there = around.into_iter().find(|there| area_of(*there) == area_of(here)).unwrap();
    let mut matcher = Matcher::new(town.app.clone());
    for at in 0..5 {
        let names: Vec<String> = (0..90).map(|n| format!("rider {at} {n}")).collect();
        futures::future::join_all(names.iter().map(|name| town.request(name, here))).await;
        town.passes(1);
    }
    let last = town.request("last", there).await.id;
    let driver = town.driver("dora", there).await;
    let mut rounds = 0;
    while town.app.store.ride(last).await.unwrap().unwrap().state == State::Requested {
        rounds += 1;
        assert!(rounds <= 5, "it is hidden behind others");
        town.passes(1);
        let report = Report { driver, place: there, heading: None, at: town.clock.as_ref().unwrap().now() };
        assert!(town.app.locate(&[report]).await.unwrap()[0].is_ok());
        matcher.round().await.unwrap();
    }
}
