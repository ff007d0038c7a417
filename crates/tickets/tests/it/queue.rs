//! Waiting rooms: one list of cases, on both databases, with lines in SQL and in Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, ManualClock, SystemClock, Timestamp};
use tessera_service::Keys;
use tessera_store::lines::{Lines, Phase, RedisLines};
use tessera_store::redis::Redis;
use tessera_testkit::sql::Databases;
use tessera_testkit::{ScratchDir, redis};
use tessera_tickets::app::App;
use tessera_tickets::app::queue::{Stage, Standing, Visitor};
use tessera_tickets::app::request::Request;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::event::{Details, Queue, QueueMode};
use tessera_tickets::domain::ids::EventId;
use tessera_tickets::domain::queue::{Control, Settings};
use tessera_tickets::{Error, http as api};
use tower::ServiceExt;

use crate::support::{Process, details, plan, publish, tickets};

/// A database, perhaps a Redis for lines, and the clock that they go by.
struct House {
    url: String,
    redis: Option<String>,
    /// Where the stores go by it; a server's own clock cannot be moved, so it is waited for.
    clock: Option<Arc<ManualClock>>,
    keys: Keys,
}

impl House {
    fn new(url: String, redis: Option<String>, clock: Option<Arc<ManualClock>>) -> Self {
        let keys = Keys::ephemeral(clock.clone().map_or(Arc::new(SystemClock) as Arc<dyn Clock>, |clock| clock));
        Self { url, redis, clock, keys: keys.unwrap() }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone().map_or(Arc::new(SystemClock), |clock| clock)
    }

    async fn passes(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span),
            None => tokio::time::sleep(span).await,
        }
    }

    async fn process(&self) -> App {
        let lines = match &self.redis {
            Some(url) => {
                let redis = Redis::open(url).await.unwrap();
                Some(Arc::new(RedisLines::new(redis, "tickets")) as Arc<dyn Lines>)
            }
            None => None,
        };
        Process { lines, keys: self.keys.clone(), ..Process::new(&self.url, self.clock()) }.start().await.0
    }

    async fn event(&self, queue: Queue, on_sale_at: Option<Timestamp>) -> EventId {
        let details = Details { queue, on_sale_at, ..details(16) };
        let tomorrow = self.clock().now().plus(Duration::from_secs(86_400));
        publish(&self.url, &plan(2, 8), &details, tomorrow).await
    }
}

fn queue(max_inside: u32) -> Queue {
    Queue { mode: QueueMode::On, max_inside, ..Queue::default() }
}

fn fan(name: &str) -> Visitor {
    Visitor { subject: Some(name.into()), device: None }
}

fn device(id: &str) -> Visitor {
    Visitor { subject: None, device: Some(id.to_owned()) }
}

fn request(subject: &str, key: &str) -> Request {
    Request { subject: subject.into(), key: key.into() }
}

async fn let_in(app: &App, event: EventId) -> u64 {
    app.refresh_queue(event).await.unwrap();
    app.admit_next(event).await.unwrap()
}

async fn stands(app: &App, place: &Standing, subject: Option<&str>) -> Standing {
    let event = app.queue_place(&place.pass, subject).await;
    event.unwrap()
}

fn admission(standing: &Standing) -> String {
    standing.inside.as_ref().unwrap().admission.clone().unwrap()
}

async fn reserve(app: &App, event: EventId, subject: &str, seat: u32, admission: Option<&str>) -> Result<(), Error> {
    let admission = admission.map(str::to_owned);
    let wish = Wish { event: Some(event), tickets: tickets(event, &[seat]), admission, ..Wish::default() };
    app.reserve(&request(subject, &format!("{event} {seat}")), &wish).await.map(drop)
}

