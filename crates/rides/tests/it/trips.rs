//! A ride from the estimate to its end, on both databases.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tessera_kernel::{Ids, RandomIds};
use tessera_rides::Error;
use tessera_rides::app::{Asker, Shift, StatusChange, Wish};
use tessera_rides::config::Config;
use tessera_rides::domain::ids::{DriverId, OfferId};
use tessera_rides::domain::ride::{Command, NewOffer, State};
use tessera_rides::jobs::due;
use tessera_rides::jobs::duty::Duties;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::locations::{Duty, Refusal, Report};
use tessera_rides::routes::Osrm;
use tessera_rides::store::{Step, Stepped};
use tessera_testkit::sql::Databases;

use crate::api::ask;
use crate::support::{NOON, Town, open, place};

async fn contract(databases: &Databases) {
    let town = async || Town::live(&databases.fresh(), Config::default()).await;
    a_trip_goes_to_its_end(&town().await).await;
    a_denial_goes_to_the_next_driver_and_never_back(&town().await).await;
    cancelling_frees_the_driver(&town().await).await;
    what_is_anothers_is_not_there(&town().await).await;
    a_driver_needs_an_approval(&town().await).await;
    nobody_is_asked_twice_whatever_a_matcher_believes(&town().await).await;
    who_drives_another_is_not_freed_by_an_old_offer(&town().await).await;
    a_shift_does_not_end_within_a_ride(&town().await).await;
    who_is_off_duty_is_not_asked(&town().await).await;
    who_is_approved_no_longer_accepts_nothing(&town().await).await;
    a_withdrawn_approval_ends_the_shift_with_the_ride(&town().await).await;
    what_changes_of_drivers_is_listed(&town().await).await;
    old_estimates_are_removed(databases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Databases::postgres()).await;
}

async fn a_trip_goes_to_its_end(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await;
    assert_eq!((ride.state, ride.offers), (State::Requested, 0));
    assert!(ride.estimate.pickup_s.is_some() && ride.estimate.price.amount >= 300);
    matcher.round().await.unwrap();
    let asker = Asker::Driver(driver);
    let offered = app.ride(ride.id, &asker).await.unwrap();
    let (asked, offer) = open(&offered);
    assert_eq!((offered.state, asked), (State::Offered, driver));
    let accepted = app.respond(driver, ride.id, offer, true).await.unwrap();
    assert_eq!((accepted.state, accepted.driver), (State::Accepted, Some(driver)));
    assert_eq!(app.respond(driver, ride.id, offer, true).await.unwrap(), accepted, "the same again");
    // Nobody else is asked meanwhile, and the driver for nothing else.
    let other = town.request("bob", place(0.0, 0.0)).await;
    matcher.round().await.unwrap();
    assert_eq!(app.store.ride(other.id).await.unwrap().unwrap().state, State::Requested);
    app.set_status(driver, ride.id, StatusChange::Arrived).await.unwrap();
    let wrong = app.set_status(driver, ride.id, StatusChange::PickedUp("abcd".into())).await;
    assert!(matches!(wrong, Err(Error::WrongCode { .. })), "{wrong:?}");
    let code = StatusChange::PickedUp(ride.code.clone());
    app.set_status(driver, ride.id, code).await.unwrap();
    let late = app.cancel(&Asker::Rider("ana".into()), ride.id, String::new(), false).await;
    assert!(matches!(late, Err(Error::NotNow { state: State::PickedUpRider, .. })), "{late:?}");
    let done = app.set_status(driver, ride.id, StatusChange::Completed).await.unwrap();
    assert_eq!(done.state, State::Completed);
    let kinds: Vec<String> = app.store.history(ride.id).await.unwrap().into_iter().map(|(kind, _)| kind).collect();
    let expected =
        ["estimated", "requested", "offered", "accepted", "arrived", "wrong_code", "picked_up_rider", "completed"];
    assert_eq!(kinds, expected);
    // The driver is free for who waited.
    matcher.round().await.unwrap();
    let next = app.store.ride(other.id).await.unwrap().unwrap();
    assert_eq!((next.state, open(&next).0), (State::Offered, driver));
}

