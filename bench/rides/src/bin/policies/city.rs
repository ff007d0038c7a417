//! The city: events in virtual time, and rounds of matching as the matcher of the product makes them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::Uuid;
use tessera_rides::domain::assign::{self, Edge};
use tessera_rides::domain::dispatch::{self, Candidate, Matching, Wish};
use tessera_rides::domain::ids::DriverId;
use tessera_rides::jobs::matcher::{self, PASSES};

use super::cheapest::cheapest_first;
use super::figures::{Figures, Told};
use super::places::Places;

/// Riders who come earlier are not counted: all drivers are free at the start. Times are milliseconds.
const WARM: u64 = 30 * 60_000;
/// After how long a rider without a driver gives up.
const PATIENCE: u64 = 60_000;
/// How often the matcher looks where nothing wakes it, and how soon it does where something does.
const EVERY: u64 = matcher::EVERY.as_millis() as u64;
const GATHER: u64 = matcher::GATHER.as_millis() as u64;
/// Of those who do not accept, how many say so; the others let the offer lapse.
const SAYS_NO: f64 = 0.53;

/// How many.
pub struct Plan {
    pub drivers: usize,
    pub per_minute: f64,
    pub hours: u64,
}

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At once; who waited longest takes the driver who is there first.
    Nearest,
    /// The product's: at once, and by its score.
    Fifo,
    /// Over a window, the shortest way of all first.
    Cheapest,
    /// The product's: over the same window, the least in sum, with credit for waiting.
    Balanced,
}