fn refusal(answer: Result<(), Error>) -> String {
    match answer {
        Err(error @ Error::NotAdmitted { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn contract(stages: impl AsyncFn() -> House) {
    who_comes_first_is_let_in_first(&stages().await).await;
    one_person_has_one_place(&stages().await).await;
    reserving_demands_an_admission(&stages().await).await;
    a_place_without_an_account_becomes_that_of_the_first(&stages().await).await;
    the_lottery_can_be_checked_by_anyone(&stages().await).await;
    several_processes_keep_the_limit(&stages().await).await;
    the_organiser_has_the_last_word(&stages().await).await;
    a_restart_changes_nothing(&stages().await).await;
}

fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_micros(1_800_000_000_000_000)))
}

async fn sqlite(scratch: &ScratchDir, count: &AtomicU32) -> House {
    let file = scratch.file(&format!("{}.db", count.fetch_add(1, Ordering::Relaxed)));
    House::new(format!("sqlite:{}", file.display()), None, Some(manual_clock()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_rooms_on_sqlite() {
    let (scratch, count) = (ScratchDir::new(), AtomicU32::new(0));
    contract(async || sqlite(&scratch, &count).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_rooms_on_postgres() {
    let databases = Databases::postgres();
    contract(async || House::new(databases.fresh(), None, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_rooms_with_lines_in_redis() {
    let (databases, server) = (Databases::sqlite(), redis::start());
    contract(async || House::new(databases.fresh(), Some(server.url()), None)).await;
}

async fn who_comes_first_is_let_in_first(stage: &House) {
    let (one, two) = (stage.process().await, stage.process().await);
    let event = stage.event(queue(3), None).await;
    let mut places = Vec::new();
    for n in 0..10 {
        let app = if n % 2 == 0 { &one } else { &two };
        let place = app.join_queue(event, &fan(&format!("fan-{n}"))).await.unwrap();
        assert_eq!((place.number, place.open, place.inside.is_some()), (Some(n + 1), true, false));
        places.push(place);
    }
    assert_eq!(let_in(&one, event).await, 3);
    assert_eq!(let_in(&two, event).await, 0, "it is full");
    for (n, place) in places.iter().enumerate() {
        two.refresh_queue(event).await.unwrap();
        let now = stands(&two, place, None).await;
        assert_eq!(now.inside.is_some(), n < 3, "{n}");
        assert_eq!((now.serving, now.position), (3, Some((n as i64 + 1 - 3).max(0))));
        assert!(now.estimate_s.is_some());
    }
    // Who leaves makes room for the next, and who gives up while waiting is passed over.
    assert!(one.leave_queue(&places[1].pass).await.unwrap());
    assert!(!one.leave_queue(&places[1].pass).await.unwrap());
    assert!(one.leave_queue(&places[3].pass).await.unwrap());
    assert_eq!(let_in(&two, event).await, 1);
    assert!(stands(&two, &places[4], None).await.inside.is_some());
    for gone in [1, 3] {
        let error = two.queue_place(&places[gone].pass, None).await.unwrap_err();
        assert!(matches!(error, Error::QueueOver { .. }), "{error}");
    }
    // An old pass does not take the new place.
    let again = two.join_queue(event, &fan("fan-1")).await.unwrap();
    assert_eq!(again.number, Some(11));
    assert!(!two.leave_queue(&places[1].pass).await.unwrap());
}

async fn one_person_has_one_place(stage: &House) {
    let app = stage.process().await;
    let event = stage.event(queue(1), None).await;
    let both = Visitor { subject: Some("ana".into()), device: Some("the-laptop-of-ana".into()) };
    let first = app.join_queue(event, &both).await.unwrap();
    let phone = Visitor { device: Some("the-telephone-of-ana".into()), ..both.clone() };
    for again in [&both, &phone, &device("the-laptop-of-ana"), &fan("ana")] {
        assert_eq!(app.join_queue(event, again).await.unwrap().pass, first.pass, "{again:?}");
    }
    // Somebody else at the same device meets the same place, and has no use for its admission.
    let ben = Visitor { subject: Some("ben".into()), ..both };
    assert_eq!(app.join_queue(event, &ben).await.unwrap().pass, first.pass);
    let many = (0..40).map(|n| {
        let app = &app;
        async move { app.join_queue(event, &fan(if n % 2 == 0 { "cleo" } else { "dora" })).await.unwrap().number }
    });
    let numbers: BTreeSet<Option<i64>> = futures::future::join_all(many).await.into_iter().collect();
    assert_eq!(numbers, BTreeSet::from([Some(2), Some(3)]));
    assert_eq!(let_in(&app, event).await, 1);
    let place = stands(&app, &first, None).await;
    let refused = refusal(reserve(&app, event, "ben", 0, Some(&admission(&place))).await);
    assert!(refused.contains("another account"), "{refused}");
    let nobody = app.join_queue(event, &Visitor::default()).await.unwrap_err();
    assert!(nobody.to_string().contains("x-device-id"), "{nobody}");
}

async fn reserving_demands_an_admission(stage: &House) {
    let app = stage.process().await;
    let (event, other) = (stage.event(queue(2), None).await, stage.event(queue(2), None).await);
    let free = stage.event(Queue::default(), None).await;
    reserve(&app, free, "ana", 0, None).await.unwrap();
    let refused = refusal(reserve(&app, event, "ana", 0, None).await);
    assert!(refused.contains("join it first"), "{refused}");
    let mut admitted = Vec::new();
    for event in [event, other] {
        let place = app.join_queue(event, &fan("ana")).await.unwrap();
        let_in(&app, event).await;
        admitted.push((admission(&stands(&app, &place, None).await), place));
    }
    let good = admitted[0].0.clone();
    let refused = refusal(reserve(&app, event, "ana", 0, Some(&admitted[1].0)).await);
    assert!(refused.contains(&format!("is for event `{other}`")), "{refused}");
    let refused = refusal(reserve(&app, event, "ben", 0, Some(&good)).await);
    assert!(refused.contains("another account"), "{refused}");
    let stranger = House::new(stage.url.clone(), stage.redis.clone(), stage.clock.clone()).process().await;
    let forged = stranger.join_queue(event, &fan("eve")).await.unwrap();
    let_in(&stranger, event).await;
    let forged = admission(&stands(&stranger, &forged, None).await);
    let altered = format!("{}{}", &good[..good.len() - 5], "AAAAA");
    for bad in [forged.as_str(), &altered, "A1.", "", "not an admission", &admitted[0].1.pass] {
        let refused = refusal(reserve(&app, event, "ana", 0, Some(bad)).await);
        assert!(refused.contains("altered, or is none of ours"), "{refused}");
    }
    assert!(matches!(app.queue_place(&forged, None).await, Err(Error::NotFound { .. })));
    reserve(&app, event, "ana", 0, Some(&good)).await.unwrap();
    reserve(&app, event, "ana", 1, Some(&good)).await.unwrap();
    // Done: the place is free for the next, the admission is used, and a retry of what was answered is answered again.
    app.finish_queue(event, "ana").await.unwrap();
    let refused = refusal(reserve(&app, event, "ana", 2, Some(&good)).await);
    assert!(refused.contains("was used"), "{refused}");
    reserve(&app, event, "ana", 1, Some(&good)).await.unwrap();
    assert_eq!(app.refresh_queue(event).await.unwrap().stands.as_ref().unwrap().inside, 1);
    // Who waits is not thrown out by an order of before.
    let waits = app.join_queue(event, &fan("ana")).await.unwrap();
    app.finish_queue(event, "ana").await.unwrap();
    assert_eq!(app.join_queue(event, &fan("ana")).await.unwrap().pass, waits.pass);
}

async fn a_place_without_an_account_becomes_that_of_the_first(stage: &House) {
    let app = stage.process().await;
    let event = stage.event(queue(5), None).await;
    let mut places = Vec::new();
    for n in 0..3 {
        places.push(app.join_queue(event, &device(&format!("a-device-number-{n}"))).await.unwrap());
    }
    let own = app.join_queue(event, &fan("dora")).await.unwrap();
    let_in(&app, event).await;
    let unnamed = stands(&app, &places[0], None).await;
    assert_eq!(unnamed.inside.unwrap().admission, None);
    let anas = admission(&stands(&app, &places[0], Some("ana")).await);
    assert_eq!(anas, admission(&stands(&app, &places[0], Some("ana")).await));
    for (place, subject, why) in [
        (&places[0], "ben", "another account's"),
        (&places[1], "ana", "another place"),
        (&places[1], "dora", "a place of its own"),
    ] {
        let error = app.queue_place(&place.pass, Some(subject)).await.unwrap_err();
        assert!(error.code() == "tickets.not_admitted" && error.to_string().contains(why), "{error}");
    }
    reserve(&app, event, "ana", 0, Some(&anas)).await.unwrap();
    assert!(stands(&app, &own, None).await.inside.is_some());
    app.finish_queue(event, "ana").await.unwrap();
    refusal(reserve(&app, event, "ana", 1, Some(&anas)).await);
    // The next round: another device, the same account.
    assert!(app.queue_place(&places[1].pass, Some("ana")).await.unwrap().inside.is_some());
}

/// The recipe of docs/tickets.md, by itself.
fn drawn_number(seed: &[u8; 32], count: u64, entry: u64) -> u64 {
    let mut half_bits = 1;
    while 1u64 << (2 * half_bits) < count {
        half_bits += 1;
    }
    let mask = (1u64 << half_bits) - 1;
    let mut x = entry - 1;
    loop {
        let (mut left, mut right) = (x >> half_bits, x & mask);
        for round in 0..8u8 {
            let message = [&seed[..], &count.to_be_bytes(), &[round], &right.to_be_bytes()].concat();
            let digest = Sha256::digest(message);
            let f = u64::from_be_bytes(digest[..8].try_into().unwrap()) & mask;
            (left, right) = (right, left ^ f);
        }
        x = left << half_bits | right;
        if x < count {
            return x + 1;
        }
    }
}

async fn the_lottery_can_be_checked_by_anyone(stage: &House) {
    let (one, two) = (stage.process().await, stage.process().await);
    let event = stage.event(queue(10), None).await;
    // Far enough away for the slowest machine; they are moved once all have come.
    let doors = stage.clock().now().plus(Duration::from_secs(3_600));
    let open_at = |at: Timestamp| Control { doors_open_at: Some(at), ..Control::default() };
    let before = one.control_queue(event, &open_at(doors)).await.unwrap();
    assert_eq!(before.stage, Stage::Before);
    let commitment = before.stands.as_ref().unwrap().commitment.unwrap();
    let mut places = Vec::new();
    for n in 0..30 {
        let place = if n % 2 == 0 { &one } else { &two }.join_queue(event, &fan(&format!("fan-{n}"))).await.unwrap();
        assert_eq!((place.open, place.number, place.estimate_s, place.opens_at), (false, None, None, Some(doors)));
        places.push(place);
    }
    assert_eq!(let_in(&one, event).await, 0, "the doors are closed");
    let error = reserve(&one, event, "fan-0", 0, None).await.unwrap_err();
    assert!(matches!(error, Error::NotAdmitted { .. }), "{error}");
    one.control_queue(event, &open_at(stage.clock().now().plus(Duration::from_millis(500)))).await.unwrap();
    stage.passes(Duration::from_secs(1)).await;
    let after = two.refresh_queue(event).await.unwrap();
    let line = after.stands.as_ref().unwrap();
    let Phase::Open { drawn: 30, seed: Some(seed) } = &line.phase else { panic!("{line:?}") };
    assert_eq!((<[u8; 32]>::from(Sha256::digest(seed.bytes())), line.commitment), (commitment, Some(commitment)));
    let late = two.join_queue(event, &fan("late")).await.unwrap();
    assert_eq!(late.number, Some(31));
    one.refresh_queue(event).await.unwrap();
    let mut numbers = BTreeSet::new();
    for (n, place) in places.iter().enumerate() {
        let number = stands(&one, place, None).await.number.unwrap();
        assert_eq!(number as u64, drawn_number(seed.bytes(), 30, n as u64 + 1));
        numbers.insert(number);
    }
    assert_eq!(numbers, (1..=30).collect());
    assert_eq!(let_in(&one, event).await, 10);
    for place in &places {
        let now = stands(&one, place, None).await;
        assert_eq!(now.inside.is_some(), now.number.unwrap() <= 10);
    }
}

async fn several_processes_keep_the_limit(stage: &House) {
    let processes = [stage.process().await, stage.process().await, stage.process().await];
    let event = stage.event(queue(7), None).await;
    let joins = (0..60).map(|n| {
        let app = &processes[n % 3];
        async move { app.join_queue(event, &fan(&format!("fan-{n}"))).await.unwrap().number.unwrap() }
    });
    let numbers: BTreeSet<i64> = futures::future::join_all(joins).await.into_iter().collect();
    assert_eq!(numbers, (1..=60).collect());
    let admitted = futures::future::join_all(processes.iter().map(|app| let_in(app, event))).await;
    assert_eq!(admitted.iter().sum::<u64>(), 7);
    // With a rate the turns are shared, too: ten a second, for however many ask.
    let faster = Control { admit_per_minute: Some(600), max_inside: Some(1_000), ..Control::default() };
    processes[0].control_queue(event, &faster).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut came_in = 0;
    for _ in 0..5 {
        came_in += futures::future::join_all(processes.iter().map(|app| let_in(app, event))).await.iter().sum::<u64>();
        stage.passes(Duration::from_millis(200)).await;
    }
    let passed = if stage.clock.is_some() { Duration::from_secs(1) } else { began.elapsed() };
    // What was due when it began is at most two seconds' worth.
    let due = 20.0 + passed.as_secs_f64() * 10.0 + 1.0;
    assert!((came_in as f64) <= due, "{came_in} of {due}");
    assert!(came_in > 0);
}

async fn the_organiser_has_the_last_word(stage: &House) {
    let app = stage.process().await;
    let event = stage.event(Queue::default(), None).await;
    let error = app.join_queue(event, &fan("ana")).await.unwrap_err();
    assert!(matches!(error, Error::NotNow { .. }), "{error}");
    let on = Control { mode: Some(QueueMode::On), max_inside: Some(1), paused: Some(true), ..Control::default() };
    let view = app.control_queue(event, &on).await.unwrap();
    assert_eq!((&view.stage, view.settings.max_inside), (&Stage::Open, 1));
    let ana = app.join_queue(event, &fan("ana")).await.unwrap();
    app.join_queue(event, &fan("ben")).await.unwrap();
    assert_eq!(let_in(&app, event).await, 0, "it is paused");
    app.control_queue(event, &Control { paused: Some(false), ..Control::default() }).await.unwrap();
    assert_eq!(let_in(&app, event).await, 1);
    assert!(stands(&app, &ana, None).await.inside.is_some());
    app.control_queue(event, &Control { max_inside: Some(9), ..Control::default() }).await.unwrap();
    assert_eq!(let_in(&app, event).await, 1);
    let off = Control { mode: Some(QueueMode::Off), ..Control::default() };
    assert_eq!(app.control_queue(event, &off).await.unwrap().stage, Stage::None);
    reserve(&app, event, "cleo", 3, None).await.unwrap();
    let error = app.control_queue(event, &Control { max_inside: Some(0), ..Control::default() }).await.unwrap_err();
    assert!(matches!(error, Error::BadRequest { .. }), "{error}");
}

async fn a_restart_changes_nothing(stage: &House) {
    let app = stage.process().await;
    let doors = stage.clock().now().plus(Duration::from_millis(1_500));
    let event = stage.event(queue(2), Some(doors)).await;
    let first = app.refresh_queue(event).await.unwrap();
    let mut places = Vec::new();
    for n in 0..6 {
        places.push(app.join_queue(event, &fan(&format!("fan-{n}"))).await.unwrap());
    }
    app.store.close().await;
    drop(app);
    let app = stage.process().await;
    let commitment = |view: &tessera_tickets::app::queue::View| view.stands.as_ref().unwrap().commitment;
    assert_eq!(commitment(&app.refresh_queue(event).await.unwrap()), commitment(&first));
    stage.passes(Duration::from_secs(2)).await;
    assert_eq!(let_in(&app, event).await, 2);
    let mut before = Vec::new();
    for place in &places {
        before.push(stands(&app, place, None).await);
    }
    app.store.close().await;
    drop(app);
    let app = stage.process().await;
    app.refresh_queue(event).await.unwrap();
    for (place, before) in places.iter().zip(before) {
        let now = stands(&app, place, None).await;
        assert_eq!((now.number, now.inside.is_some()), (before.number, before.inside.is_some()));
        assert!(now.estimate_s <= before.estimate_s);
        if let Some(inside) = before.inside {
            let subject = (0..6).find(|n| places[*n].pass == place.pass).unwrap();
            let admission = inside.admission.unwrap();
            reserve(&app, event, &format!("fan-{subject}"), subject as u32, Some(&admission)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stay_that_is_over_ends_the_admission() {
    let (scratch, count) = (ScratchDir::new(), AtomicU32::new(0));
    let stage = sqlite(&scratch, &count).await;
    let app = stage.process().await;
    let event = stage.event(Queue { admission_ttl_s: 60, ..queue(1) }, None).await;
    let ana = app.join_queue(event, &fan("ana")).await.unwrap();
    let ben = app.join_queue(event, &fan("ben")).await.unwrap();
    assert_eq!(let_in(&app, event).await, 1);
    let admission = admission(&stands(&app, &ana, None).await);
    stage.passes(Duration::from_secs(59)).await;
    assert_eq!(let_in(&app, event).await, 0);
    reserve(&app, event, "ana", 0, Some(&admission)).await.unwrap();
    stage.passes(Duration::from_secs(1)).await;
    let refused = refusal(reserve(&app, event, "ana", 1, Some(&admission)).await);
    assert!(refused.contains("ended at"), "{refused}");
    assert_eq!(let_in(&app, event).await, 1);
    assert!(stands(&app, &ben, None).await.inside.is_some());
    let error = app.queue_place(&ana.pass, None).await.unwrap_err();
    assert!(matches!(error, Error::QueueOver { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doors_close_by_themselves() {
    let (scratch, count) = (ScratchDir::new(), AtomicU32::new(0));
    let stage = sqlite(&scratch, &count).await;
    let (one, two) = (stage.process().await, stage.process().await);
    let auto = Queue { mode: QueueMode::Auto, auto_arrivals_per_second: 100, ..queue(1) };
    let event = stage.event(auto.clone(), None).await;
    reserve(&one, event, "ana", 0, None).await.unwrap();
    let settings = Settings::new(&auto, None, &Control::default());
    one.store.hear_arrivals(event, &settings, 1, 60).await.unwrap();
    assert_eq!(one.refresh_queue(event).await.unwrap().stage, Stage::None);
    two.store.hear_arrivals(event, &settings, 2, 60).await.unwrap();
    for app in [&one, &two] {
        assert_eq!(app.refresh_queue(event).await.unwrap().stage, Stage::Open);
        refusal(reserve(app, event, "ben", 1, None).await);
    }
    let ben = two.join_queue(event, &fan("ben")).await.unwrap();
    assert_eq!(let_in(&one, event).await, 1);
    two.refresh_queue(event).await.unwrap();
    reserve(&two, event, "ben", 1, Some(&admission(&stands(&two, &ben, None).await))).await.unwrap();
    for _ in 0..40 {
        stage.passes(Duration::from_secs(1)).await;
        let_in(&one, event).await;
    }
    two.refresh_queue(event).await.unwrap();
    reserve(&two, event, "cleo", 2, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_was_lost_begins_anew() {
    let (databases, mut server) = (Databases::sqlite(), redis::start());
    let stage = House::new(databases.fresh(), Some(server.url()), None);
    let app = stage.process().await;
    let event = stage.event(queue(1), None).await;
    let ana = app.join_queue(event, &fan("ana")).await.unwrap();
    let ben = app.join_queue(event, &fan("ben")).await.unwrap();
    let_in(&app, event).await;
    let old = admission(&stands(&app, &ana, None).await);
    server.kill_and_lose_everything();
    // The connection is made anew; the line is missed then.
    let connecting = async {
        loop {
            match app.refresh_queue(event).await {
                Ok(view) => break view,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let view = tokio::time::timeout(Duration::from_secs(60), connecting).await.unwrap();
    assert_eq!(view.stands.as_ref().unwrap().joined, 0);
    let error = app.queue_place(&ben.pass, None).await.unwrap_err();
    assert!(matches!(error, Error::QueueOver { .. }), "{error}");
    let refused = refusal(reserve(&app, event, "ana", 0, Some(&old)).await);
    assert!(refused.contains("was lost"), "{refused}");
    let again = app.join_queue(event, &fan("ben")).await.unwrap();
    assert_eq!(again.number, Some(1));
    assert_eq!(let_in(&app, event).await, 1);
    assert!(stands(&app, &again, None).await.inside.is_some());
}

struct Client {
    router: axum::Router,
    keys: Keys,
}

impl Client {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> http::Response<axum::body::Body> {
        let mut request = HttpRequest::builder().method(method).uri(path).header("idempotency-key", "1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                axum::body::Body::from(body.to_string())
            }
            None => axum::body::Body::empty(),
        };
        self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let answer = self.send(method, path, headers, body).await;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn token(&self, subject: &str, role: &str) -> String {
        let token = self.keys.sign_token(subject, &[role.to_owned()], Duration::from_secs(600)).unwrap();
        format!("Bearer {token}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http() {
    let (scratch, count) = (ScratchDir::new(), AtomicU32::new(0));
    let stage = sqlite(&scratch, &count).await;
    let app = stage.process().await;
    let event = stage.event(queue(1), None).await;
    let client = Client { router: api::router(app.clone()), keys: stage.keys.clone() };
    let (ana, organiser) = (client.token("ana", "fan"), client.token("org", "organiser"));
    let path = format!("/event/{event}/queue");

    let (status, place) = client.json("POST", &path, &[("authorization", &ana)], None).await;
    assert_eq!((status, &place["number"], &place["phase"]), (StatusCode::OK, &1.into(), &"open".into()));
    let device = [("x-device-id", "0123456789abcdef")];
    let (_, second) = client.json("POST", &path, &device, None).await;
    assert_eq!((&second["position"], &second["admission"]), (&2.into(), &Value::Null));
    for (headers, expected) in [
        (vec![], StatusCode::BAD_REQUEST),
        (vec![("x-device-id", "short")], StatusCode::BAD_REQUEST),
        (vec![("authorization", "Bearer forged")], StatusCode::UNAUTHORIZED),
        (vec![("authorization", organiser.as_str())], StatusCode::FORBIDDEN),
    ] {
        assert_eq!(client.json("POST", &path, &headers, None).await.0, expected, "{headers:?}");
    }
    let (status, _) = client.json("POST", "/event/event_00000000000000000000000000000000/queue", &device, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    // The answer for all: any cache may keep it for a second.
    app.refresh_queue(event).await.unwrap();
    let answer = client.send("GET", &format!("{path}/serving"), &[], None).await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=1");
    let (_, serving) = client.json("GET", &format!("{path}/serving"), &[], None).await;
    assert_eq!((&serving["serving"], &serving["waiting"], &serving["active"]), (&0.into(), &2.into(), &true.into()));

    // Let in: the place says so, the stream ends with the admission.
    assert_eq!(let_in(&app, event).await, 1);
    let here = format!("/queue/{}", place["token"].as_str().unwrap());
    let (_, now) = client.json("GET", &here, &[], None).await;
    assert_eq!((&now["admitted"], &now["position"], &now["estimate_s"]), (&true.into(), &0.into(), &0.into()));
    let stream = client.send("GET", &format!("{here}/stream"), &[], None).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let text = stream.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains("event: place\ndata: {") && text.contains(now["admission"].as_str().unwrap()), "{text}");

    // Who waits watches until it is his turn.
    let there = format!("/queue/{}", second["token"].as_str().unwrap());
    let waiting =
        client.send("GET", &format!("{there}/stream"), &[("authorization", &client.token("ben", "fan"))], None).await;
    let watching = tokio::spawn(waiting.into_body().collect());

    // Reserving, by header and by body, and what is refused.
    let seats = |numbers: &[u32]| tickets(event, numbers).iter().map(ToString::to_string).collect::<Vec<_>>();
    let body = |seat: u32| serde_json::json!({ "ticket_ids": seats(&[seat]) });
    let (status, problem) = client.json("POST", "/booking/reserve", &[("authorization", &ana)], Some(body(0))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &"tickets.not_admitted".into()));
    assert_eq!(problem["queue"], path);
    let admission = now["admission"].as_str().unwrap();
    let headers = [("authorization", ana.as_str()), ("x-admission", admission)];
    assert_eq!(client.json("POST", "/booking/reserve", &headers, Some(body(0))).await.0, StatusCode::OK);

    assert_eq!(client.json("POST", &format!("{here}/leave"), &[], None).await.1["left"], true);
    assert_eq!(client.json("GET", &here, &[], None).await.0, StatusCode::GONE);
    assert_eq!(client.json("GET", "/queue/Q1.forged", &[], None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(let_in(&app, event).await, 1);
    let text = watching.await.unwrap().unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains("\"admission\":\"A1."), "{text}");

    // The organiser's hand.
    let control = format!("{path}/control");
    let (status, watch) = client.json("GET", &control, &[("authorization", &organiser)], None).await;
    assert_eq!((status, &watch["inside"], &watch["max_inside"]), (StatusCode::OK, &1.into(), &1.into()));
    let pause = serde_json::json!({ "paused": true, "admit_per_minute": 60 });
    let (_, watch) = client.json("POST", &control, &[("authorization", &organiser)], Some(pause)).await;
    assert_eq!((&watch["paused"], &watch["admit_per_minute"]), (&true.into(), &60.into()));
    for (who, expected) in [
        (client.token("another", "organiser"), StatusCode::FORBIDDEN),
        (client.token("ana", "fan"), StatusCode::FORBIDDEN),
        (client.token("root", "admin"), StatusCode::OK),
    ] {
        assert_eq!(client.json("GET", &control, &[("authorization", &who)], None).await.0, expected);
    }
    let (status, _) =
        client.json("POST", &control, &[("authorization", &organiser)], Some(serde_json::json!({"pause": true}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