async fn a_denial_goes_to_the_next_driver_and_never_back(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let near = town.driver("near", place(0.0, 0.001)).await;
    let far = town.driver("far", place(0.0, 0.01)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    for driver in [near, far] {
        matcher.round().await.unwrap();
        let (asked, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
        assert_eq!(asked, driver);
        let stranger = app.respond(if driver == near { far } else { near }, ride, offer, true).await;
        assert!(matches!(stranger, Err(Error::Forbidden { .. } | Error::OfferOver { .. })), "{stranger:?}");
        app.respond(driver, ride, offer, false).await.unwrap();
        let again = app.respond(driver, ride, offer, true).await;
        assert!(matches!(again, Err(Error::OfferOver { .. })), "{again:?}");
    }
    matcher.round().await.unwrap();
    let ride = app.store.ride(ride).await.unwrap().unwrap();
    assert_eq!((ride.state, ride.offers), (State::Requested, 2), "both were asked");
}

async fn cancelling_frees_the_driver(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let first = town.request("ana", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let rider = Asker::Rider("ana".into());
    let cancelled = app.cancel(&rider, first, "found a bus".into(), false).await.unwrap();
    assert_eq!((cancelled.state, cancelled.cancellation.as_ref().unwrap().fee.amount), (State::Cancelled, 0));
    assert_eq!(app.cancel(&rider, first, String::new(), false).await.unwrap(), cancelled, "the same again");
    let second = town.request("bob", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let (asked, offer) = open(&app.store.ride(second).await.unwrap().unwrap());
    assert_eq!(asked, driver);
    app.respond(driver, second, offer, true).await.unwrap();
    // A driver who gives up gives the ride back, and is not asked for it again.
    let back = app.cancel(&Asker::Driver(driver), second, "a flat tyre".into(), false).await.unwrap();
    assert_eq!((back.state, back.driver), (State::Requested, None));
    matcher.round().await.unwrap();
    assert_eq!(app.store.ride(second).await.unwrap().unwrap().state, State::Requested);
}

async fn what_is_anothers_is_not_there(town: &Town) {
    let app = &town.app;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    for stranger in [Asker::Rider("bob".into()), Asker::Driver(tessera_rides::app::driver_of("dora"))] {
        assert!(matches!(app.ride(ride, &stranger).await, Err(Error::NotFound { .. })));
    }
    assert!(matches!(app.request(&"bob".into(), ride).await, Err(Error::NotFound { .. })));
    assert!(app.ride(ride, &Asker::Operator).await.is_ok());
}

async fn a_driver_needs_an_approval(town: &Town) {
    let app = &town.app;
    let on = Shift::On(place(0.0, 0.0));
    let refused = app.shift(&"eve".into(), on).await;
    assert!(matches!(refused, Err(Error::NotReady { .. })), "{refused:?}");
    let driver = town.driver("dora", place(0.0, 0.0)).await;
    app.approve(driver, false).await.unwrap();
    assert!(app.locations.get(driver).await.unwrap().is_none(), "the shift is over");
    assert!(matches!(app.shift(&"dora".into(), on).await, Err(Error::NotReady { .. })));
}

async fn nobody_is_asked_twice_whatever_a_matcher_believes(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    app.respond(driver, ride, offer, false).await.unwrap();
    let stepped = app.store.step(Step { ride, command: an_offer(driver), rider: None }).await.unwrap();
    assert!(matches!(stepped, Stepped::DriverBound(_)), "{stepped:?}");
}

async fn who_drives_another_is_not_freed_by_an_old_offer(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let (first, second) =
        (town.request("ana", place(0.0, 0.0)).await.id, town.request("bob", place(0.0, 0.0)).await.id);
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(first).await.unwrap().unwrap());
    app.respond(driver, first, offer, false).await.unwrap();
    matcher.round().await.unwrap();
    assert_eq!(open(&app.store.ride(second).await.unwrap().unwrap()).0, driver);
    app.cancel(&Asker::Rider("ana".into()), first, String::new(), false).await.unwrap();
    assert_eq!(app.locations.get(driver).await.unwrap().unwrap().duty, Duty::Busy);
}

async fn a_shift_does_not_end_within_a_ride(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let refused = app.shift(&"dora".into(), Shift::Off).await;
    assert!(matches!(refused, Err(Error::NotNow { .. })), "{refused:?}");
    app.cancel(&Asker::Rider("ana".into()), ride, String::new(), false).await.unwrap();
    assert!(!app.shift(&"dora".into(), Shift::Off).await.unwrap().on_duty);
    assert!(app.locations.get(driver).await.unwrap().is_none());
}

/// Whatever a matcher read a moment ago.
async fn who_is_off_duty_is_not_asked(town: &Town) {
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    town.app.shift(&"dora".into(), Shift::Off).await.unwrap();
    let stepped = town.app.store.step(Step { ride, command: an_offer(driver), rider: None }).await.unwrap();
    assert!(matches!(stepped, Stepped::DriverBound(_)), "{stepped:?}");
}

fn an_offer(driver: DriverId) -> Command {
    let (id, window) = (OfferId::from(RandomIds.next()), Duration::from_secs(15));
    Command::Offer(NewOffer { id, driver, token: i64::MAX, window, eta_s: 1 })
}

async fn who_is_approved_no_longer_accepts_nothing(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    app.approve(driver, false).await.unwrap();
    let refused = app.respond(driver, ride, offer, true).await;
    assert!(matches!(refused, Err(Error::NotReady { .. })), "{refused:?}");
    app.respond(driver, ride, offer, false).await.unwrap();
    let row = app.store.drivers(&[driver]).await.unwrap().pop().unwrap();
    assert!(!row.on_duty, "nothing keeps the shift");
    let other = town.request("bob", place(0.0, 0.0)).await.id;
    let stepped = app.store.step(Step { ride: other, command: an_offer(driver), rider: None }).await.unwrap();
    assert!(matches!(stepped, Stepped::DriverBound(_)), "{stepped:?}");
}

async fn a_withdrawn_approval_ends_the_shift_with_the_ride(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let mut duties = Duties::new(app.clone());
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await;
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(ride.id).await.unwrap().unwrap());
    app.respond(driver, ride.id, offer, true).await.unwrap();
    assert!(app.approve(driver, false).await.unwrap().on_duty, "the rider still sees the car");
    duties.round().await.unwrap();
    assert_eq!(app.locations.get(driver).await.unwrap().unwrap().duty, Duty::Busy);
    app.set_status(driver, ride.id, StatusChange::Arrived).await.unwrap();
    app.set_status(driver, ride.id, StatusChange::PickedUp(ride.code)).await.unwrap();
    app.set_status(driver, ride.id, StatusChange::Completed).await.unwrap();
    let row = app.store.drivers(&[driver]).await.unwrap().pop().unwrap();
    assert!(!row.on_duty && !row.approved);
    duties.round().await.unwrap();
    assert!(app.locations.get(driver).await.unwrap().is_none());
}

/// Who goes on from the last change misses no count.
async fn what_changes_of_drivers_is_listed(town: &Town) {
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    let row = async || app.store.drivers(&[driver]).await.unwrap().pop().unwrap();
    let mut seen = row().await;
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    for (accepts, counts) in [(false, (1, 0)), (true, (1, 1))] {
        if accepts {
            app.respond(driver, ride, offer, true).await.unwrap();
        }
        let now = row().await;
        assert_eq!((now.offered, now.accepted), counts);
        assert!(now.updated_at > seen.updated_at, "{now:?}");
        seen = now;
    }
}

async fn old_estimates_are_removed(databases: &Databases) {
    let url = databases.fresh();
    let ride = Town::live(&url, Config::default()).await.request("ana", place(0.0, 0.0)).await.id;
    let town = &Town::live(&url, Config { estimate_ttl_s: 1, ..Config::default() }).await;
    let store = &town.app.store;
    let wish = Wish { pickup: place(0.0, 0.0), destination: place(0.02, 0.0) };
    let (expired, cancelled) =
        (town.app.estimate("bob", wish).await.unwrap().id, town.app.estimate("bob", wish).await.unwrap().id);
    town.app.cancel(&Asker::Rider("bob".into()), cancelled, String::new(), false).await.unwrap();
    let expiring = async {
        while store.ride(expired).await.unwrap().unwrap().state != State::Expired {
            due::round(&town.app).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), expiring).await.unwrap();
    due::sweep(&town.app).await.unwrap();
    assert!(store.ride(expired).await.unwrap().is_some(), "it is not old");
    assert_eq!(store.sweep_estimates(Duration::ZERO, 500).await.unwrap(), 2);
    for gone in [expired, cancelled] {
        assert!(store.ride(gone).await.unwrap().is_none() && store.history(gone).await.unwrap().is_empty());
    }
    assert!(store.ride(ride).await.unwrap().is_some());
}

/// An answer is of one moment, however fast the ride goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ride_and_its_history_agree() {
    let databases = Databases::postgres();
    let town = Arc::new(Town::live(&databases.fresh(), Config::default()).await);
    let mut matcher = Matcher::new(town.app.clone());
    for n in 0..10 {
        // Who has not been heard for a while is not asked.
        town.driver(&format!("driver {n}"), place(0.0, 0.001)).await;
        let ride = town.request("rider-1", place(0.0, 0.0)).await;
        let path = format!("/rides/{}", ride.id);
        let (watched, at) = (Arc::clone(&town), path.clone());
        let watching = tokio::spawn(async move {
            loop {
                let (_, seen) = ask(&watched, "rider", "GET", &at, Value::Null).await;
                let last = seen["history"].as_array().unwrap().last().unwrap();
                assert_eq!(last["state"], seen["state"], "{seen}");
                if seen["state"] == "completed" {
                    break;
                }
            }
        });
        matcher.round().await.unwrap();
        let (driver, offer) = open(&town.app.store.ride(ride.id).await.unwrap().unwrap());
        town.app.respond(driver, ride.id, offer, true).await.unwrap();
        for status in [StatusChange::Arrived, StatusChange::PickedUp(ride.code), StatusChange::Completed] {
            town.app.set_status(driver, ride.id, status).await.unwrap();
        }
        watching.await.unwrap();
    }
}

/// The positions of a process are gone with it; shifts are not.
#[tokio::test]
async fn a_shift_outlives_the_process() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let town = Town::still(&url, Config::default()).await;
    let (busy, free) = (town.driver("busy", place(0.0, 0.0)).await, town.driver("free", place(0.0, 0.01)).await);
    town.request("ana", place(0.0, 0.0)).await;
    Matcher::new(town.app.clone()).round().await.unwrap();
    let off = town.driver("off", place(0.0, 0.0)).await;
    town.app.shift(&"off".into(), Shift::Off).await.unwrap();
    let next = Town::still(&url, Config::default()).await;
    let report = |driver| Report { driver, place: place(0.0, 0.0), heading: None, at: NOON };
    let taken = next.app.locate(&[report(busy), report(free), report(off)]).await.unwrap();
    assert!(taken[0].is_ok() && taken[1].is_ok() && taken[2] == Err(Refusal::OffDuty), "{taken:?}");
    let known = next.app.locations.get_all(&[busy, free, off]).await.unwrap();
    let duty: Vec<_> = known.into_iter().map(|located| located.map(|located| located.duty)).collect();
    assert_eq!(duty, [Some(Duty::Busy), Some(Duty::Free), None]);
}

