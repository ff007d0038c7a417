//! Rows that cannot be read, and steps that fail: each is told, and holds up nothing else.

use serde_json::{Value, json};
use tessera_rides::Error;
use tessera_rides::app::{Asker, Shift};
use tessera_rides::config::Config;
use tessera_rides::domain::ids::RideId;
use tessera_rides::domain::ride::State;
use tessera_rides::jobs::due;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::store::{Profile, migrations};
use tessera_store::each_engine;
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;

use crate::api::ask;
use crate::support::{Town, open, place};

/// Makes what is stored of a ride unreadable.
async fn spoil(url: &str, ride: RideId) {
    let db = Db::open(url, "rides", &migrations()).await.unwrap();
    each_engine!(&db, |pool| {
        let spoilt = sqlx::query("UPDATE rides SET document = '{}' WHERE id = $1").bind(ride.uuid());
        assert_eq!(spoilt.execute(pool).await.unwrap().rows_affected(), 1);
    });
    db.close().await;
}

async fn what_cannot_be_read_is_told(databases: &Databases) {
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let mut rides = Vec::new();
    for _ in 0..6 {
        rides.push(town.request("rider-1", place(0.0, 0.0)).await.id);
    }
    for spoilt in [1, 3, 4] {
        spoil(&url, rides[spoilt]).await;
    }
    // Whoever reads the list page by page misses nothing that can be read.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = ask(&town, "rider", "GET", &format!("/rides?limit=2{cursor}"), Value::Null).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|ride| ride["ride_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let readable: Vec<String> = [0, 2, 5].iter().map(|n: &usize| rides[*n].to_string()).collect();
    assert_eq!(seen, readable);
    // A step of one says that it cannot be read, and not that it does not exist.
    let rider = Asker::Rider("rider-1".into());
    let refused = town.app.cancel(&rider, rides[1], String::new(), false).await;
    let Err(Error::Corrupt { what, .. }) = refused else { panic!("{refused:?}") };
    assert!(what.contains(&rides[1].to_string()), "{what}");
    let cancelled = town.app.cancel(&rider, rides[0], String::new(), false).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    // So does the question for what a driver drives.
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    Matcher::new(town.app.clone()).round().await.unwrap();
    let offered = town.app.store.ride_of_driver(driver).await.unwrap().unwrap();
    open(&offered);
    spoil(&url, offered.id).await;
    let refused = town.app.store.ride_of_driver(driver).await;
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    town.app.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_told_on_sqlite() {
    what_cannot_be_read_is_told(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_told_on_postgres() {
    what_cannot_be_read_is_told(&Databases::postgres()).await;
}

/// A driver who cannot be read is not taken for one without a profile.
async fn a_driver_who_cannot_be_read_is_told(databases: &Databases) {
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let here = place(0.0, 0.0);
    let mut drivers = Vec::new();
    for name in ["driver-1", "driver-2", "driver-3"] {
        drivers.push(town.driver(name, here).await);
    }
    let db = Db::open(&url, "rides", &migrations()).await.unwrap();
    each_engine!(&db, |pool| {
        let spoilt = sqlx::query("UPDATE drivers SET profile = '{}' WHERE id = $1").bind(drivers[0].uuid());
        assert_eq!(spoilt.execute(pool).await.unwrap().rows_affected(), 1);
    });
    db.close().await;
    let shift = town.app.shift(&"driver-1".into(), Shift::On(here)).await;
    for refused in [shift, town.app.approve(drivers[0], true).await] {
        let Err(Error::Corrupt { what, .. }) = refused else { panic!("{refused:?}") };
        assert!(what.contains(&drivers[0].to_string()), "{what}");
    }
    // Lists go on behind it, and others are asked.
    let (_, first) = ask(&town, "operator", "GET", "/drivers?limit=1", Value::Null).await;
    let rest = format!("/drivers?cursor={}", first["next_cursor"].as_str().unwrap());
    let (_, rest) = ask(&town, "operator", "GET", &rest, Value::Null).await;
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    assert_eq!([ids(&first), ids(&rest)].concat(), drivers[1..].iter().map(|id| json!(id)).collect::<Vec<_>>());
    for _ in 0..3 {
        town.request("ana", here).await;
    }
    Matcher::new(town.app.clone()).round().await.unwrap();
    let mut bound = town.app.store.bound_drivers().await.unwrap();
    bound.sort_unstable();
    drivers[1..].sort_unstable();
    assert_eq!(bound, drivers[1..]);
    // A new profile puts it right.
    let profile = Profile { name: "Dora".into(), vehicle: "Dacia".into(), plate: "AA-00-AA".into(), seats: 4 };
    let mended = town.app.set_profile(&"driver-1".into(), profile.clone()).await.unwrap();
    assert_eq!((mended.profile, mended.approved), (Some(profile), false));
    town.app.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_who_cannot_be_read_is_told_on_sqlite() {
    a_driver_who_cannot_be_read_is_told(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_who_cannot_be_read_is_told_on_postgres() {
    a_driver_who_cannot_be_read_is_told(&Databases::postgres()).await;
}

/// A ride whose step fails each time, here by a trigger, is one; the others move on.
#[tokio::test]
async fn a_step_that_fails_holds_up_no_other() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let town = Town::still(&url, Config::default()).await;
    let wish = tessera_rides::app::Wish { pickup: place(0.0, 0.0), destination: place(0.02, 0.0) };
    let stuck = town.app.estimate("ana", wish).await.unwrap().id;
    let expires = town.app.estimate("bob", wish).await.unwrap().id;
    let waits = town.request("cleo", place(0.0, 0.0)).await.id;
    let Db::Sqlite(pool) = Db::open(&url, "rides", &migrations()).await.unwrap() else { panic!("{url}") };
    let fails = "CREATE TRIGGER fails BEFORE UPDATE ON rides WHEN NEW.rider = 'ana'
        BEGIN SELECT RAISE(ABORT, 'it fails'); END";
    sqlx::query(fails).execute(&pool).await.unwrap();
    town.passes(301);
    // It is told by the log, and tried again.
    let _ = due::round(&town.app).await;
    let state = async |ride| town.app.store.ride(ride).await.unwrap().unwrap().state;
    assert_eq!((state(stuck).await, state(expires).await), (State::Estimated, State::Expired));
    assert_eq!(state(waits).await, State::NoDriver);
    sqlx::query("DROP TRIGGER fails").execute(&pool).await.unwrap();
    due::round(&town.app).await.unwrap();
    assert_eq!(state(stuck).await, State::Expired);
    pool.close().await;
}

/// The same for a row that cannot be read: it is due for ever, and nobody waits for it.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_no_other() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let town = Town::still(&url, Config::default()).await;
    let first = town.request("ana", place(0.0, 0.0)).await.id;
    town.passes(1);
    let second = town.request("bob", place(0.0, 0.0)).await.id;
    spoil(&url, first).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    Matcher::new(town.app.clone()).round().await.unwrap();
    let offered = town.app.store.ride_of_driver(driver).await.unwrap().unwrap();
    assert_eq!(offered.id, second);
    let read = town.app.store.ride(first).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}
