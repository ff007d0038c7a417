//! A town over HTTP: riders who request and cancel, drivers who accept, deny, ignore and drive, and what they were told.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_rides::app::driver_of;
use tessera_rides::domain::fare::Tariff;
use tessera_rides::domain::ids::RideId;
use tessera_rides::domain::ride::Ride;
use tessera_rides::judge;
use tessera_rides::store::Store;
use tessera_service::Keys;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::histories::venue::Server;

const DAY: Duration = Duration::from_secs(86_400);
const DRIVERS: usize = 8;
const RIDERS: usize = 6;
/// How long to wait until all rides are over. It takes about ten seconds.
const SETTLED: Duration = Duration::from_secs(120);
/// How often edges tell where all drivers are.
const REPORTED: Duration = Duration::from_millis(400);

/// What was answered with success: it must be found in the histories.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    /// Rides that were requested.
    requested: Vec<RideId>,
    /// Who was told to drive, and for which offer.
    accepted: Vec<(RideId, String, String)>,
}

/// What all clients share.
struct Shared {
    base: String,
    client: reqwest::Client,
    over: AtomicBool,
    closed: AtomicBool,
    told: Mutex<Acknowledged>,
    /// What riders tell drivers in the street.
    codes: Mutex<HashMap<String, String>>,
}

pub struct Town {
    shared: Arc<Shared>,
    operator: String,
    riders: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// Numbers that repeat with their seed.
struct Dice(AtomicU64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    fn roll(&self, sides: u64) -> u64 {
        // Marsaglia's xorshift: good enough for who says yes.
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        (x >> 11) % sides
    }
}

impl Shared {
    /// Status and body; nothing where no answer came.
    async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut ask = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        if !body.is_null() {
            ask = ask.header("content-type", "application/json").body(body.to_string());
        }
        let answer = ask.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_slice(&answer.bytes().await.ok()?).unwrap_or_default()))
    }

    /// The same, which must succeed.
    async fn must(&self, token: &str, method: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.ask(token, method, path, &body).await.unwrap();
        assert!(status < 300, "{method} {path}: {status} {body}");
        body
    }

    /// The same where success is to be remembered.
    async fn done(&self, token: &str, method: &str, path: &str, body: Value) -> Option<Value> {
        let (status, body) = self.ask(token, method, path, &body).await?;
        assert!(status != 500, "{method} {path}: {body}");
        (status < 300).then_some(body)
    }
}

fn place(n: usize) -> Value {
    json!({ "lat": 41.15, "lng": -8.61 + n as f64 / 500.0 })
}

impl Town {
    /// Drivers begin their shifts, and riders to request.
    pub async fn open(servers: &[Server], keys_of: &Path, seed: u64) -> Self {
        eprintln!("seed {seed}");
        let keys = Keys::open(keys_of, Arc::new(SystemClock)).unwrap();
        let token = |subject: &str, role: &str| keys.sign_token(subject, &[role.to_owned()], DAY).unwrap();
        let client = tessera_service::client::builder().build().unwrap();
        let shared = Arc::new(Shared {
            base: servers[0].base.clone(),
            client,
            over: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            told: Mutex::default(),
            codes: Mutex::default(),
        });
        let operator = token("ona", "operator");
        let mut others = Vec::new();
        for n in 0..DRIVERS {
            let name = format!("driver {n}");
            let driver = token(&name, "driver");
            let profile = json!({ "name": name, "vehicle": "white Dacia", "plate": "AA-00-AA", "seats": 4 });
            shared.must(&driver, "PUT", "/drivers/profile", profile).await;
            let path = format!("/drivers/{}/approval", driver_of(&name));
            shared.must(&operator, "PUT", &path, json!({ "approved": true })).await;
            shared.must(&driver, "POST", "/drivers/shift", json!({ "on_duty": true, "place": place(n) })).await;
            let dice = Dice::new(seed ^ (n as u64) << 8);
            others.push(tokio::spawn(drive(Arc::clone(&shared), driver, driver_of(&name).to_string(), dice)));
        }
        others.push(tokio::spawn(report(Arc::clone(&shared), token("edge", "edge"))));
        let riders = (0..RIDERS)
            .map(|n| {
                let dice = Dice::new(seed ^ (n as u64 + 100) << 8);
                tokio::spawn(ride(Arc::clone(&shared), token(&format!("rider {n}"), "rider"), n, dice))
            })
            .collect();
        Self { shared, operator, riders, others }
    }

