//! What happened to whom, counted while it happens, and what must not have happened, kept with its reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::Error;

/// Things that must not happen of which the reason is kept; all are counted.
const MAX_REASONS: usize = 20;

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// Has tickets.
    Bought,
    /// Nothing was left.
    SoldOut,
    /// Others were faster each time.
    GaveUp,
    /// Gave the seats back.
    Released,
    /// Left the hold to lapse.
    WalkedAway,
    /// No card was accepted.
    NoCard,
    /// The hold was over, or the seats had gone, before it was paid.
    TooLate,
    /// The payment was left to be settled by the server.
    Unclear,
    /// Not let in.
    NotAdmitted,
    /// Something went wrong that must not.
    Broken,
}

impl Outcome {
    /// All of them, as they are printed.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Bought, "bought"),
        (Self::SoldOut, "found it sold out"),
        (Self::GaveUp, "gave up, others were faster"),
        (Self::Released, "gave seats back"),
        (Self::WalkedAway, "walked away from a hold"),
        (Self::NoCard, "had no card that was taken"),
        (Self::TooLate, "came too late with the money"),
        (Self::Unclear, "left a payment unclear"),
        (Self::NotAdmitted, "were not let in"),
        (Self::Broken, "met an error"),
    ];
}

/// A purchase as its buyer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bought {
    /// Who.
    pub subject: String,
    /// The order.
    pub order: String,
    /// What it cost, minor units.
    pub total: i64,
    /// Which seats and places.
    pub seats: Vec<u32>,
}

/// All that is counted in a run.
pub struct Tally {
    began: Instant,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Reservations that were held.
    pub holds: AtomicU64,
    /// Seats and places in them.
    pub held: AtomicU64,
    /// Reservations that were refused since others had the seats.
    pub conflicts: AtomicU64,
    /// Payments that were declined.
    pub declined: AtomicU64,
    /// Pairs of the same request that were sent at the same time.
    pub doubled: AtomicU64,
    /// Requests of bots.
    pub bot_attempts: AtomicU64,
    /// Holds of bots.
    pub bot_holds: AtomicU64,
    /// Who had a first hold, in the order in which they had it.
    holders: Mutex<Vec<u64>>,
    bought: Mutex<Vec<Bought>>,
    broken: Mutex<(u64, Vec<String>)>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            outcomes: Default::default(),
            holds: AtomicU64::default(),
            held: AtomicU64::default(),
            conflicts: AtomicU64::default(),
            declined: AtomicU64::default(),
            doubled: AtomicU64::default(),
            bot_attempts: AtomicU64::default(),
            bot_holds: AtomicU64::default(),
            holders: Mutex::default(),
            bought: Mutex::default(),
            broken: Mutex::default(),
        }
    }
}

impl Tally {
    /// Since when it counts.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// A visit ended.
    pub fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A visit ended with what must not happen.
    pub fn failed(&self, error: &Error) {
        self.ended(Outcome::Broken);
        self.broke(error.to_string());
    }

    /// Something that must not happen did.
    pub fn broke(&self, what: String) {
        let mut broken = locked(&self.broken);
        broken.0 += 1;
        if broken.1.len() < MAX_REASONS {
            broken.1.push(what);
        }
    }

    /// Somebody holds seats for the first time.
    pub fn first_hold(&self, index: u64) {
        locked(&self.holders).push(index);
    }

    /// Somebody has tickets.
    pub fn bought(&self, bought: Bought) {
        locked(&self.bought).push(bought);
    }

    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// How many ended at all.
    pub fn visits(&self) -> u64 {
        Outcome::ALL.iter().map(|(outcome, _)| self.count(*outcome)).sum()
    }

    /// How many tickets their buyers know of.
    pub fn tickets(&self) -> u64 {
        locked(&self.bought).iter().map(|bought| bought.seats.len() as u64).sum()
    }

    /// The purchases.
    pub fn purchases(&self) -> Vec<Bought> {
        locked(&self.bought).clone()
    }

    /// Who had a first hold, in that order.
    pub fn holders(&self) -> Vec<u64> {
        locked(&self.holders).clone()
    }

    /// What must not happen and did: how often, and the first reasons.
    pub fn broken(&self) -> (u64, Vec<String>) {
        locked(&self.broken).clone()
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
