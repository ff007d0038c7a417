//! Removing what is over: old answers, feeds, outbox rows and claims, a bounded number at a time through the writer.

use std::time::Duration;

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::claims::{self, Dead};
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, each_tx};

use super::batch::{What, Write};
use super::{Store, unexpected};
use crate::Error;

/// Rows that one write removes of each kind: some milliseconds of work, for others wait behind it.
const ROWS: i64 = 2_000;
/// Events whose feeds are shortened in one write.
const FEEDS: usize = 4;
/// For how long a claim that is over is remembered: longer than a database's clock may be set back, as tokens are its time.
const CLAIMS_KEPT: Duration = Duration::from_secs(3_600);

/// Until when things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Answers given after this.
    pub answers: Timestamp,
    /// Changes of seats after this.
    pub feeds: Timestamp,
    /// Outbox rows after this; an index that was away for longer is rebuilt.
    pub outbox: Timestamp,
}

/// What to remove.
#[derive(Clone, Debug)]
pub struct Sweep {
    answers: Timestamp,
    /// Outbox rows up to this number.
    outbox: i64,
    /// Feeds up to these numbers.
    feeds: Vec<(Uuid, i64)>,
    /// Claims that are over.
    claims: Vec<Uuid>,
}

/// Removes, and counts the rows.
pub(super) async fn apply(tx: &mut Tx<'_>, sweeps: &[&Sweep]) -> Result<Vec<u64>, sql::Error> {
    const ANSWERS: &str = "DELETE FROM answers WHERE (subject, idempotency_key) IN
         (SELECT subject, idempotency_key FROM answers WHERE at < $1 LIMIT $2)";
    const OUTBOX: &str =
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE seq <= $1 ORDER BY seq LIMIT $2)";
    const FEED: &str = "DELETE FROM seat_feed WHERE event_id = $1 AND seq <= $2";
    let mut swept = Vec::with_capacity(sweeps.len());
    for sweep in sweeps {
        let before = sweep.answers.micros();
        let answers = each_tx!(tx, |connection| {
            let delete = sqlx::query(ANSWERS).bind(before).bind(ROWS);
            delete.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let outbox = each_tx!(tx, |connection| {
            let delete = sqlx::query(OUTBOX).bind(sweep.outbox).bind(ROWS);
            delete.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let mut count = answers + outbox + claims::remove(tx, &sweep.claims, CLAIMS_KEPT).await?;
        for (event, seq) in &sweep.feeds {
            count += each_tx!(tx, |connection| {
                let delete = sqlx::query(FEED).bind(event).bind(seq);
                delete.execute(connection).await.map(|done| done.rows_affected())
            })?;
        }
        swept.push(count);
    }
    Ok(swept)
}

impl Store {
    /// Removes some of what is not kept any more, and says how many rows: none when there is nothing left.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self, kept: Kept) -> Result<u64, Error> {
        const OLD: &str = "SELECT COALESCE(MAX(seq), 0) FROM outbox WHERE at < $1";
        let outbox: i64 =
            each_engine!(&self.db, |pool| { sqlx::query_scalar(OLD).bind(kept.outbox.micros()).fetch_one(pool).await })
                .map_err(sql::Error::from)?;
        let feeds = self.old_feeds(kept.feeds).await?;
        self.remove(Sweep { answers: kept.answers, outbox, feeds, claims: Vec::new() }).await
    }

    /// Looks at some claims behind one and removes those that are over: how many, and where to go on, if there are more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep_claims(&self, after: Uuid) -> Result<(u64, Option<Uuid>), Error> {
        let Dead { ids, next } =
            claims::find_dead(&self.db, &*self.clock, after, CLAIMS_KEPT, ROWS as usize).await.map_err(Error::from)?;
        if ids.is_empty() {
            return Ok((0, next));
        }
        let none = Timestamp::from_micros(i64::MIN);
        Ok((self.remove(Sweep { answers: none, outbox: 0, feeds: Vec::new(), claims: ids }).await?, next))
    }

    async fn remove(&self, sweep: Sweep) -> Result<u64, Error> {
        match self.submit(Write::Sweep(sweep)).await? {
            What::Swept(count) => Ok(count),
            _ => Err(unexpected()),
        }
    }

    /// Up to which number feeds may be shortened. Found outside of the writer: a feed is ordered by number, so its old
    /// rows are its first ones.
    async fn old_feeds(&self, before: Timestamp) -> Result<Vec<(Uuid, i64)>, Error> {
        const OLDEST: &str = "SELECT event_id FROM seat_feeds f WHERE
             (SELECT at FROM seat_feed s WHERE s.event_id = f.event_id ORDER BY s.seq LIMIT 1) < $1 LIMIT $2";
        const UNTIL: &str = "SELECT COALESCE(MAX(seq), 0) FROM
             (SELECT seq, at FROM seat_feed WHERE event_id = $1 ORDER BY seq LIMIT $2) AS oldest WHERE at < $3";
        let events: Vec<Uuid> = each_engine!(&self.db, |pool| {
            sqlx::query_scalar(OLDEST).bind(before.micros()).bind(FEEDS as i64).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        let mut feeds = Vec::with_capacity(events.len());
        for event in events {
            let until: i64 = each_engine!(&self.db, |pool| {
                sqlx::query_scalar(UNTIL).bind(event).bind(ROWS).bind(before.micros()).fetch_one(pool).await
            })
            .map_err(sql::Error::from)?;
            feeds.push((event, until));
        }
        Ok(feeds)
    }
}