    /// How many rides ended in, or are in, a state.
    pub async fn count(&self, state: &str) -> usize {
        self.states().await.unwrap_or_default().get(state).copied().unwrap_or_default()
    }

    /// Waits until so many rides are in a state.
    pub async fn sees(&self, state: &str, count: usize) {
        let began = Instant::now();
        while self.count(state).await < count {
            assert!(began.elapsed() < SETTLED, "no {count} rides are {state}: {:?}", self.states().await);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn states(&self) -> Option<BTreeMap<String, usize>> {
        let (mut states, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/rides?limit=500&cursor={cursor}");
            let (status, page) = self.shared.ask(&self.operator, "GET", &path, &Value::Null).await?;
            if status != 200 {
                return None;
            }
            for ride in page["items"].as_array()? {
                *states.entry(ride["state"].as_str()?.to_owned()).or_default() += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return Some(states),
            }
        }
    }

    /// Riders come to an end, and then all rides do, while drivers go on.
    pub async fn settle(self) -> Acknowledged {
        self.shared.over.store(true, Ordering::Relaxed);
        let Self { riders, .. } = &self;
        let began = Instant::now();
        while !riders.iter().all(JoinHandle::is_finished) {
            assert!(began.elapsed() < SETTLED, "riders who go on");
            sleep(Duration::from_millis(50)).await;
        }
        let (mut looks, mut before) = (0, 0);
        // A list leaves out what changes at the moment: it must say the same several times.
        while looks < 4 {
            let states = self.states().await;
            let last = ["completed", "cancelled", "expired", "no_driver"];
            let over = states.as_ref().is_some_and(|states| states.keys().all(|state| last.contains(&state.as_str())));
            let count = states.as_ref().map_or(0, |states| states.values().sum());
            looks = if over && count == before { looks + 1 } else { 0 };
            before = count;
            assert!(began.elapsed() < SETTLED, "rides that do not end: {states:?}");
            sleep(Duration::from_millis(250)).await;
        }
        self.shared.closed.store(true, Ordering::Relaxed);
        for task in self.riders.into_iter().chain(self.others) {
            task.await.unwrap();
        }
        self.shared.told.lock().unwrap().clone()
    }
}

/// Tells where all drivers are, who do not move.
async fn report(shared: Arc<Shared>, edge: String) {
    while !shared.closed.load(Ordering::Relaxed) {
        sleep(REPORTED).await;
        let position = |n: usize| {
            let (id, place) = (driver_of(&format!("driver {n}")).to_string(), place(n));
            json!({ "driver_id": id, "lat": place["lat"], "lng": place["lng"] })
        };
        let positions: Vec<Value> = (0..DRIVERS).map(position).collect();
        // A process that is away hears of it the next time.
        let _ = shared.ask(&edge, "POST", "/drivers/location/update", &Value::from(positions)).await;
    }
}

/// Requests one ride after the other, some of which are cancelled.
async fn ride(shared: Arc<Shared>, token: String, n: usize, dice: Dice) {
    while !shared.over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50 + dice.roll(250))).await;
        let wish = json!({ "pickup": place(n), "destination": { "lat": 41.17, "lng": -8.61 } });
        let Some(estimate) = shared.done(&token, "POST", "/fare-estimate", wish).await else { continue };
        let id = estimate["ride_id"].as_str().unwrap().to_owned();
        if dice.roll(10) == 0 {
            continue;
        }
        let wish = json!({ "ride_id": id });
        let Some(ride) = shared.done(&token, "PATCH", "/ride/request", wish.clone()).await else { continue };
        shared.told.lock().unwrap().requested.push(id.parse().unwrap());
        shared.codes.lock().unwrap().insert(id, ride["code"].as_str().unwrap().to_owned());
        if dice.roll(5) == 0 {
            sleep(Duration::from_millis(dice.roll(800))).await;
            let _ = shared.done(&token, "POST", "/ride/cancel", wish).await;
        }
    }
}

/// Answers what is asked and drives what was accepted. Whenever something fails it looks anew at what there is.
async fn drive(shared: Arc<Shared>, token: String, driver: String, dice: Dice) {
    while !shared.closed.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50)).await;
        let stream = shared.client.get(format!("{}/drivers/me/stream", shared.base)).bearer_auth(&token);
        let Ok(Ok(mut stream)) = timeout(Duration::from_secs(5), stream.send()).await else { continue };
        let mut text = String::new();
        // Looks anew after a second of silence too: an answer may have been lost.
        while let Ok(Ok(Some(chunk))) = timeout(Duration::from_secs(1), stream.chunk()).await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            let mut failed = false;
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                let ride: Value = serde_json::from_str(data).unwrap();
                failed |= act(&shared, &token, &driver, &ride, &dice).await.is_none();
            }
            if failed || shared.closed.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// The next step of a ride; nothing where it failed.