impl Policy {
    pub const ALL: [Self; 4] = [Self::Nearest, Self::Fifo, Self::Cheapest, Self::Balanced];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "fifo nearest",
            Self::Fifo => "`fifo`",
            Self::Cheapest => "cheapest pair first",
            Self::Balanced => "`balanced`",
        }
    }

    fn has_window(self) -> bool {
        matches!(self, Self::Cheapest | Self::Balanced)
    }

    /// Which of its candidates each ride has.
    fn choose(self, rules: &Matching, seekers: &[Seeker]) -> Vec<Option<usize>> {
        let row = |seeker: &Seeker| -> Vec<Edge> {
            let edge = |(car, one): (&usize, &Candidate)| Edge { column: *car, cost: (one.eta_s * 1e3) as i64 };
            seeker.cars.iter().zip(&seeker.candidates).map(edge).collect()
        };
        let rows = || seekers.iter().map(row).collect::<Vec<Vec<Edge>>>();
        match self {
            Self::Nearest => assign::in_order(&rows()),
            Self::Cheapest => cheapest_first(&rows()),
            Self::Fifo | Self::Balanced => {
                let waited = |seeker: &Seeker| Duration::from_millis(seeker.waited);
                let wishes: Vec<Wish<'_>> =
                    seekers.iter().map(|one| Wish { waited: waited(one), candidates: &one.candidates }).collect();
                let places = rules.choose(&wishes);
                seekers.iter().zip(places).map(|(seeker, place)| Some(seeker.cars[place?])).collect()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes(usize),
    /// Of a ride that was offered so many times.
    Answers(usize, u32),
    GivesUp(usize),
    /// A car, and where.
    Frees(usize, usize),
    Round,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Offered { car: usize, accepts: bool },
    Over,
}

struct Ride {
    from: usize,
    to: usize,
    at: u64,
    state: State,
    offers: u32,
    asked: Vec<usize>,
    /// When a driver accepted, and how far that one was.
    matched: Option<(u64, f64)>,
}

struct Car {
    at: usize,
    idle_since: u64,
    offered: u32,
    accepted: u32,
    /// How likely an offer is accepted.
    willing: f64,
}

/// A ride in a round.
struct Seeker {
    ride: usize,
    waited: u64,
    cars: Vec<usize>,
    candidates: Vec<Candidate>,
}

struct City<'a> {
    places: &'a Places,
    policy: Policy,
    rules: Matching,
    seed: u64,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    next_round: u64,
    /// When the window closes.
    closes: Option<u64>,
    rides: Vec<Ride>,
    cars: Vec<Car>,
    waiting: BTreeSet<usize>,
    free: BTreeSet<usize>,
}

/// One run.
pub fn run(places: &Places, plan: &Plan, policy: Policy, seed: u64) -> Figures {
    let mut dice = StdRng::seed_from_u64(seed);
    let car = |dice: &mut StdRng| Car {
        at: dice.random_range(0..places.count()),
        idle_since: 0,
        offered: 0,
        accepted: 0,
        willing: dice.random_range(0.7..1.0),
    };
    let cars: Vec<Car> = (0..plan.drivers).map(|_| car(&mut dice)).collect();
    let (mut rides, mut at) = (Vec::new(), 0.0);
    loop {
        at -= (1.0 - dice.random_range(0.0..1.0_f64)).ln() * 60_000.0 / plan.per_minute;
        if at >= (plan.hours * 3_600_000) as f64 {
            break;
        }
        let (from, to) = places.trip(&mut dice);
        rides.push(Ride { from, to, at: at as u64, state: State::Over, offers: 0, asked: Vec::new(), matched: None });
    }
    let choice = if policy == Policy::Balanced { dispatch::Policy::Balanced } else { dispatch::Policy::Fifo };
    let city = City {
        places,
        policy,
        rules: Matching { policy: choice, ..Matching::default() },
        seed,
        now: 0,
        events: rides.iter().enumerate().map(|(ride, told)| Reverse((told.at, Event::Comes(ride)))).collect(),
        next_round: u64::MAX,
        closes: None,
        free: (0..cars.len()).collect(),
        waiting: BTreeSet::new(),
        rides,
        cars,
    };
    city.live()
}

impl City<'_> {
    fn live(mut self) -> Figures {
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Comes(ride) => {
                    self.events.push(Reverse((at + PATIENCE, Event::GivesUp(ride))));
                    self.waits(ride);
                }
                Event::Answers(ride, offers) => self.answered(ride, offers),
                Event::GivesUp(ride) => self.gives_up(ride),
                Event::Frees(car, place) => {
                    self.cars[car].at = place;
                    self.cars[car].idle_since = at;
                    self.free.insert(car);
                }
                Event::Round => self.round(),
            }
        }
        let told = |ride: &Ride| Told {
            place: ride.from,
            wait: ride.matched.map_or(PATIENCE, |(at, _)| at - ride.at) as f64 / 1e3,
            eta: ride.matched.map(|(_, eta)| eta),
            offers: ride.offers,
        };
        let told: Vec<Told> = self.rides.iter().filter(|ride| ride.at >= WARM).map(told).collect();
        Figures::of(&told)
    }

    fn waits(&mut self, ride: usize) {
        self.rides[ride].state = State::Waits;
        self.waiting.insert(ride);
        self.wake(self.now + GATHER);
    }

    fn wake(&mut self, at: u64) {
        if at < self.next_round {
            self.next_round = at;
            self.events.push(Reverse((at, Event::Round)));
        }
    }

    fn gives_up(&mut self, ride: usize) {
        let state = std::mem::replace(&mut self.rides[ride].state, State::Over);
        self.waiting.remove(&ride);
        if let State::Offered { car, .. } = state {
            self.free.insert(car);
        }
    }

    fn answered(&mut self, ride: usize, offers: u32) {
        let State::Offered { car, accepts } = self.rides[ride].state else { return };
        if self.rides[ride].offers != offers {
            return;
        }
        if !accepts {
            self.free.insert(car);
            self.waits(ride);
            return;
        }
        let told = &mut self.rides[ride];
        told.state = State::Over;
        let eta = self.places.seconds(self.cars[car].at, told.from);
        told.matched = Some((self.now, eta));
        self.cars[car].accepted += 1;
        // The rider needs a moment to get in.
        let boards = answers(self.seed, ride, usize::MAX).random_range(5.0..40.0);
        let takes = eta + boards + self.places.seconds(told.from, told.to);
        self.events.push(Reverse((self.now + (takes * 1e3) as u64, Event::Frees(car, told.to))));
    }

    fn round(&mut self) {
        if self.now != self.next_round {
            return;
        }
        self.next_round = u64::MAX;
        let mut seekers = self.due();
        let mut taken = BTreeSet::new();
        for _ in 0..PASSES {
            for seeker in seekers.iter_mut().filter(|seeker| seeker.cars.is_empty()) {
                self.look(seeker, &taken);
            }
            seekers.retain(|seeker| !seeker.cars.is_empty());
            if seekers.is_empty() {
                break;
            }
            let chosen = self.policy.choose(&self.rules, &seekers);
            let mut served = BTreeSet::new();
            for (seeker, car) in seekers.iter().zip(chosen) {
                if let Some(car) = car {
                    self.ask(seeker.ride, car);
                    taken.insert(car);
                    served.insert(seeker.ride);
                }
            }
            seekers.retain(|seeker| !served.contains(&seeker.ride));
            for seeker in &mut seekers {
                let (cars, candidates) = (std::mem::take(&mut seeker.cars), std::mem::take(&mut seeker.candidates));
                let left = cars.into_iter().zip(candidates).filter(|(car, _)| !taken.contains(car));
                (seeker.cars, seeker.candidates) = left.unzip();
            }
        }
        if !self.waiting.is_empty() {
            let window = self.closes.map_or(EVERY, |closes| closes.saturating_sub(self.now).clamp(GATHER, EVERY));
            self.wake(self.now + window);
        }
    }

    /// Who has a turn now: with a window all once it closes, and until then who was denied.
    fn due(&mut self) -> Vec<Seeker> {
        let mut all = true;
        if self.policy.has_window() {
            let window = u64::from(self.rules.window_ms);
            let closes = *self.closes.get_or_insert(self.now + window);
            all = self.now >= closes;
            if all || self.waiting.is_empty() {
                self.closes = None;
            }
        }
        let due = self.waiting.iter().filter(|ride| all || self.rides[**ride].offers > 0);
        let seeker = |ride: &usize| Seeker {
            ride: *ride,
            waited: self.now - self.rides[*ride].at,
            cars: Vec::new(),
            candidates: Vec::new(),
        };
        due.map(seeker).collect()
    }

    /// The nearest free cars, with their times by road.
    fn look(&self, seeker: &mut Seeker, taken: &BTreeSet<usize>) {
        let ride = &self.rides[seeker.ride];
        let radius = self.rules.radius(Duration::from_millis(seeker.waited));
        let free = self.free.iter().copied().filter(|car| !taken.contains(car) && !ride.asked.contains(car));
        let mut near: Vec<(f64, usize)> =
            free.map(|car| (self.places.metres(self.cars[car].at, ride.from), car)).collect();
        near.retain(|(metres, _)| *metres <= radius);
        near.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        for (_, number) in near.into_iter().take(self.rules.candidates as usize) {
            let car = &self.cars[number];
            let eta_s = self.places.seconds(car.at, ride.from);
            if eta_s.is_finite() {
                let driver = DriverId::from(Uuid::from_u128(number as u128));
                let idle = Duration::from_millis(self.now - car.idle_since);
                seeker.cars.push(number);
                seeker.candidates.push(Candidate { driver, eta_s, offered: car.offered, accepted: car.accepted, idle });
            }
        }
    }

    fn ask(&mut self, ride: usize, car: usize) {
        self.waiting.remove(&ride);
        self.free.remove(&car);
        self.cars[car].offered += 1;
        let told = &mut self.rides[ride];
        told.offers += 1;
        told.asked.push(car);
        // The same answer whichever policy asks.
        let mut dice = answers(self.seed, ride, car);
        let thinks = dice.random_range(1.0..6.0) * 1e3;
        let accepts = dice.random_range(0.0..1.0) < self.cars[car].willing;
        let is_silent = !accepts && dice.random_range(0.0..1.0) > SAYS_NO;
        let takes = if is_silent { u64::from(self.rules.offer_s) * 1_000 } else { thinks as u64 };
        told.state = State::Offered { car, accepts };
        self.events.push(Reverse((self.now + takes, Event::Answers(ride, told.offers))));
    }
}

/// What a driver makes of a ride.
fn answers(seed: u64, ride: usize, car: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ (ride as u64).rotate_left(20) ^ (car as u64).rotate_left(44))
}