/// Without the engine, drivers are compared by straight lines and rides go on.
#[tokio::test]
async fn matching_goes_on_without_the_engine_of_routes() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let town = Town::still(&url, Config::default()).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    let away = Arc::new(Osrm::new(tessera_service::client::build().unwrap(), "http://127.0.0.1:1"));
    let clock = Arc::clone(town.clock.as_ref().unwrap());
    let cut_off = Town::still_with(&url, Config::default(), away, clock).await;
    let driver = cut_off.driver("dora", place(0.0, 0.001)).await;
    Matcher::new(cut_off.app.clone()).round().await.unwrap();
    assert_eq!(open(&cut_off.app.store.ride(ride).await.unwrap().unwrap()).0, driver);
    let wish = Wish { pickup: place(0.0, 0.0), destination: place(0.02, 0.0) };
    assert!(matches!(cut_off.app.estimate("bob", wish).await, Err(Error::Routes { .. })));
}

/// Silence counts as denial, estimates expire, a search ends: by a clock that is moved by hand.
#[tokio::test]
async fn time_moves_rides_on() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let wish = Wish { pickup: place(0.0, 0.0), destination: place(0.02, 0.0) };
    let estimate = app.estimate("ana", wish).await.unwrap();
    town.passes(300);
    let late = app.request(&"ana".into(), estimate.id).await;
    let Err(Error::EstimateExpired { fresh: Some(fresh), .. }) = late else { panic!("{late:?}") };
    assert_ne!(fresh.id, estimate.id);
    due::round(app).await.unwrap();
    assert_eq!(app.store.ride(estimate.id).await.unwrap().unwrap().state, State::Expired);
    let ride = app.request(&"ana".into(), fresh.id).await.unwrap().id;
    let silent = town.driver("silent", place(0.0, 0.001)).await;
    matcher.round().await.unwrap();
    let (asked, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    assert_eq!(asked, silent);
    town.passes(15);
    due::round(app).await.unwrap();
    assert_eq!(app.store.ride(ride).await.unwrap().unwrap().state, State::Requested);
    let late = app.respond(silent, ride, offer, true).await;
    assert!(matches!(late, Err(Error::OfferOver { .. })), "{late:?}");
    matcher.round().await.unwrap();
    assert_eq!(app.store.ride(ride).await.unwrap().unwrap().state, State::Requested, "the search is not over");
    town.passes(60);
    matcher.round().await.unwrap();
    assert_eq!(app.store.ride(ride).await.unwrap().unwrap().state, State::NoDriver);
}

