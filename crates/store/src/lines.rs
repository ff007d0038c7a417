//! Lines: fair queues. Fans before an on-sale, ride requests of an area.
//!
//! Everyone who joins gets the next *entry*: 1, 2, 3 … in the order of arrival. Everyone has a *number*, and numbers are
//! served in order: who has a number up to the *serving number* has had a turn. So the many who wait compare their
//! number with one that any cache may hold, and ask the store nothing.
//!
//! Without a lottery the number is the entry. With one, those who came before the doors opened are drawn: their numbers
//! are their entries shuffled by a seed ([`draw`]), whose commitment is public from the beginning and which is published
//! itself with the doors. Who comes later follows them in the order of arrival. The shuffle is a function, so opening the
//! doors to a million writes one row.
//!
//! Admission ([`Lines::admit`]) moves the serving number on, over those who left meanwhile. An admitted member is inside
//! until it leaves or its stay is over, by the store's clock: the place is then free at once, without a sweep.
//!
//! How many to admit and when, pauses and limits are a product's policy. [`wait`] estimates.

use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tessera_kernel::Timestamp;
use uuid::Uuid;

use crate::error::Error;

pub mod draw;
mod estimate;
mod redis;
mod sql;

pub use draw::Seed;
pub use estimate::wait;
pub use redis::RedisLines;
pub use sql::{Answer, ApplyLines, Command, SqlLines, apply, migration};

/// Keys by which one person is known: account, device, address; and the member itself.
pub const MAX_KEYS: usize = 7;
/// Members admitted in one step, and members that [`Lines::front`] shows.
pub const MAX_STEP: usize = 1_000;
/// Numbers that one admission looks at, so that a long row of those who left does not hold up all others; the next goes
/// on from there.
const MAX_LOOK: usize = 20 * MAX_STEP;

/// How a line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// First in, first out from the beginning.
    Now,
    /// Those who join before this moment, by the store's clock, are drawn.
    Lottery {
        /// When the doors open.
        opens_at: Timestamp,
        /// What they are drawn by; it does not leave the store before.
        seed: Seed,
    },
}

/// How a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When the doors open or opened; when it was made where there is no lottery.
    pub opens_at: Timestamp,
    /// Whether the doors are open.
    pub phase: Phase,
    /// The commitment to the seed, where there is a lottery.
    pub commitment: Option<[u8; 32]>,
    /// How many ever joined: the last entry.
    pub joined: i64,
    /// Who has a number up to this has had a turn.
    pub serving: i64,
    /// How many wait.
    pub waiting: i64,
    /// How many are inside.
    pub inside: i64,
}

/// Before or after the doors opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They gather for the lottery.
    Gathering,
    /// Numbers are served.
    Open {
        /// How many were drawn: numbers 1 to this are theirs.
        drawn: i64,
        /// What they were drawn by, for everyone to check.
        seed: Option<Seed>,
    },
}

/// A member's place in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose it is.
    pub member: Uuid,
    /// The arrival, counted from 1.
    pub entry: i64,
    /// How it stands.
    pub stand: Stand,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It will be drawn when the doors open.
    Gathering,
    /// It waits for its turn.
    Waiting {
        /// Its turn comes when the serving number reaches this.
        number: i64,
    },
    /// It is inside.
    Inside {
        /// Its number, which has been served.
        number: i64,
        /// When its stay ends.
        until: Timestamp,
    },
}

impl Stand {
    /// The number, once there is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Gathering => None,
            Self::Waiting { number } | Self::Inside { number, .. } => Some(*number),
        }
    }
}

/// What became of joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// A new place at the end.
    New(Place),
    /// It, or somebody known by one of the keys, has this place already.
    Already(Place),
    /// There is no such line; create it.
    NoLine,
}

/// How many may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// This many at the most, and not more than [`MAX_STEP`].
    pub most: usize,
    /// Not more than this many inside, those who come in included.
    pub inside: Option<usize>,
    /// How long each may stay.
    pub stay: Duration,
}

/// Who came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// In the order of their numbers.
    pub members: Vec<Place>,
    /// The serving number now.
    pub serving: i64,
}

