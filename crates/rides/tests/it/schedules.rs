//! Random schedules in virtual time: matchers killed in the middle of a round, claims lost, answers delayed and doubled, the
//! process started anew. After each step every ride is over, is driven, or has a time at which it moves on; in the end all do.
//!
//! A fault prints its seed; `TESSERA_SCHEDULE_SEED` sets the first one, and a schedule repeats with it but for the ids.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::{Clock, ManualClock, SystemClock, Timestamp, Uuid};
use tessera_rides::app::{Asker, StatusChange, Wish};
use tessera_rides::config::Config;
use tessera_rides::domain::dispatch::Policy;
use tessera_rides::domain::ids::{DriverId, OfferId, RideId};
use tessera_rides::domain::ride::{Ride, State};
use tessera_rides::jobs::due;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::locations::{Duty, Report};
use tessera_store::claims::{self, Acquire, Acquired, Claim, Claims};
use tessera_testkit::sql::Databases;

use crate::judge::judge;
use crate::support::{NOON, Town, place};

const SCHEDULES: u64 = 12;
const STEPS: usize = 250;
const DRIVERS: usize = 5;
/// What a search, an offer and an estimate may take, and the slack of who looks.
const LONGEST: Duration = Duration::from_secs(10 + 5 + 5);

#[tokio::test]
async fn every_ride_moves_on() {
    let first = std::env::var("TESSERA_SCHEDULE_SEED").ok().map(|text| text.parse().unwrap());
    let first = first.unwrap_or_else(|| SystemClock.now().micros() as u64);
    let databases = Databases::sqlite();
    for seed in first..first + SCHEDULES {
        eprintln!("seed {seed}");
        let policy = if seed % 2 == 0 { Policy::Fifo } else { Policy::Balanced };
        Schedule::new(&databases.fresh(), policy, seed).await.run().await;
    }
}

/// Claims in memory, which forget.
struct Forgetful {
    clock: Arc<ManualClock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    claims: HashMap<(Uuid, Uuid), Claim>,
    last: i64,
}

impl Forgetful {
    fn forget(&self) {
        *self.held.lock().unwrap() = Held::default();
    }

    fn living(&self, claim: &Claim) -> bool {
        let (held, now) = (self.held.lock().unwrap(), self.clock.now());
        let same = |known: &Claim| known.token == claim.token && known.expires_at > now;
        claim.resources.iter().all(|id| held.claims.get(&(claim.partition, *id)).is_some_and(same))
    }
}

impl Claims for Forgetful {
    fn acquire(&self, wish: Acquire) -> BoxFuture<'_, Result<Acquired, tessera_store::Error>> {
        async move {
            let (mut held, now) = (self.held.lock().unwrap(), self.clock.now());
            let key = |id: &Uuid| (wish.partition, *id);
            let living = wish.resources.iter().filter_map(|id| held.claims.get(&key(id)));
            if let Some(other) = living.filter(|claim| claim.expires_at > now).max_by_key(|claim| claim.expires_at) {
                return Ok(Acquired::Taken { resources: wish.resources.clone(), until: other.expires_at });
            }
            let token = now.micros().max(held.last + 1);
            held.last = token;
            let Acquire { partition, resources, holder, ttl, .. } = wish.clone();
            let claim = Claim { partition, resources, holder, token, expires_at: now.plus(ttl) };
            for id in &wish.resources {
                held.claims.insert(key(id), claim.clone());
            }
            Ok(Acquired::Claim(claim))
        }
        .boxed()
    }

    fn extend(&self, claim: Claim, ttl: Duration) -> BoxFuture<'_, Result<Option<Timestamp>, tessera_store::Error>> {
        async move {
            if !self.living(&claim) {
                return Ok(None);
            }
            let until = self.clock.now().plus(ttl);
            let mut held = self.held.lock().unwrap();
            for id in &claim.resources {
                held.claims.insert((claim.partition, *id), Claim { expires_at: until, ..claim.clone() });
            }
            Ok(Some(until))
        }
        .boxed()
    }

    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<bool, tessera_store::Error>> {
        async move {
            let living = self.living(&claim);
            if living {
                let mut held = self.held.lock().unwrap();
                claim.resources.iter().for_each(|id| drop(held.claims.remove(&(claim.partition, *id))));
            }
            Ok(living)
        }
        .boxed()
    }

    fn get(&self, _: Uuid, resources: Vec<Uuid>) -> BoxFuture<'_, Result<Vec<claims::State>, tessera_store::Error>> {
        async move { Ok(vec![claims::State::Free; resources.len()]) }.boxed()
    }
}