/// Where rides keep their places, the rider hears that nobody was found yet, once, and the search goes on.
#[tokio::test]
async fn who_keeps_the_place_is_told() {
    let databases = Databases::sqlite();
    let mut config = Config::default();
    config.matching.keep_place = true;
    let town = Town::still(&databases.fresh(), config).await;
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let ride = town.request("ana", place(0.0, 0.0)).await;
    let mut told = app.hub().ride(ride.id);
    matcher.round().await.unwrap();
    assert!(told.try_recv().is_err());
    for seconds in [60, 1, 60, 600] {
        town.passes(seconds);
        matcher.round().await.unwrap();
        due::round(app).await.unwrap();
    }
    let waits = told.try_recv().unwrap();
    assert_eq!((waits.state, waits.requested_at, waits.version), (State::Requested, ride.requested_at, 3));
    assert_eq!(waits.nobody_yet_at, Some(NOON.plus(Duration::from_secs(60))));
    assert!(told.try_recv().is_err(), "once is enough");
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    matcher.round().await.unwrap();
    assert_eq!(open(&app.store.ride(ride.id).await.unwrap().unwrap()).0, driver);
    let kinds: Vec<String> = app.store.history(ride.id).await.unwrap().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["estimated", "requested", "nobody_yet", "offered"]);
}
