//! Attempts, counted in the database: a restart forgets none, and processes share them.

use std::time::Duration;

use tessera_kernel::Timestamp;
use tessera_store::each_tx;
use tessera_store::sql::{self, Tx};

use crate::domain::throttle::Rate;

/// A throttle that lets everything through for so long is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// Something that is tried, under one or more keys.
#[derive(Clone, Debug)]
pub struct Attempt {
    keys: Vec<([u8; 32], Rate)>,
}

impl Attempt {
    /// Under these keys.
    pub fn new(mut keys: Vec<([u8; 32], Rate)>) -> Self {
        keys.sort_by_key(|(key, _)| *key);
        Self { keys }
    }

    pub(super) fn lowest(&self) -> [u8; 32] {
        self.keys.first().map(|(key, _)| *key).unwrap_or_default()
    }
}

pub(super) async fn attempt(tx: &mut Tx<'_>, attempt: &Attempt) -> Result<Result<(), Timestamp>, sql::Error> {
    const LOCK: &str = "INSERT INTO throttles (key, arrival) VALUES ($1, 0)
         ON CONFLICT (key) DO UPDATE SET arrival = throttles.arrival RETURNING arrival";
    const SET: &str = "UPDATE throttles SET arrival = $2 WHERE key = $1";
    let mut arrivals = Vec::with_capacity(attempt.keys.len());
    for (key, _) in &attempt.keys {
        let arrival: i64 =
            each_tx!(tx, |connection| sqlx::query_scalar(LOCK).bind(key.as_slice()).fetch_one(connection).await)?;
        arrivals.push(Timestamp::from_micros(arrival));
    }
    let now = tx.now().await?;
    let tried = attempt.keys.iter().zip(arrivals).map(|((_, rate), arrival)| rate.attempt(arrival, now));
    let tried: Vec<_> = tried.collect();
    if let Some(again_at) = tried.iter().filter_map(|tried| tried.err()).max() {
        return Ok(Err(again_at));
    }
    for ((key, _), next) in attempt.keys.iter().zip(tried.into_iter().flatten()) {
        each_tx!(tx, |connection| {
            sqlx::query(SET).bind(key.as_slice()).bind(next.micros()).execute(connection).await.map(drop)
        })?;
    }
    Ok(Ok(()))
}

/// The attempts under a key were no wrong ones.
pub(super) async fn clear(tx: &mut Tx<'_>, key: &[u8; 32]) -> Result<(), sql::Error> {
    const CLEAR: &str = "UPDATE throttles SET arrival = 0 WHERE key = $1";
    each_tx!(tx, |connection| sqlx::query(CLEAR).bind(key.as_slice()).execute(connection).await.map(drop))?;
    Ok(())
}

pub(super) async fn sweep(tx: &mut Tx<'_>) -> Result<(), sql::Error> {
    const SWEEP: &str = "DELETE FROM throttles WHERE arrival < $1";
    let until = tx.now().await?.minus(KEPT_FOR).micros();
    each_tx!(tx, |connection| sqlx::query(SWEEP).bind(until).execute(connection).await.map(drop))?;
    Ok(())
}
