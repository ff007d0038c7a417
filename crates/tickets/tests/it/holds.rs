//! Holds: one list of cases, on both databases and both stores of claims.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, ManualClock, SystemClock};
use tessera_store::claims::{Claims, RedisClaims};
use tessera_store::redis::Redis;
use tessera_testkit::sql::Databases;
use tessera_tickets::Error;
use tessera_tickets::app::App;
use tessera_tickets::app::request::Request;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::ids::EventId;
use tessera_tickets::jobs;
use tessera_tickets::seats::SeatState;

use crate::support::{app, app_at, hall, tickets};

fn request(subject: &str, key: &str) -> Request {
    Request { subject: subject.into(), key: key.into() }
}

fn wish(event: EventId, numbers: &[u32]) -> Wish {
    Wish { event: Some(event), tickets: tickets(event, numbers), ..Wish::default() }
}

fn best(event: EventId, quantity: u32) -> Wish {
    Wish { event: Some(event), best: Some((quantity, Some("stalls".into()))), ..Wish::default() }
}

fn floor(event: EventId, quantity: u32) -> Wish {
    Wish { event: Some(event), areas: vec![("floor".into(), quantity)], ..Wish::default() }
}

struct Stores {
    databases: Databases,
    redis: Option<(tessera_testkit::redis::Redis, std::sync::atomic::AtomicU32)>,
}

impl Stores {
    async fn claims(&self) -> Option<Arc<dyn Claims>> {
        let (server, _) = self.redis.as_ref()?;
        let redis = Redis::open(&server.url()).await.unwrap();
        Some(Arc::new(RedisClaims::new(redis, "tickets")))
    }

    async fn process(&self, url: &str) -> App {
        app(url, self.claims().await).await
    }
}