async fn act(shared: &Shared, token: &str, driver: &str, ride: &Value, dice: &Dice) -> Option<()> {
    let id = ride["ride_id"].as_str().unwrap_or_default();
    let status = |status: &str| json!({ "ride_id": id, "status": status });
    match ride["state"].as_str().unwrap_or_default() {
        "offered" => {
            let Some(offer) = ride["offer"]["offer_id"].as_str() else { return Some(()) };
            let said = dice.roll(10);
            if said == 0 {
                return Some(());
            }
            let accept = said > 2;
            let body = json!({ "ride_id": id, "offer_id": offer, "accept": accept });
            // Some say it twice at once.
            let again = async {
                if said == 9 { shared.ask(token, "PATCH", "/ride/driver/respond", &body).await } else { None }
            };
            let (answer, _) = tokio::join!(shared.done(token, "PATCH", "/ride/driver/respond", body.clone()), again);
            answer?;
            if accept {
                let accepted = (id.parse().unwrap(), driver.to_owned(), offer.to_owned());
                shared.told.lock().unwrap().accepted.push(accepted);
            }
        }
        "accepted" if ride["driver"] == driver => {
            if dice.roll(12) == 0 {
                shared.done(token, "POST", "/ride/cancel", json!({ "ride_id": id, "reason": "a flat tyre" })).await?;
            } else {
                shared.done(token, "PATCH", "/ride/status", status("arrived")).await?;
            }
        }
        "arrived" if ride["driver"] == driver => {
            let code = shared.codes.lock().unwrap().get(id).cloned();
            let Some(code) = code else {
                // The rider never heard that the ride was requested: nobody comes to the car.
                shared.done(token, "POST", "/ride/cancel", json!({ "ride_id": id, "reason": "nobody here" })).await?;
                return Some(());
            };
            let body = json!({ "ride_id": id, "status": "picked_up_rider", "code": code });
            shared.done(token, "PATCH", "/ride/status", body).await?;
        }
        "picked_up_rider" if ride["driver"] == driver => {
            shared.done(token, "PATCH", "/ride/status", status("completed")).await?;
        }
        _ => {}
    }
    Some(())
}

/// Judges the histories, and that what was acknowledged is in them. No process runs any more.
pub async fn judge(store: &str, acknowledged: Acknowledged, seed: u64) {
    let clock = Arc::new(SystemClock);
    let store = Store::open(store, clock, Tariff::default(), Default::default()).await.unwrap();
    let rides = judge::rides(&store).await.unwrap();
    let verdict = judge::check(&store, &rides).await.unwrap();
    assert!(verdict.faults.is_empty(), "seed {seed}: {:#?}", verdict.faults);
    let ends = verdict.ends;
    let mut histories: HashMap<RideId, Vec<(String, Ride)>> = HashMap::new();
    for ride in &rides {
        histories.insert(*ride, store.history(*ride).await.unwrap());
    }
    for ride in &acknowledged.requested {
        let history = histories.get(ride).unwrap_or_else(|| panic!("seed {seed}: {ride} is lost"));
        assert!(history.iter().any(|(kind, _)| kind == "requested"), "seed {seed}: {ride} was requested");
    }
    for (ride, driver, offer) in &acknowledged.accepted {
        let accepted = histories[ride].iter().any(|(kind, ride)| {
            let same = ride.offer.as_ref().is_some_and(|known| known.id.to_string() == *offer);
            kind == "accepted" && same && ride.driver.is_some_and(|known| known.to_string() == *driver)
        });
        assert!(accepted, "seed {seed}: {driver} was told to drive {ride}");
    }
    let open = ends.keys().find(|state| !["completed", "cancelled", "expired", "no_driver"].contains(state));
    assert_eq!(open, None, "seed {seed}: {ends:?}");
    assert!(ends.get("completed").is_some_and(|count| *count > 5), "seed {seed}: somebody was driven: {ends:?}");
    let (requested, accepted) = (acknowledged.requested.len(), acknowledged.accepted.len());
    eprintln!("seed {seed}: {ends:?}; {requested} requests and {accepted} acceptances were acknowledged");
    store.close().await;
}