/// A future that is dropped when it has been polled so often.
struct Cut<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

fn cut<F: Future>(future: F, polls: usize) -> Cut<F> {
    Cut { future: Box::pin(future), polls }
}

/// What somebody sends, and which may come late, twice or never.
#[derive(Clone, Debug)]
enum Message {
    Answer(DriverId, RideId, OfferId, bool),
    Status(DriverId, RideId, StatusChange),
    Cancel(Asker, RideId, bool),
}

struct Schedule {
    url: String,
    town: Town,
    claims: Arc<Forgetful>,
    clock: Arc<ManualClock>,
    config: Config,
    dice: StdRng,
    matchers: Vec<Matcher>,
    drivers: Vec<DriverId>,
    rides: Vec<RideId>,
    messages: Vec<Message>,
}

impl Schedule {
    async fn new(url: &str, policy: Policy, seed: u64) -> Self {
        let mut config = Config { estimate_ttl_s: 5, ..Config::default() };
        config.matching.policy = policy;
        config.matching.offer_s = 5;
        config.matching.search_s = 10;
        let clock = Arc::new(ManualClock::at(NOON));
        let claims = Arc::new(Forgetful { clock: Arc::clone(&clock), held: Mutex::default() });
        let town = Town::with_claims(url, config.clone(), claims.clone(), Arc::clone(&clock)).await;
        let mut drivers = Vec::new();
        for n in 0..DRIVERS {
            drivers.push(town.driver(&format!("driver {n}"), place(0.0, n as f64 / 1_000.0)).await);
        }
        let matchers = (0..2).map(|_| Matcher::new(town.app.clone())).collect();
        let dice = StdRng::seed_from_u64(seed);
        let (rides, messages) = (Vec::new(), Vec::new());
        Self { url: url.to_owned(), town, claims, clock, config, dice, matchers, drivers, rides, messages }
    }

    async fn run(mut self) {
        for _ in 0..STEPS {
            self.step().await;
            self.check().await;
        }
        self.run_out().await;
        judge(&self.town.app.store, &self.rides).await;
        self.town.app.store.close().await;
    }

    async fn step(&mut self) {
        let app = self.town.app.clone();
        match self.dice.random_range(0..100) {
            0..12 => self.wish().await,
            12..32 => {
                let (first, second) = self.matchers.split_at_mut(1);
                match self.dice.random_range(0..4) {
                    0 => {
                        let (one, two) = tokio::join!(first[0].round(), second[0].round());
                        one.unwrap();
                        two.unwrap();
                    }
                    // Killed somewhere in its round, with what it had claimed.
                    1 => {
                        let polls = self.dice.random_range(0..12);
                        cut(first[0].round(), polls).await;
                        first[0] = Matcher::new(app);
                    }
                    _ => second[0].round().await.unwrap(),
                }
            }
            32..36 => self.claims.forget(),
            36..52 => {
                let span = Duration::from_millis(self.dice.random_range(0..4_000));
                self.time_passes(span).await;
            }
            52..58 => due::round(&app).await.unwrap(),
            58..76 => self.drivers_send().await,
            76..79 => {
                if let Some(ride) = self.some_ride().await {
                    self.messages.push(Message::Cancel(Asker::Rider(ride.rider.as_str().into()), ride.id, false));
                }
            }
            79..99 => self.deliver().await,
            _ => self.start_anew().await,
        }
    }

    async fn wish(&mut self) {
        let rider = format!("rider {}", self.rides.len());
        let pickup = place(0.0, self.dice.random_range(0.0..0.005));
        let wish = Wish { pickup, destination: place(0.02, 0.0) };
        let ride = self.town.app.estimate(&rider, wish).await.unwrap().id;
        self.rides.push(ride);
        if self.dice.random_bool(0.8) {
            self.town.app.request(&rider.into(), ride).await.unwrap();
        }
    }

    async fn some_ride(&mut self) -> Option<Ride> {
        let at = self.dice.random_range(0..self.rides.len().max(1));
        self.town.app.store.ride(*self.rides.get(at)?).await.unwrap()
    }