async fn contract(stores: &Stores) {
    seats_are_held_all_or_none(stores).await;
    the_same_request_is_the_same_hold(stores).await;
    given_back_is_free(stores).await;
    a_lapsed_hold_is_free_at_once(stores).await;
    customers_have_a_limit(stores).await;
    places_never_oversell(stores).await;
    of_many_one_wins_across_processes(stores).await;
    processes_see_each_other(stores).await;
    what_cannot_be_is_refused(stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Stores { databases: Databases::sqlite(), redis: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Stores { databases: Databases::postgres(), redis: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_claims_keep_the_contract() {
    let redis = Some((tessera_testkit::redis::start(), Default::default()));
    contract(&Stores { databases: Databases::postgres(), redis }).await;
}

async fn seats_are_held_all_or_none(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let app = stores.process(&url).await;
    let view = app.reserve(&request("ana", "1"), &wish(event, &[3, 1, 2])).await.unwrap();
    assert_eq!(view.total.to_string(), "135.00 EUR");
    let seats: Vec<Option<String>> = view.tickets.iter().map(|ticket| ticket.seat.clone()).collect();
    assert_eq!(seats, [Some("2".into()), Some("3".into()), Some("4".into())]);
    let refused = app.reserve(&request("eve", "1"), &wish(event, &[3, 4])).await.unwrap_err();
    let Error::SeatsTaken { taken, nearby, until } = &refused else { panic!("{refused}") };
    assert_eq!(*taken, tickets(event, &[3]));
    assert_eq!(*until, Some(view.hold.expires_at));
    assert!(nearby.contains(&tickets(event, &[4])[0]) && !nearby.contains(&tickets(event, &[2])[0]));
    // Seat 4 was not held for her either.
    app.reserve(&request("bob", "1"), &wish(event, &[4])).await.unwrap();
    // Mixed with general admission, in one hold.
    let mixed = Wish { areas: vec![("floor".into(), 2)], ..wish(event, &[5]) };
    let view = app.reserve(&request("bob", "2"), &mixed).await.unwrap();
    assert_eq!(view.total.to_string(), "95.00 EUR");
    assert_eq!(view.tickets.iter().filter(|ticket| ticket.area.as_deref() == Some("Floor")).count(), 2);
}

async fn the_same_request_is_the_same_hold(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let (app, other) = (stores.process(&url).await, stores.process(&url).await);
    let first = app.reserve(&request("ana", "1"), &best(event, 2)).await.unwrap();
    for process in [&app, &other, &app] {
        let again = process.reserve(&request("ana", "1"), &best(event, 2)).await.unwrap();
        assert_eq!(again, first);
    }
    let error = app.reserve(&request("ana", "1"), &best(event, 3)).await.unwrap_err();
    assert_eq!(error.code(), "tickets.key_reused");
    // Two at the same moment are one as well.
    let (one, two) = (request("ana", "2"), best(event, 1));
    let (a, b) = tokio::join!(app.reserve(&one, &two), other.reserve(&one, &two));
    match (a, b) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (a, b) => panic!("{a:?} {b:?}"),
    }
    app.live.follow().await.unwrap();
    let held = app.live.event(event).await.unwrap().with(|states| states.counts(app.clock.now()).held);
    assert_eq!(held, 3);
}

async fn given_back_is_free(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let app = stores.process(&url).await;
    let view = app.reserve(&request("ana", "1"), &wish(event, &[0, 1])).await.unwrap();
    let error = app.release(&"eve".into(), view.hold.id).await.unwrap_err();
    assert_eq!(error.code(), "tickets.not_found");
    assert_eq!(app.release(&"ana".into(), view.hold.id).await.unwrap(), 2);
    assert_eq!(app.release(&"ana".into(), view.hold.id).await.unwrap(), 0);
    assert_eq!(app.show_hold("ana", view.hold.id).await.unwrap_err().code(), "tickets.hold_over");
    let view = app.reserve(&request("eve", "1"), &wish(event, &[0, 1])).await.unwrap();
    assert_eq!(app.release(&"ana".into(), view.hold.id).await.unwrap_err().code(), "tickets.not_found");
}

async fn a_lapsed_hold_is_free_at_once(stores: &Stores) {
    let url = stores.databases.fresh();
    let mut details = crate::support::details(16);
    // Long enough for the slowest machine to look at it before it lapses.
    details.rules.hold_ttl_s = 5;
    let now = tessera_kernel::Clock::now(&tessera_kernel::SystemClock);
    let tomorrow = now.plus(Duration::from_secs(86_400));
    let event = crate::support::publish(&url, &crate::support::plan(2, 8), &details, tomorrow).await;
    let (app, other) = (stores.process(&url).await, stores.process(&url).await);
    let first = app.reserve(&request("ana", "1"), &wish(event, &[0, 1])).await.unwrap();
    assert!(other.reserve(&request("bob", "1"), &wish(event, &[1])).await.is_err());
    let end = first.hold.expires_at;
    other.live.follow().await.unwrap();
    let live = other.live.event(event).await.unwrap();
    let before = live.snapshot(app.clock.now());
    // Nothing sweeps here: the end alone frees the seats, in both processes.
    while app.clock.now() <= end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = |states: &mut tessera_tickets::seats::States| {
        states.get(tessera_tickets::domain::ids::SeatNumber(1), app.clock.now())
    };
    assert_eq!(live.with(state), SeatState::Free);
    // Who has the picture of all seats from before, and begins to watch after, is told of it.
    assert_ne!(live.snapshot(app.clock.now()).bytes, before.bytes);
    other.live.pulse();
    let missed = other.missed(&live, Some(before.seq)).await.unwrap().unwrap();
    assert_eq!(missed.json.as_str(), format!(r#"{{"seq":{},"free":[0,1],"held":[],"booked":[]}}"#, before.seq));
    let second = other.reserve(&request("bob", "2"), &wish(event, &[1])).await.unwrap();
    assert!(second.hold.token > first.hold.token, "tokens grow");
    assert_eq!(app.release(&"ana".into(), first.hold.id).await.unwrap(), 0, "what lapsed frees nobody's seat");
    assert!(app.reserve(&request("eve", "1"), &wish(event, &[1])).await.is_err());
}

async fn customers_have_a_limit(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let app = stores.process(&url).await;
    app.reserve(&request("ana", "1"), &best(event, 4)).await.unwrap();
    let error = app.reserve(&request("ana", "2"), &floor(event, 3)).await.unwrap_err();
    assert!(matches!(error, Error::CustomerLimit { limit: 6, has: 4 }), "{error}");
    app.reserve(&request("ana", "3"), &floor(event, 2)).await.unwrap();
    assert!(app.reserve(&request("ana", "4"), &floor(event, 1)).await.is_err());
    app.reserve(&request("bob", "1"), &floor(event, 6)).await.unwrap();
    // From two processes at once: together not more either.
    let other = stores.process(&url).await;
    let at_once = (0..4).map(|n| {
        let process = if n % 2 == 0 { &app } else { &other };
        async move { process.reserve(&request("eve", &n.to_string()), &floor(event, 2)).await }
    });
    let outcomes = futures::future::join_all(at_once).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");
}

async fn places_never_oversell(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let (app, other) = (stores.process(&url).await, stores.process(&url).await);
    let at_once = (0..60).map(|n| {
        let process = if n % 2 == 0 { app.clone() } else { other.clone() };
        tokio::spawn(async move { process.reserve(&request(&format!("fan{n}"), "1"), &floor(event, 1)).await })
    });
    let mut places = HashSet::new();
    for outcome in futures::future::join_all(at_once).await {
        match outcome.unwrap() {
            Ok(view) => assert!(places.insert(view.tickets[0].id), "{} twice", view.tickets[0].id),
            Err(error) => assert!(matches!(error, Error::TooFewFree { .. }), "{error}"),
        }
    }
    let mut late = 0;
    while let Ok(view) = app.reserve(&request(&format!("late{late}"), "1"), &floor(event, 1)).await {
        assert!(places.insert(view.tickets[0].id));
        late += 1;
    }
    assert_eq!(places.len(), 20, "all are held, none twice");
}

async fn of_many_one_wins_across_processes(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let processes = [stores.process(&url).await, stores.process(&url).await, stores.process(&url).await];
    let at_once = (0..90).map(|n: u32| {
        let process = processes[n as usize % 3].clone();
        // Overlapping pairs, in both orders.
        let seats = if n.is_multiple_of(2) { [n % 7, n % 7 + 1] } else { [n % 7 + 1, n % 7] };
        tokio::spawn(async move { process.reserve(&request(&format!("fan{n}"), "1"), &wish(event, &seats)).await })
    });
    let mut held = HashSet::new();
    for outcome in futures::future::join_all(at_once).await {
        match outcome.unwrap() {
            Ok(view) => view.tickets.iter().for_each(|ticket| assert!(held.insert(ticket.id), "{} twice", ticket.id)),
            Err(error) => assert!(matches!(error, Error::SeatsTaken { .. }), "{error}"),
        }
    }
    assert!(held.len() >= 4, "{}", held.len());
}

async fn processes_see_each_other(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let (app, other) = (stores.process(&url).await, stores.process(&url).await);
    let live = other.live.event(event).await.unwrap();
    let mut ticks = live.watch();
    let view = app.reserve(&request("ana", "1"), &wish(event, &[0, 1])).await.unwrap();
    other.live.follow().await.unwrap();
    other.live.pulse();
    let tick = ticks.recv().await.unwrap();
    let until = view.hold.expires_at.micros() / 1_000;
    let expected = format!(r#"{{"seq":1,"free":[],"held":[[0,{until}],[1,{until}]],"booked":[]}}"#);
    assert_eq!(tick.json.as_str(), expected);
    app.release(&"ana".into(), view.hold.id).await.unwrap();
    let missed = other.missed(&live, Some(0)).await.unwrap().unwrap();
    assert_eq!(missed.json.as_str(), r#"{"seq":2,"free":[0,1],"held":[],"booked":[]}"#);
    assert!(other.missed(&live, Some(99)).await.unwrap().is_none());
}

async fn what_cannot_be_is_refused(stores: &Stores) {
    let (url, event) = hall(&stores.databases).await;
    let (_, foreign) = hall(&stores.databases).await;
    let app = stores.process(&url).await;
    let code = async |wish: Wish| app.reserve(&request("ana", "1"), &wish).await.unwrap_err().code();
    assert_eq!(code(wish(event, &[99])).await, "tickets.not_found");
    assert_eq!(code(wish(event, &[1, 1])).await, "tickets.bad_request");
    assert_eq!(code(Wish::default()).await, "tickets.bad_request");
    assert_eq!(code(Wish { event: Some(event), ..Wish::default() }).await, "tickets.bad_request");
    assert_eq!(code(wish(event, &[0, 1, 2, 3, 4, 5, 6])).await, "tickets.customer_limit");
    let many: Vec<u32> = (0..10_000).collect();
    assert_eq!(code(wish(event, &many)).await, "tickets.bad_request");
    let mixed = Wish { event: Some(event), tickets: tickets(foreign, &[1]), ..Wish::default() };
    assert_eq!(code(mixed).await, "tickets.bad_request");
    assert_eq!(code(wish(foreign, &[1])).await, "tickets.not_found");
    let level = Wish { event: Some(event), best: Some((2, Some("royal".into()))), ..Wish::default() };
    assert_eq!(code(level).await, "tickets.not_found");
    assert_eq!(code(best(event, 7)).await, "tickets.customer_limit");
}

/// Claims that are over leave the database an hour later, and the seats can be had again before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_claims_are_swept() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let (url, event) = hall(&databases).await;
    let app = app_at(&url, None, clock.clone()).await;
    let sweep = async || jobs::sweep::sweep_claims(&app, &mut Default::default()).await.unwrap();
    let first = app.reserve(&request("ana", "1"), &wish(event, &[1, 2])).await.unwrap();
    let other = app.reserve(&request("bob", "1"), &wish(event, &[3])).await.unwrap();
    app.release(&"bob".into(), other.hold.id).await.unwrap();
    assert_eq!(sweep().await, 0);
    clock.advance(Duration::from_secs(3_599));
    assert_eq!(sweep().await, 0, "what ended of late stays");
    clock.advance(Duration::from_secs(3_600));
    let again = app.reserve(&request("eve", "1"), &wish(event, &[2])).await.unwrap();
    assert_eq!(sweep().await, 2, "one is held anew");
    assert_eq!(sweep().await, 0);
    let last = app.reserve(&request("eve", "2"), &wish(event, &[1, 3])).await.unwrap();
    assert!([again, last].iter().all(|later| later.hold.token > first.hold.token));
}