/// A store of lines. Each method is one atomic step, but for [`Lines::front`] and [`Lines::line`], which show.
pub trait Lines: Send + Sync {
    /// Makes a line, or gives the one that is there. Of that, `opens_at` follows until the doors have opened; the seed,
    /// to which the store is committed, stays.
    ///
    /// # Errors
    /// Those of the store, as for all methods.
    fn create(&self, line: Uuid, opening: Opening) -> BoxFuture<'_, Result<Line, Error>>;

    /// Gives a member a place, or the one that it has, or that somebody has who shares a key with it ([`key`]).
    fn join(&self, line: Uuid, member: Uuid, keys: Vec<Uuid>) -> BoxFuture<'_, Result<Joined, Error>>;

    /// Takes a member out, whether it waits, gives up or is done inside. False where it has no place.
    fn leave(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<bool, Error>>;

    /// Lets the next ones in.
    fn admit(&self, line: Uuid, admission: Admission) -> BoxFuture<'_, Result<Admitted, Error>>;

    /// The next ones to be served, up to [`MAX_STEP`], without serving them.
    fn front(&self, line: Uuid, most: usize) -> BoxFuture<'_, Result<Vec<Place>, Error>>;

    /// A member's place, if it has one.
    fn place(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<Option<Place>, Error>>;

    /// Takes a line away with all who are in it, a part at a time; nobody joins from the first part on. Called again
    /// after an error, it goes on.
    fn remove(&self, line: Uuid) -> BoxFuture<'_, Result<(), Error>>;

    /// How a line stands, if there is one.
    fn line(&self, line: Uuid) -> BoxFuture<'_, Result<Option<Line>, Error>>;
}

/// The key by which a person is known in one way, such as `("device", …)`. It does not tell what it was made of, but
/// can be compared with a guess.
pub fn key(kind: &str, value: &[u8]) -> Uuid {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(value).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

/// The member and its other keys, each once, the member first.
fn all_keys(member: Uuid, keys: Vec<Uuid>) -> Result<Vec<Uuid>, Error> {
    let mut all = vec![member];
    for key in keys {
        if !all.contains(&key) {
            all.push(key);
        }
    }
    let count = all.len();
    if count > MAX_KEYS + 1 {
        return Err(Error::Oversized { what: "keys", count: count - 1, limit: MAX_KEYS });
    }
    Ok(all)
}

/// What a line goes by, in the form that stores keep it in.
#[derive(Clone, Debug, Default)]
struct Rules {
    opens_at: i64,
    seed: Option<Seed>,
    /// How many are drawn, once the doors are open.
    drawn: Option<i64>,
    joined: i64,
    serving: i64,
    waiting: i64,
}

impl Rules {
    /// Notes that the doors are open, if it is time. True where that is news.
    fn open_by(&mut self, now: i64) -> bool {
        let opens = self.drawn.is_none() && now >= self.opens_at;
        if opens {
            self.drawn = Some(self.joined);
        }
        opens
    }

    fn number(&self, entry: i64) -> Option<i64> {
        let drawn = self.drawn?;
        match &self.seed {
            Some(seed) if entry <= drawn => Some(seed.number(drawn, entry)),
            _ => Some(entry),
        }
    }

    /// The entry that has a number. Only after the doors have opened.
    fn entry(&self, number: i64) -> i64 {
        match (&self.seed, self.drawn) {
            (Some(seed), Some(drawn)) if number <= drawn => seed.entry(drawn, number),
            _ => number,
        }
    }

    /// The last number that is drawn and not the entry itself.
    fn last_shuffled(&self) -> i64 {
        if self.seed.is_some() { self.drawn.unwrap_or(0) } else { 0 }
    }

    fn place(&self, member: Uuid, entry: i64, until: i64) -> Place {
        let stand = match self.number(entry) {
            None => Stand::Gathering,
            Some(number) if until == 0 => Stand::Waiting { number },
            Some(number) => Stand::Inside { number, until: Timestamp::from_micros(until) },
        };
        Place { member, entry, stand }
    }

    fn line(self, inside: i64) -> Line {
        let Self { opens_at, seed, drawn, joined, serving, waiting } = self;
        let commitment = seed.as_ref().map(Seed::commitment);
        let phase = drawn.map_or(Phase::Gathering, |drawn| Phase::Open { drawn, seed });
        Line { opens_at: Timestamp::from_micros(opens_at), phase, commitment, joined, serving, waiting, inside }
    }
}