    /// Every driver who has something to say says it, late or soon, mostly yes, sometimes twice.
    async fn drivers_send(&mut self) {
        for driver in self.drivers.clone() {
            let Some(ride) = self.town.app.store.ride_of_driver(driver).await.unwrap() else { continue };
            let say = self.dice.random_range(0..10);
            let offer = ride.offer.as_ref().unwrap().id;
            let message = match (ride.state, say) {
                (_, 0 | 1) => continue,
                (State::Offered, _) => Message::Answer(driver, ride.id, offer, say > 4),
                (State::Accepted | State::Arrived, 2) => Message::Cancel(Asker::Driver(driver), ride.id, say % 2 == 0),
                (State::Accepted, _) => Message::Status(driver, ride.id, StatusChange::Arrived),
                (State::Arrived, _) => Message::Status(driver, ride.id, StatusChange::PickedUp(ride.code.clone())),
                _ => Message::Status(driver, ride.id, StatusChange::Completed),
            };
            if self.dice.random_bool(0.2) {
                self.messages.push(message.clone());
            }
            self.messages.push(message);
        }
    }

    /// One of the messages arrives, whichever; some callers hang up before they are answered.
    async fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let message = self.messages.swap_remove(self.dice.random_range(0..self.messages.len()));
        let app = self.town.app.clone();
        let sent = async {
            // Refusals are as good as any answer here.
            match message {
                Message::Answer(driver, ride, offer, yes) => drop(app.respond(driver, ride, offer, yes).await),
                Message::Status(driver, ride, change) => drop(app.set_status(driver, ride, change).await),
                Message::Cancel(asker, ride, no_show) => {
                    drop(app.cancel(&asker, ride, String::new(), no_show).await);
                }
            }
        };
        match self.dice.random_range(0..5) {
            0 => drop(cut(sent, self.dice.random_range(1..4)).await),
            _ => pin!(sent).await,
        }
    }

    async fn time_passes(&mut self, span: Duration) {
        self.clock.advance(span);
        let at = self.clock.now();
        for (n, driver) in self.drivers.iter().enumerate() {
            let report = Report { driver: *driver, place: place(0.0, n as f64 / 1_000.0), heading: None, at };
            self.town.app.locate(&[report]).await.unwrap();
        }
    }

    /// Another process on the same database: it knows nobody's place, and no claims of the one before.
    async fn start_anew(&mut self) {
        self.town.app.store.close().await;
        let claims = Arc::clone(&self.claims);
        self.town = Town::with_claims(&self.url, self.config.clone(), claims, Arc::clone(&self.clock)).await;
        self.matchers = (0..2).map(|_| Matcher::new(self.town.app.clone())).collect();
        self.time_passes(Duration::from_millis(200)).await;
    }

    /// No ride is without an end in sight.
    async fn check(&self) {
        let now = self.clock.now();
        for id in &self.rides {
            let ride = self.town.app.store.ride(*id).await.unwrap().unwrap();
            let since = match ride.state {
                State::Estimated => Some(ride.created_at),
                State::Requested => ride.searching_since,
                State::Offered => ride.offer.as_ref().map(|offer| offer.expires_at),
                _ => continue,
            };
            assert!(
                since.is_some_and(|since| since <= now.plus(LONGEST)),
                "{id} is {} without an end",
                ride.state.as_str()
            );
        }
    }

    /// Nobody answers any more, and half of the time there is no matcher either.
    async fn run_out(&mut self) {
        self.messages.clear();
        let with_matcher = self.dice.random_bool(0.5);
        let began = self.clock.now();
        loop {
            let mut open = Vec::new();
            for id in &self.rides {
                let ride = self.town.app.store.ride(*id).await.unwrap().unwrap();
                if !ride.state.is_final() && !ride.state.has_driver() {
                    open.push((ride.id, ride.state));
                }
            }
            if open.is_empty() {
                break;
            }
            // Each driver may let an offer of each ride lapse, one after the other.
            let most = LONGEST * (2 + DRIVERS as u32);
            assert!(self.clock.now().since(began) <= most, "rides that do not move on: {open:?}");
            self.time_passes(Duration::from_secs(1)).await;
            due::round(&self.town.app).await.unwrap();
            if with_matcher {
                self.matchers[0].round().await.unwrap();
            }
        }
        for driver in &self.drivers {
            let bound = self.town.app.store.ride_of_driver(*driver).await.unwrap().is_some();
            let duty = self.town.app.locations.get(*driver).await.unwrap().unwrap().duty;
            assert_eq!(duty, if bound { Duty::Busy } else { Duty::Free }, "{driver} is asked again when free");
        }
    }
}
