//! Redis with the positions stops in the middle, loses what it had, and comes back; and what positions have wrong is put right.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, StatusCode};
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tessera_kernel::Clock;
use tessera_rides::app::StatusChange;
use tessera_rides::config::Config;
use tessera_rides::domain::ids::DriverId;
use tessera_rides::domain::ride::State;
use tessera_rides::http;
use tessera_rides::jobs::duty::Duties;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::locations::{Duty, PARTS, Report};
use tessera_testkit::redis;
use tessera_testkit::sql::Databases;
use tower::ServiceExt;

use crate::support::{Town, open, place};

/// A driver reports where it is.
async fn report(town: &Town, driver: &str) -> (StatusCode, Value) {
    let token = town.token(driver, "driver");
    let request = Request::post("/drivers/location/update").header("authorization", format!("Bearer {token}"));
    let body = Body::from(json!({ "lat": 41.15, "lng": -8.61 }).to_string());
    let response = http::router(town.app.clone()).oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_and_comes_back_without_what_it_had() {
    let (databases, mut server) = (Databases::sqlite(), redis::start());
    let config = Config { locations: Some(server.url()), ..Config::default() };
    let town = Town::live(&databases.fresh(), config).await;
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let busy = town.driver("busy", place(0.0, 0.0)).await;
    let under_way = town.request("ana", place(0.0, 0.0)).await;
    matcher.round().await.unwrap();
    let (asked, offer) = open(&app.store.ride(under_way.id).await.unwrap().unwrap());
    assert_eq!(asked, busy);
    let free = town.driver("free", place(0.0, 0.001)).await;

    server.kill();
    let (status, body) = report(&town, "free").await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("rides.locations")));
    // What was asked is answered, a trip goes on, estimates and requests are taken, and matching waits.
    app.respond(busy, under_way.id, offer, true).await.unwrap();
    app.set_status(busy, under_way.id, StatusChange::Arrived).await.unwrap();
    let waiting = town.request("bob", place(0.0, 0.0)).await;
    assert_eq!((waiting.state, waiting.estimate.pickup_s), (State::Requested, None));
    matcher.round().await.unwrap();
    assert_eq!(app.store.ride(waiting.id).await.unwrap().unwrap().state, State::Requested);

    server.start_again_empty();
    comes_back(&town, "free").await;
    assert_eq!(report(&town, "busy").await.0, StatusCode::OK);
    let duty = async |driver| app.locations.get(driver).await.unwrap().map(|located| located.duty);
    assert_eq!((duty(free).await, duty(busy).await), (Some(Duty::Free), Some(Duty::Busy)));
    matcher.round().await.unwrap();
    let offered = app.store.ride(waiting.id).await.unwrap().unwrap();
    assert_eq!((offered.state, open(&offered).0), (State::Offered, free));
    // Who was never on duty does not come back.
    app.driver(&Arc::from("nobody")).await.unwrap();
    assert_eq!(report(&town, "nobody").await.1["updates"], json!(["off_duty"]));
}

/// The connection is made anew by who asks: a driver goes on reporting.
async fn comes_back(town: &Town, driver: &str) {
    let reporting = async {
        while report(town, driver).await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reporting).await.unwrap();
}

/// A Redis that is there and does not answer holds nobody up for longer than its own patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_falls_asleep_and_wakes_up() {
    let (databases, server) = (Databases::sqlite(), redis::start());
    let town = Town::live(&databases.fresh(), Config { locations: Some(server.url()), ..Config::default() }).await;
    let driver = town.driver("dora", place(0.0, 0.0)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    Matcher::new(town.app.clone()).round().await.unwrap();
    server.pause();
    let (status, body) = report(&town, "dora").await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("rides.locations")));
    let (_, offer) = open(&town.app.store.ride(ride).await.unwrap().unwrap());
    town.app.respond(driver, ride, offer, false).await.unwrap();
    server.resume();
    comes_back(&town, "dora").await;
    // It was told nothing of the denial.
    let mut duties = Duties::new(town.app.clone());
    for _ in 0..PARTS {
        duties.round().await.unwrap();
    }
    assert_eq!(town.app.locations.get(driver).await.unwrap().unwrap().duty, Duty::Free);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_search_ends_although_positions_are_away() {
    let (databases, mut server) = (Databases::sqlite(), redis::start());
    let mut config = Config { locations: Some(server.url()), ..Config::default() };
    config.matching.search_s = 0;
    let town = Town::live(&databases.fresh(), config).await;
    let ride = town.request("ana", place(0.0, 0.0)).await;
    server.kill();
    Matcher::new(town.app.clone()).round().await.unwrap();
    assert_eq!(town.app.store.ride(ride.id).await.unwrap().unwrap().state, State::NoDriver);
}

