//! Attempts, counted in the database: a restart forgets none, and processes share them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tessera_kernel::Timestamp;
use tessera_store::each_tx;
use tessera_store::sql::{self, Tx};

use crate::domain::throttle::Rate;

/// A digest of what is throttled: an account's name, an address.
pub(super) type Key = [u8; 32];

/// Something that is tried, under one or more keys.
#[derive(Clone, Debug)]
pub struct Attempt {
    keys: Vec<(Key, Rate)>,
}

impl Attempt {
    /// Under these keys.
    pub fn new(keys: Vec<(Key, Rate)>) -> Self {
        Self { keys }
    }

    /// What the arrivals are after it.
    ///
    /// # Errors
    /// When all of them let it through again.
    fn on(&self, arrivals: &BTreeMap<Key, Timestamp>, now: Timestamp) -> Result<Vec<(Key, Timestamp)>, Timestamp> {
        let never = Timestamp::from_micros(0);
        let (mut next, mut again_at) = (Vec::with_capacity(self.keys.len()), None);
        for (key, rate) in &self.keys {
            match rate.attempt(arrivals.get(key).copied().unwrap_or(never), now) {
                Ok(arrival) => next.push((*key, arrival)),
                Err(at) => again_at = again_at.max(Some(at)),
            }
        }
        again_at.map_or(Ok(next), Err)
    }
}

/// What is done with throttles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// Something is tried.
    Try(&'a Attempt),
    /// The attempts under a key were no wrong ones.
    Clear(&'a Key),
}

/// Does one after the other. All rows are locked before, in the order of their keys: two processes never wait for each other. Who is refused
/// for what is there already leaves no row behind.
pub(super) async fn run(tx: &mut Tx<'_>, steps: &[Step<'_>]) -> Result<Vec<Result<(), Timestamp>>, sql::Error> {
    let cleared: HashSet<&Key> = steps.iter().filter_map(Step::cleared).collect();
    let mut answers = vec![None; steps.len()];
    let (mut seen, now) = (BTreeMap::new(), tx.now().await?);
    for (step, answer) in steps.iter().zip(&mut answers) {
        let Step::Try(attempt) = step else { continue };
        for (key, _) in &attempt.keys {
            if !seen.contains_key(key) {
                seen.insert(*key, read(tx, key).await?);
            }
        }
        let is_open = attempt.keys.iter().any(|(key, _)| cleared.contains(key));
        *answer = attempt.on(&seen, now).err().filter(|_| !is_open).map(Err);
    }
    let left = || steps.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(step, _)| *step);
    let keys: BTreeSet<Key> = left().flat_map(Step::keys).collect();
    let mut arrivals = BTreeMap::new();
    for key in keys {
        arrivals.insert(key, lock(tx, &key).await?);
    }
    // After the locks: what was waited for lies before it.
    let (now, mut changed) = (tx.now().await?, BTreeSet::new());
    for (step, answer) in steps.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
        let next = match step {
            Step::Clear(key) => Ok(vec![(**key, Timestamp::from_micros(0))]),
            Step::Try(attempt) => attempt.on(&arrivals, now),
        };
        changed.extend(next.iter().flatten().map(|(key, _)| *key));
        arrivals.extend(next.iter().flatten().copied());
        *answer = Some(next.map(drop));
    }
    for key in &changed {
        set(tx, key, arrivals[key]).await?;
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(()))).collect())
}

impl<'a> Step<'a> {
    fn cleared(&self) -> Option<&'a Key> {
        match self {
            Self::Clear(key) => Some(key),
            Self::Try(_) => None,
        }
    }

    fn keys(self) -> Vec<Key> {
        match self {
            Self::Clear(key) => vec![*key],
            Self::Try(attempt) => attempt.keys.iter().map(|(key, _)| *key).collect(),
        }
    }
}

async fn read(tx: &mut Tx<'_>, key: &Key) -> Result<Timestamp, sql::Error> {
    const READ: &str = "SELECT arrival FROM throttles WHERE key = $1";
    let arrival: Option<i64> =
        each_tx!(tx, |connection| sqlx::query_scalar(READ).bind(key.as_slice()).fetch_optional(connection).await)?;
    Ok(Timestamp::from_micros(arrival.unwrap_or(0)))
}

/// The row is ours until the end of the transaction.
async fn lock(tx: &mut Tx<'_>, key: &Key) -> Result<Timestamp, sql::Error> {
    const LOCK: &str = "INSERT INTO throttles (key, arrival) VALUES ($1, 0)
         ON CONFLICT (key) DO UPDATE SET arrival = throttles.arrival RETURNING arrival";
    let arrival: i64 =
        each_tx!(tx, |connection| sqlx::query_scalar(LOCK).bind(key.as_slice()).fetch_one(connection).await)?;
    Ok(Timestamp::from_micros(arrival))
}

async fn set(tx: &mut Tx<'_>, key: &Key, arrival: Timestamp) -> Result<(), sql::Error> {
    const SET: &str = "UPDATE throttles SET arrival = $2 WHERE key = $1";
    each_tx!(tx, |connection| {
        sqlx::query(SET).bind(key.as_slice()).bind(arrival.micros()).execute(connection).await.map(drop)
    })?;
    Ok(())
}

/// Forgets up to so many that let everything through, as one that is not there does. Tells how many.
pub(super) async fn sweep(tx: &mut Tx<'_>, most: i64) -> Result<u64, sql::Error> {
    // Asked twice: a row may have changed since it was chosen.
    const SWEEP: &str = "DELETE FROM throttles WHERE arrival < $1
         AND key IN (SELECT key FROM throttles WHERE arrival < $1 LIMIT $2)";
    let now = tx.now().await?.micros();
    let swept = each_tx!(tx, |connection| {
        sqlx::query(SWEEP).bind(now).bind(most).execute(connection).await.map(|done| done.rows_affected())
    })?;
    Ok(swept)
}
