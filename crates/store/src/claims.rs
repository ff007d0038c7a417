//! Claims: exclusive holds on one or more resources, all or none, with a holder, a time to live and a fencing token.
//!
//! A claim is fast and may be lost, with the store that kept it. Correctness never rests on it: the commit that follows
//! is a conditional write in the product's database that names the claim's token.
//!
//! **Time** is the store's: the server's on PostgreSQL and Redis, the writer's on SQLite. A claim that has lapsed is free
//! at once, as every question about it compares with that clock; nothing has to be swept.
//!
//! **Tokens** grow strictly for each resource, across release and expiry. They are microseconds of the store's clock,
//! moved on to one more than the last where that is later. So they grow even where the store lost all it knew, unless
//! its clock was set back by more than the time since. A token alone does not name a claim; with a resource it does.
//!
//! **Holders** are one id for each attempt to hold, such as a hold's or an offer's. Asking again with the same holder for
//! the same resources gives the same claim, so that a caller who heard nothing may just ask again.

use std::time::Duration;

use futures::future::BoxFuture;
use tessera_kernel::Timestamp;
use uuid::Uuid;

use crate::error::Error;

mod decide;
mod redis;
mod sql;

pub use redis::RedisClaims;
pub use sql::{Answer, ApplyClaims, Command, Dead, SqlClaims, apply, apply_and_keep, find_dead, migration, remove};

/// Resources in one claim. A row of seats, a bus; what is larger is no hold but a transfer.
pub const MAX_RESOURCES: usize = 256;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// What the resources have in common, such as their event. On Redis Cluster it decides where they live; it is
    /// always the same for a resource.
    pub partition: Uuid,
    /// 1 to [`MAX_RESOURCES`]; one named twice counts once.
    pub resources: Vec<Uuid>,
    /// For whom: one id for each attempt.
    pub holder: Uuid,
    /// How long.
    pub ttl: Duration,
    /// How long at the most, with all extensions, from now on.
    pub longest: Duration,
}

/// A claim that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The partition of its resources.
    pub partition: Uuid,
    /// Its resources, in order.
    pub resources: Vec<Uuid>,
    /// For whom it is.
    pub holder: Uuid,
    /// The fencing token: larger than that of every earlier claim on any of the resources.
    pub token: i64,
    /// When it lapses, by the store's clock.
    pub expires_at: Timestamp,
}

/// What became of a wish for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// All of it.
    Claim(Claim),
    /// None of it.
    Taken {
        /// Those of the resources that others hold, in order.
        resources: Vec<Uuid>,
        /// When all of them will be free, if nothing extends or frees them before.
        until: Timestamp,
    },
}

/// How a resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// Somebody does.
    Held {
        /// For whom.
        holder: Uuid,
        /// The claim's token.
        token: i64,
        /// When it lapses.
        expires_at: Timestamp,
    },
}

/// A store of claims. Each method is one atomic step.
pub trait Claims: Send + Sync {
    /// Claims all of the resources or none.
    ///
    /// # Errors
    /// Those of the store; [`Error::Oversized`].
    fn acquire(&self, wish: Acquire) -> BoxFuture<'_, Result<Acquired, Error>>;

    /// Lets a living claim last for `ttl` from now on, but not longer than [`Acquire::longest`] and never shorter than it
    /// does already. Gives the new end, or nothing where the claim has lapsed or was released.
    ///
    /// # Errors
    /// Those of the store.
    fn extend(&self, claim: Claim, ttl: Duration) -> BoxFuture<'_, Result<Option<Timestamp>, Error>>;

    /// Frees what is still held under this claim; false where nothing was.
    ///
    /// # Errors
    /// Those of the store.
    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<bool, Error>>;

    /// How resources of one partition stand, in the order of asking. For show: it may change at any moment.
    ///
    /// # Errors
    /// Those of the store.
    fn get(&self, partition: Uuid, resources: Vec<Uuid>) -> BoxFuture<'_, Result<Vec<State>, Error>>;
}

/// The wish with its resources in order and named once.
fn in_order(mut wish: Acquire) -> Result<Acquire, Error> {
    wish.resources.sort_unstable();
    wish.resources.dedup();
    let count = wish.resources.len();
    if count == 0 || count > MAX_RESOURCES {
        return Err(Error::Oversized { what: "resources", count, limit: MAX_RESOURCES });
    }
    Ok(wish)
}