#[tokio::test]
async fn what_memory_has_wrong_is_put_right() {
    duties(Config::default()).await;
}

#[tokio::test]
async fn what_redis_has_wrong_is_put_right() {
    let server = redis::start();
    duties(Config { locations: Some(server.url()), ..Config::default() }).await;
}

/// A process ended between a commit and telling the positions: whoever compares them with the database tells.
async fn duties(config: Config) {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), config).await;
    let (app, mut duties) = (&town.app, Duties::new(town.app.clone()));
    let mut matcher = Matcher::new(app.clone());
    let asked = town.driver("asked", place(0.0, 0.0)).await;
    town.request("ana", place(0.0, 0.0)).await;
    matcher.round().await.unwrap();
    let free = town.driver("free", place(0.0, 0.001)).await;
    let gone = town.driver("gone", place(0.0, 0.001)).await;
    town.app.shift(&"gone".into(), tessera_rides::app::Shift::Off).await.unwrap();
    app.locations.set_duty(asked, Duty::Free).await.unwrap();
    app.locations.set_duty(free, Duty::Busy).await.unwrap();
    app.locations.enter(gone, place(0.0, 0.0), Duty::Free, tessera_kernel::Timestamp::default()).await.unwrap();
    let duty = async |driver: DriverId| app.locations.get(driver).await.unwrap().map(|located| located.duty);
    duties.round().await.unwrap();
    assert_eq!(duty(asked).await, Some(Duty::Busy), "who is busy is found at once");
    for _ in 0..PARTS {
        duties.round().await.unwrap();
    }
    assert_eq!((duty(asked).await, duty(free).await, duty(gone).await), (Some(Duty::Busy), Some(Duty::Free), None));
    // Who was busy a moment ago is looked at, too.
    let offered = app.store.ride_of_driver(asked).await.unwrap().unwrap();
    app.respond(asked, offered.id, open(&offered).1, false).await.unwrap();
    app.locations.set_duty(asked, Duty::Busy).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), duties.round()).await.unwrap().unwrap();
    assert_eq!(duty(asked).await, Some(Duty::Free));
    // So is who was asked and said no between two looks.
    town.request("bob", place(0.0, 0.0)).await;
    matcher.round().await.unwrap();
    let bound = app.store.bound_drivers().await.unwrap();
    let offered = app.store.ride_of_driver(bound[0]).await.unwrap().unwrap();
    app.respond(bound[0], offered.id, open(&offered).1, false).await.unwrap();
    app.locations.set_duty(bound[0], Duty::Busy).await.unwrap();
    duties.round().await.unwrap();
    assert_eq!(duty(bound[0]).await, Some(Duty::Free));
}

/// Who is not heard for half an hour has no position, whatever becomes of the shift, and is back with the next report.
#[tokio::test]
async fn a_driver_who_is_lost_has_no_position_until_it_is_heard_again() {
    let server = redis::start();
    for locations in [None, Some(server.url())] {
        let databases = Databases::sqlite();
        let town = Town::still(&databases.fresh(), Config { locations, ..Config::default() }).await;
        let (app, mut duties) = (&town.app, Duties::new(town.app.clone()));
        let driver = town.driver("dora", place(0.0, 0.0)).await;
        let mut looks = async |seconds| {
            town.passes(seconds);
            for _ in 0..PARTS {
                duties.round().await.unwrap();
            }
            app.locations.get(driver).await.unwrap().is_some()
        };
        assert!(looks(1_800).await && !looks(1).await);
        let at = town.clock.as_ref().unwrap().now();
        let report = Report { driver, place: place(0.1, 0.0), heading: None, at };
        assert!(app.locate(&[report]).await.unwrap()[0].is_ok());
        assert!(looks(0).await);
    }
}
