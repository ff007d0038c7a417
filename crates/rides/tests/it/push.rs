//! Notes to phones and browsers, by stand-ins of the three services: who is told what, and what becomes of devices, attempts and
//! rides when a service fails.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, StatusCode};
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_rides::app::{Asker, StatusChange, driver_of};
use tessera_rides::config::Config;
use tessera_rides::domain::ids::{DriverId, RideId};
use tessera_rides::domain::ride::State;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::jobs::push::{Outbox, Sending, outbox, run};
use tessera_rides::push::{Metrics, Services, rider_of};
use tessera_rides::store::MOST_DEVICES;
use tessera_rides::{http, push};
use tessera_testkit::push::{Fault, PushServices, Service, Taken, start};
use tessera_testkit::sql::Databases;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::{Town, open, place};

/// How long an offer lasts: no machine is too slow to answer in that time.
const OFFER_S: u32 = 300;
/// The same where it is waited for: not longer than an attempt may take.
const SHORT_OFFER_S: u32 = 5;

/// A town whose notes go to the stand-ins.
struct Stage {
    town: Town,
    services: PushServices,
    outbox: Outbox,
    _stop: tokio_util::sync::DropGuard,
}

impl Stage {
    async fn new(databases: &Databases, offer_s: u32) -> Self {
        let services = start();
        let push: push::Config = serde_json::from_value(services.settings()).unwrap();
        let mut config = Config { push, ..Config::default() };
        config.matching.offer_s = offer_s;
        let town = Town::live(&databases.fresh(), config.clone()).await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (outbox, notes) = outbox(Metrics::default());
        let told = outbox.clone();
        town.app.store.on_change(move |ride, freed| told.tell(ride, freed));
        let sending = Sending {
            store: town.app.store.clone(),
            services: Services::open(&config.push, &clock).unwrap(),
            clock,
            metrics: Metrics::default(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(run(sending, notes, stop.clone()));
        Self { town, services, outbox, _stop: stop.drop_guard() }
    }

    async fn ask(&self, subject: &str, role: &str, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let hour = Duration::from_secs(3_600);
        let token = self.town.app.keys().sign_token(subject, &[role.to_owned()], hour).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
            .unwrap();
        let response = http::router(self.town.app.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn register(&self, subject: &str, role: &str, device: Value) {
        let (status, body) = self.ask(subject, role, "PUT", "/push/devices", device).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }

    /// A ride that is offered to dora.
    async fn offered(&self) -> (RideId, DriverId) {
        let driver = self.town.driver("dora", place(0.0, 0.001)).await;
        let ride = self.town.request("ana", place(0.0, 0.0)).await.id;
        self.matches().await;
        (ride, driver)
    }

    async fn matches(&self) {
        let mut matcher = Matcher::new(self.town.app.clone());
        matcher.round().await.unwrap();
        matcher.give_back().await;
    }

    /// Waits until a service was called so often.
    async fn called(&self, service: Service, count: usize) {
        for _ in 0..1_000 {
            if self.services.calls(service) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{service:?} was called {} times", self.services.calls(service));
    }

    /// Waits until so many were taken.
    async fn taken(&self, count: usize) -> Vec<Taken> {
        for _ in 0..1_000 {
            let taken = self.services.taken();
            if taken.len() >= count {
                assert_eq!(taken.len(), count, "{taken:?}");
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("taken: {:?}", self.services.taken());
    }

    /// The attempts about a ride, once there are so many.
    async fn attempts(&self, ride: RideId, count: usize) -> Vec<(u32, String)> {
        for _ in 0..1_000 {
            let attempts = self.town.app.store.attempts(ride).await.unwrap();
            if attempts.len() >= count {
                return attempts.into_iter().map(|attempt| (attempt.number, attempt.outcome)).collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", self.town.app.store.attempts(ride).await.unwrap());
    }
}

fn fcm(token: &str) -> Value {
    json!({ "service": "fcm", "token": token })
}

fn apns(digit: char) -> (String, Value) {
    let token = String::from(digit).repeat(64);
    (token.clone(), json!({ "service": "apns", "token": token }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_reach_drivers_and_news_reach_riders_on_sqlite() {
    everybody_is_told(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_reach_drivers_and_news_reach_riders_on_postgres() {
    everybody_is_told(&Databases::postgres()).await;
}

async fn everybody_is_told(databases: &Databases) {
    let stage = Stage::new(databases, OFFER_S).await;
    stage.register("dora", "driver", fcm("phone-of-dora")).await;
    let (tablet, body) = apns('a');
    stage.register("dora", "driver", body).await;
    let subscription = stage.services.subscribe();
    stage.register("ana", "rider", json!({ "service": "web", "subscription": subscription })).await;
    let (ride, driver) = stage.offered().await;
    let offered = stage.town.app.store.ride(ride).await.unwrap().unwrap();
    let offer = offered.offer.clone().unwrap();
    let mut taken = stage.taken(2).await;
    taken.sort_by_key(|taken| taken.service == Service::Apns);
    let [phone, pad] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((phone.service, phone.device.as_str()), (Service::Fcm, "phone-of-dora"));
    assert_eq!(phone.body["data"]["offer_id"], offer.id.to_string());
    let ttl: u64 = phone.body["android"]["ttl"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!((1..=u64::from(OFFER_S)).contains(&ttl), "the rest of the offer's time: {ttl}");
    assert_eq!((pad.service, &pad.device), (Service::Apns, &tablet));
    assert_eq!(pad.headers["apns-expiration"], (offer.expires_at.micros() / 1_000_000).to_string());
    assert_eq!(pad.body["ride_id"], ride.to_string());
    // The rider hears of the driver, in a browser that decrypts it.
    stage.town.app.respond(driver, ride, offer.id, true).await.unwrap();
    let taken = stage.taken(3).await;
    assert_eq!(
        (taken[2].service, &taken[2].device),
        (Service::Web, &subscription["endpoint"].as_str().unwrap().into())
    );
    assert_eq!((&taken[2].body["state"], &taken[2].headers["urgency"]), (&json!("accepted"), &"high".to_owned()));
    assert_eq!(stage.attempts(ride, 3).await, vec![(1, "sent".to_owned()); 3]);
    let path = format!("/rides/{ride}/pushes");
    let (status, list) = stage.ask("ona", "operator", "GET", &path, Value::Null).await;
    assert_eq!((status, list.as_array().unwrap().len()), (StatusCode::OK, 3));
    assert_eq!(stage.ask("ana", "rider", "GET", &path, Value::Null).await.0, StatusCode::FORBIDDEN);
    let text = list.to_string();
    assert!(!text.contains("phone-of-dora") && !text.contains(&tablet), "no address is shown");
}

/// Each way in which a service says that a device is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_are_gone_are_forgotten() {
    let databases = Databases::sqlite();
    for (service, fault) in [
        (Service::Fcm, None),
        (Service::Fcm, Some((404, "{}"))),
        (Service::Apns, None),
        (Service::Apns, Some((400, r#"{"reason":"BadDeviceToken"}"#))),
        (Service::Web, None),
        (Service::Web, Some((404, ""))),
    ] {
        let stage = Stage::new(&databases, OFFER_S).await;
        let (address, body) = match service {
            Service::Fcm => ("lost".to_owned(), fcm("lost")),
            Service::Apns => apns('b'),
            _ => {
                let subscription = stage.services.subscribe();
                let endpoint = subscription["endpoint"].as_str().unwrap().to_owned();
                (endpoint, json!({ "service": "web", "subscription": subscription }))
            }
        };
        stage.register("dora", "driver", body).await;
        match fault {
            Some((status, body)) => stage.services.add_fault(service, Fault::Status(status, body)),
            None => stage.services.remove(&address),
        }
        let (ride, driver) = stage.offered().await;
        assert_eq!(stage.attempts(ride, 1).await, [(1, "gone".to_owned())], "{service:?} {fault:?}");
        assert!(stage.town.app.store.devices(driver.uuid()).await.unwrap().is_empty());
    }
}

/// Faults that pass are tried again; those of the proof with a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_is_tried_again() {
    let databases = Databases::sqlite();
    let stage = Stage::new(&databases, OFFER_S).await;
    stage.register("dora", "driver", fcm("phone")).await;
    stage.services.add_fault(Service::OAuth, Fault::Status(503, ""));
    stage.services.add_fault(Service::Fcm, Fault::Status(500, "what?"));
    let (first, driver) = stage.offered().await;
    stage.taken(1).await;
    let outcomes = ["later", "later", "sent"].map(str::to_owned);
    assert_eq!(stage.attempts(first, 3).await.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(), outcomes);
    // The access token is refused: a new one is had at once.
    stage.services.revoke_access();
    let (_, offer) = open(&stage.town.app.store.ride(first).await.unwrap().unwrap());
    stage.town.app.respond(driver, first, offer, false).await.unwrap();
    let second = stage.town.request("bob", place(0.0, 0.0)).await.id;
    stage.matches().await;
    stage.taken(2).await;
    assert_eq!(stage.attempts(second, 2).await, [(1, "later".to_owned()), (2, "sent".to_owned())]);
    assert_eq!(stage.services.calls(Service::OAuth), 3);
    // So with Apple's.
    let (_, body) = apns('c');
    stage.register("ana", "rider", body).await;
    let expired = Fault::Status(403, r#"{"reason":"ExpiredProviderToken"}"#);
    stage.services.add_fault(Service::Apns, expired);
    let third = stage.town.request("ana", place(0.0, 0.0)).await.id;
    let (_, offer) = open(&stage.town.app.store.ride(second).await.unwrap().unwrap());
    stage.town.app.respond(driver, second, offer, false).await.unwrap();
    stage.matches().await;
    let (_, offer) = open(&stage.town.app.store.ride(third).await.unwrap().unwrap());
    stage.town.app.respond(driver, third, offer, true).await.unwrap();
    let taken = stage.taken(4).await;
    assert_eq!(taken.iter().filter(|taken| taken.service == Service::Apns).count(), 1);
    assert_eq!(stage.services.calls(Service::Apns), 2);
}

/// A service that says nothing takes nothing from the offer, and attempts end with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_service_holds_nothing_up() {
    let databases = Databases::sqlite();
    let stage = Stage::new(&databases, SHORT_OFFER_S).await;
    stage.register("dora", "driver", fcm("phone")).await;
    for _ in 0..8 {
        stage.services.add_fault(Service::Fcm, Fault::Silent);
    }
    let (ride, driver) = stage.offered().await;
    let (_, offer) = open(&stage.town.app.store.ride(ride).await.unwrap().unwrap());
    let accepted = stage.town.app.respond(driver, ride, offer, true).await.unwrap();
    assert_eq!(accepted.state, State::Accepted);
    stage.town.app.set_status(driver, ride, StatusChange::Arrived).await.unwrap();
    assert_eq!(stage.attempts(ride, 1).await, [(1, "later".to_owned())], "within the offer's time, and not after it");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stage.attempts(ride, 1).await.len(), 1);
    assert!(stage.services.taken().is_empty());
}

/// One service that is away holds up none of the others' notes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_do_not_wait_for_each_other() {
    let databases = Databases::sqlite();
    let stage = Stage::new(&databases, OFFER_S).await;
    let (_, tablet) = apns('d');
    stage.register("ana", "rider", tablet).await;
    stage.register("dora", "driver", fcm("phone")).await;
    let (ride, _) = stage.offered().await;
    stage.taken(1).await;
    let mut here = stage.town.app.store.ride(ride).await.unwrap().unwrap();
    here.state = State::Arrived;
    for _ in 0..1_000 {
        stage.services.add_fault(Service::Apns, Fault::Silent);
    }
    // More than are sent at a time.
    for version in 100..400 {
        here.version = version;
        stage.outbox.tell(&here, None);
    }
    let other = stage.town.driver("rui", place(0.0, 0.001)).await;
    stage.register("rui", "driver", fcm("another")).await;
    let second = stage.town.request("bob", place(0.0, 0.0)).await.id;
    stage.matches().await;
    assert_eq!(open(&stage.town.app.store.ride(second).await.unwrap().unwrap()).0, other);
    assert_eq!(stage.taken(2).await[1].device, "another");
}

/// A note that could not be sent at once does not come after a newer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_overtaken_is_not_tried_again() {
    let databases = Databases::sqlite();
    let stage = Stage::new(&databases, OFFER_S).await;
    stage.register("ana", "rider", fcm("phone")).await;
    let (ride, driver) = stage.offered().await;
    let (_, offer) = open(&stage.town.app.store.ride(ride).await.unwrap().unwrap());
    // The first attempt fails when it is given up, seconds after the ride has gone on.
    stage.services.add_fault(Service::Fcm, Fault::Silent);
    stage.town.app.respond(driver, ride, offer, true).await.unwrap();
    stage.called(Service::Fcm, 1).await;
    stage.town.app.cancel(&Asker::Operator, ride, "closed".into(), false).await.unwrap();
    assert_eq!(stage.taken(1).await[0].body["data"]["state"], "cancelled");
    let mut outcomes = stage.attempts(ride, 2).await;
    outcomes.sort();
    assert_eq!(outcomes, [(1, "later".to_owned()), (1, "sent".to_owned())]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(stage.taken(1).await.len(), 1, "the driver is not on the way");
    assert_eq!(stage.attempts(ride, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_belong_to_one_and_what_cannot_be_one_is_refused() {
    let databases = Databases::sqlite();
    let stage = Stage::new(&databases, OFFER_S).await;
    let store = &stage.town.app.store;
    let of = |owner| async move { store.devices(owner).await.unwrap().len() };
    let (dora, ana) = (driver_of("dora").uuid(), rider_of("ana"));
    stage.register("dora", "driver", fcm("shared")).await;
    stage.register("dora", "driver", fcm("shared")).await;
    assert_eq!(of(dora).await, 1, "the same again");
    stage.register("ana", "rider", fcm("shared")).await;
    assert_eq!((of(dora).await, of(ana).await), (0, 1), "a phone that changes hands");
    let (status, _) = stage.ask("dora", "driver", "DELETE", "/push/devices", fcm("shared")).await;
    assert_eq!((status, of(ana).await), (StatusCode::NO_CONTENT, 1), "another's stays");
    stage.ask("ana", "rider", "DELETE", "/push/devices", fcm("shared")).await;
    assert_eq!(of(ana).await, 0);
    for n in 0..MOST_DEVICES + 3 {
        stage.register("ana", "rider", fcm(&format!("phone {n}").replace(' ', "-"))).await;
    }
    assert_eq!(of(ana).await as u32, MOST_DEVICES);
    let key = json!({ "p256dh": "BA", "auth": "AA" });
    let inside = json!({ "endpoint": "http://169.254.169.254/latest", "keys": stage.services.subscribe()["keys"] });
    let short = json!({ "endpoint": format!("{}/web/9", stage.services.url), "keys": key });
    for (device, word) in [
        (fcm(""), "visible ASCII"),
        (fcm("two words"), "visible ASCII"),
        (json!({ "service": "apns", "token": "xyz" }), "hexadecimal"),
        (json!({ "service": "web", "subscription": inside }), "no push service"),
        (json!({ "service": "web", "subscription": short }), "65 and 16 bytes"),
        (json!({ "service": "pigeon", "token": "coo" }), "pigeon"),
    ] {
        let (status, body) = stage.ask("ana", "rider", "PUT", "/push/devices", device).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body["detail"].as_str().unwrap().contains(word), "{body}");
    }
    let (status, _) = stage.ask("edge", "edge", "PUT", "/push/devices", fcm("phone")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, body) = stage.ask("ana", "rider", "GET", "/push/key", Value::Null).await;
    assert_eq!((status, body["public_key"].as_str().unwrap().len()), (StatusCode::OK, 87));
}

#[tokio::test]
async fn what_is_not_set_up_says_so() {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let services = start();
    let stop = CancellationToken::new().drop_guard();
    let outbox = outbox(Metrics::default()).0;
    let stage = Stage { town, services, outbox, _stop: stop };
    let (status, body) = stage.ask("ana", "rider", "PUT", "/push/devices", fcm("phone")).await;
    assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("rides.no_push")));
    assert_eq!(stage.ask("ana", "rider", "GET", "/push/key", Value::Null).await.0, StatusCode::NOT_FOUND);
    // Half a setting is no setting.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for (name, key) in [("apns", "topic"), ("web", "subject"), ("web", "public_key")] {
        let mut settings = stage.services.settings();
        settings[name].as_object_mut().unwrap().remove(key);
        let config: push::Config = serde_json::from_value(settings).unwrap();
        let Err((setting, reason)) = Services::open(&config, &clock) else { panic!("{name} without {key}") };
        assert_eq!((setting, reason.contains(key)), (format!("rides.push.{name}").as_str(), true), "{reason}");
    }
    let missing = json!({ "fcm": { "credentials": "/nowhere/account.json" } });
    let refused = Services::open(&serde_json::from_value(missing).unwrap(), &clock);
    assert!(refused.is_err_and(|(_, reason)| reason.contains("/nowhere/account.json")));
    assert!(Services::open(&push::Config::default(), &clock).unwrap().is_empty());
}
