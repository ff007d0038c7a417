//! What happened to whom, counted while it happens, and what must not have happened, kept with its reason.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::domain::book::Asked;

/// Things that must not happen of which the reason is kept; all are counted.
const MAX_REASONS: usize = 20;

/// How it ended for a rider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// Is where it was to be.
    Rode,
    /// Did not like the price.
    Looked,
    /// Nobody came.
    NoDriver,
    /// Did not want to wait for a driver.
    LeftLine,
    /// Thought better of it when somebody was on the way.
    Regretted,
    /// Was not at the pickup.
    Absent,
    /// Was still waiting or riding when the run was over.
    Unfinished,
    /// Something went wrong that must not.
    Broken,
}

impl Outcome {
    /// All of them, as they are printed.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Rode, "rode"),
        (Self::Looked, "only wanted to know the price"),
        (Self::NoDriver, "were told that nobody is there"),
        (Self::LeftLine, "cancelled while they waited for a driver"),
        (Self::Regretted, "cancelled after a driver had accepted"),
        (Self::Absent, "did not come to the pickup"),
        (Self::Unfinished, "were under way when the run ended"),
        (Self::Broken, "met an error"),
    ];
}

/// Things that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Riders who came.
    Came,
    /// Rides that were requested.
    Requested,
    /// Rides that a driver accepted, as the rider saw it.
    Matched,
    /// Requests that were sent twice at the same time.
    Doubled,
    /// Offers that drivers were shown.
    Offered,
    /// Offers that were accepted.
    Accepted,
    /// Offers that were denied.
    Denied,
    /// Offers that were not answered.
    Ignored,
    /// Answers that came too late.
    TooLate,
    /// Rides that a driver gave back.
    GivenBack,
    /// Offers of riders of another run, which are left to its drivers.
    Strangers,
    /// Codes that were wrong at first.
    WrongCodes,
    /// Positions that were taken.
    Positions,
    /// Streams that broke and were opened anew.
    Reopened,
}

impl Count {
    /// All of them, as they are printed.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Came, "riders"),
        (Self::Requested, "requests"),
        (Self::Matched, "matched"),
        (Self::Doubled, "double taps"),
        (Self::Offered, "offers seen"),
        (Self::Accepted, "accepted"),
        (Self::Denied, "denied"),
        (Self::Ignored, "not answered"),
        (Self::TooLate, "answered too late"),
        (Self::GivenBack, "given back by drivers"),
        (Self::Strangers, "left to another run"),
        (Self::WrongCodes, "wrong codes refused"),
        (Self::Positions, "positions"),
        (Self::Reopened, "streams opened anew"),
    ];
}

/// A ride of the run and the fare that its rider was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) ride: String,
    pub(super) told: i64,
    pub(super) surge: f64,
}

/// All that is counted in a run.
pub(super) struct Tally {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    counts: [AtomicU64; Count::ALL.len()],
    /// Whether what grows with the run is kept for the books.
    keeps: bool,
    rides: Mutex<Vec<Known>>,
    asked: Mutex<Vec<Asked>>,
    /// Seconds to the pickup, as told to the driver who accepted.
    etas: Mutex<Vec<u32>>,
    refused: Mutex<BTreeMap<String, u64>>,
    broken: Mutex<(u64, Vec<String>)>,
}

impl Tally {
    pub(super) fn new(keeps: bool) -> Self {
        Self {
            outcomes: Default::default(),
            counts: Default::default(),
            keeps,
            rides: Mutex::default(),
            asked: Mutex::default(),
            etas: Mutex::default(),
            refused: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// It ended for a rider.
    pub(super) fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many ended so.
    pub(super) fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// One more.
    pub(super) fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub(super) fn of(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// A position was taken.
    pub(super) fn position(&self) {
        self.count(Count::Positions);
    }

    /// A position changed nothing.
    pub(super) fn refused(&self, why: String) {
        *locked(&self.refused).entry(why).or_default() += 1;
    }

    /// Positions that changed nothing, by reason.
    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        locked(&self.refused).clone()
    }

    /// A rider was told a fare.
    pub(super) fn told(&self, known: Known) {
        if self.keeps {
            locked(&self.rides).push(known);
        }
    }

    /// The rides of the run.
    pub(super) fn rides(&self) -> Vec<Known> {
        locked(&self.rides).clone()
    }

    /// A driver was asked.
    pub(super) fn asked(&self, asked: Asked) {
        self.count(Count::Offered);
        if self.keeps {
            locked(&self.asked).push(asked);
        }
    }

    /// Who was asked.
    pub(super) fn all_asked(&self) -> Vec<Asked> {
        locked(&self.asked).clone()
    }

    /// How far a driver who accepted is, seconds.
    pub(super) fn eta(&self, seconds: u32) {
        if self.keeps {
            locked(&self.etas).push(seconds);
        }
    }

    /// All of these.
    pub(super) fn etas(&self) -> Vec<u32> {
        locked(&self.etas).clone()
    }

    /// Something that must not happen did.
    pub(super) fn broke(&self, error: &Error) {
        self.found(error.to_string());
    }

    /// The same, in words.
    pub(super) fn found(&self, what: String) {
        tracing::debug!(what, "the city met an error");
        let mut broken = locked(&self.broken);
        broken.0 += 1;
        if broken.1.len() < MAX_REASONS {
            broken.1.push(what);
        }
    }

    /// What must not happen and did: how often, and the first reasons.
    pub(super) fn broken(&self) -> (u64, Vec<String>) {
        locked(&self.broken).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
