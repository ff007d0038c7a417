//! Keeps the search index up with the database: reads the outbox in its order, loads what changed, commits it together
//! with how far it has read.
//!
//! It wakes when it is told that there is more and looks by itself a few times a second; while there always is more, it goes
//! at its own pace. While the database is away the index answers from what it has.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tessera_service::component::{Ready, ReadyFlag};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::domain::ids::EventId;
use crate::search::{Position, Search};
use crate::store::{Changed, Changes, Source};

/// How often it looks by itself.
const POLL: Duration = Duration::from_millis(250);
/// How long it rests after a commit, whoever wakes it: each writes and flushes files, which costs as much as hundreds of
/// purchases, and an event that is on sale changes all the time. What changes meanwhile is still found within a second.
const REST: Duration = Duration::from_millis(500);
/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Rows of the outbox in one commit.
const ROWS_AT_ONCE: i64 = 1_000;
/// Events read at once in a rebuild.
const EVENTS_AT_ONCE: i64 = 2_000;

/// When the index was last level with the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Level(Arc<Mutex<Instant>>);

impl Level {
    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was: fractions of a second while all is well.
    pub fn lag(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Keeps one index up to date.
pub struct Indexer {
    level: Level,
    source: Source,
    search: Arc<dyn Search>,
    wake: Arc<Notify>,
    ready: ReadyFlag,
    gap: Option<Gap>,
}

/// Numbers of the outbox that are missing below one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    /// Up to this number.
    until: i64,
    /// Once every transaction before this one has ended, what is missing will never come.
    begun_until: i64,
}

impl Indexer {
    /// An indexer, and whether there is an index to answer from.
    pub fn new(source: Source, search: Arc<dyn Search>) -> (Self, Ready) {
        let (ready, check) = Ready::flag("the search index is being built");
        if search.position().is_some() {
            ready.set();
        }
        let level = Level(Arc::new(Mutex::new(Instant::now())));
        (Self { level, source, search, wake: Arc::default(), ready, gap: None }, check)
    }

    /// How far the index is.
    pub fn level(&self) -> Level {
        self.level.clone()
    }

    /// What to notify when the outbox has more, so that it is read at once.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Goes on until it is stopped.
    ///
    /// # Errors
    /// None: what fails is logged and tried again.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let (source, wake) = (self.source.clone(), self.wake());
        let work = async {
            let mut failing = false;
            loop {
                let before = self.search.position();
                let pause = match self.catch_up().await {
                    Ok(()) => {
                        self.level.set();
                        failing = false;
                        if self.search.position() != before {
                            tokio::time::sleep(REST).await;
                            continue;
                        }
                        POLL
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(%error, "the search index falls behind; it is tried again");
                        }
                        failing = true;
                        PAUSE
                    }
                };
                tokio::select! {
                    () = wake.notified(), if !failing => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = source.listen(&wake) => {}
            () = work => {}
        }
        Ok(())
    }

    /// Brings the index to where the database stands now, by a rebuild where it must.
    ///
    /// # Errors
    /// Those of the database and the index; what was committed before stays.
    pub async fn catch_up(&mut self) -> Result<(), Error> {
        let ordered = self.source.rebuilds_ordered().await?;
        let mut position = match self.search.position() {
            Some(position) if position.rebuild >= ordered => position,
            _ => rebuild(&self.source, &*self.search, ordered).await?,
        };
        self.ready.set();
        loop {
            let changes = self.source.changes(position.seq, ROWS_AT_ONCE).await?;
            let full = i64::try_from(changes.rows.len()).is_ok_and(|rows| rows == ROWS_AT_ONCE);
            let first = changes.rows.first().map(|row| row.seq);
            if first.is_some_and(|first| first > position.seq + 1) && self.source.head().await?.first > position.seq + 1
            {
                // Rows that it had not read were cleaned away.
                position = rebuild(&self.source, &*self.search, ordered).await?;
                continue;
            }
            let rows = self.in_order(position.seq, changes);
            let Some(last) = rows.last() else { return Ok(()) };
            position.seq = last.seq;
            let events: Vec<EventId> = self.source.events_of(&rows).await?.into_iter().collect();
            let changes = self.source.load(&events).await?;
            self.search.write(changes).await?;
            self.search.commit(position).await?;
            if !full {
                return Ok(());
            }
        }
    }

    /// The rows up to which nothing can come any more that is not among them.
    fn in_order(&mut self, after: i64, changes: Changes) -> Vec<Changed> {
        let Changes { rows, running_from, begun_until } = changes;
        let last_seen = rows.last().map_or(after, |row| row.seq);
        let is_whole =
            |rows: &[Changed], after: i64| i64::try_from(rows.len()).is_ok_and(|rows| after + rows == last_seen);
        if is_whole(&rows, after) {
            self.gap = None;
            return rows;
        }
        let settled = match self.gap {
            // Those that could have filled it have ended.
            Some(gap) if running_from >= gap.begun_until => gap.until,
            Some(_) => after,
            None if running_from >= begun_until => last_seen,
            None => after,
        };
        if settled > after || self.gap.is_none() {
            self.gap = (settled < last_seen).then_some(Gap { until: last_seen, begun_until });
        }
        let mut expected = after + 1;
        rows.into_iter()
            .take_while(|row| {
                let follows = row.seq <= settled || row.seq == expected;
                expected = row.seq + 1;
                follows
            })
            .collect()
    }
}

/// Builds the index anew from the database; it is seen when it is whole. Gives its position.
///
/// # Errors
/// Those of the database and the index; the index answers as before then.
pub async fn rebuild(source: &Source, search: &dyn Search, order: i64) -> Result<Position, Error> {
    // All that is in the outbox so far, or may yet appear below its end, is in the tables before they are read.
    let head = source.head().await?;
    while source.head().await?.running_from < head.begun_until {
        tokio::time::sleep(POLL).await;
    }
    search.clear().await?;
    let (mut after, mut events) = (None, 0_usize);
    loop {
        let ids = source.scan(after, EVENTS_AT_ONCE).await?;
        let Some(last) = ids.last() else { break };
        after = Some(*last);
        events += ids.len();
        search.write(source.load(&ids).await?).await?;
    }
    let position = Position { seq: head.seq, rebuild: order };
    search.commit(position).await?;
    search.compact().await?;
    tracing::info!(search.events = events, search.seq = position.seq, "search index built");
    Ok(position)
}

impl std::fmt::Debug for Indexer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexer").field("gap", &self.gap).finish_non_exhaustive()
    }
}
