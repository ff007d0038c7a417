//! One connection that applies batches, each in a transaction: done again where the engine asks for it, in halves where
//! a command breaks it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Postgres, Sqlite};
use tessera_kernel::{Clock, ErrorKind};
use tokio::time::{Instant, sleep, timeout};

use super::{Apply, Metrics, Waiting};
use crate::error::Error;
use crate::sql::{self, Db, Engine, Tx};

/// How often a transaction is tried that the engine broke off for the sake of another (deadlock, busy).
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// How long a server may take for a transaction. One that is cut off without a word would hold its lane for hours.
const SERVER_DEADLINE: Duration = Duration::from_secs(30);

/// A lane, with its connection once it has one.
pub(super) struct Lane<A: Apply> {
    db: Db,
    apply: Arc<A>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    connection: Option<Held>,
}

/// A connection kept between batches: getting one from the pool costs a round trip.
enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// Why a transaction came to nothing, or to nobody knows what.
enum Failure {
    /// It was undone.
    Undone(sql::Error),
    /// It broke around its commit.
    Unknown(String),
}

impl<A: Apply> Lane<A> {
    pub(super) fn new(db: &Db, apply: &Arc<A>, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Self {
        Self {
            db: db.clone(),
            apply: Arc::clone(apply),
            clock: Arc::clone(clock),
            metrics: metrics.clone(),
            connection: None,
        }
    }

    /// Another lane on the same database, without a connection.
    pub(super) fn sibling(&self) -> Self {
        Self::new(&self.db, &self.apply, &self.clock, &self.metrics)
    }

    /// Gives its connection up. That of SQLite is closed here, as its thread has no runtime any more to give it back on.
    pub(super) async fn end(self) {
        if let Some(Held::Sqlite(connection)) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a writer's connection was not closed in good order");
        }
    }

    /// Applies a batch and answers each of it, but for those whose callers have left already.
    pub(super) async fn run(mut self, batch: Vec<Waiting<A>>) -> Self {
        let began = Instant::now();
        let oldest = batch.first().map_or(began, |first| first.since);
        let mut commands = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for Waiting { command, answer, .. } in batch {
            if !answer.is_closed() {
                commands.push(command);
                answers.push(answer);
            }
        }
        self.metrics.batch(commands.len(), began - oldest);
        let mut answers = answers.into_iter();
        // The parts that are still to be applied, the next one last.
        let whole = 0..commands.len();
        let mut parts: Vec<Range<usize>> = Vec::from([whole]);
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let outcome = self.apply_patiently(&commands[part.clone()]).await;
            let failed = match outcome {
                Ok(given) => {
                    self.apply.committed(&commands[part], &given);
                    // A caller that has left meanwhile does not hear of it.
                    given.into_iter().zip(answers.by_ref()).for_each(|(given, answer)| drop(answer.send(Ok(given))));
                    continue;
                }
                Err(Failure::Undone(error)) if part.len() > 1 && is_of_a_command(&error) => {
                    self.metrics.split();
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                    continue;
                }
                Err(Failure::Undone(error)) => Error::from(error),
                Err(Failure::Unknown(reason)) => Error::Unknown { reason },
            };
            answers.by_ref().take(part.len()).for_each(|answer| drop(answer.send(Err(failed.clone()))));
        }
        self.metrics.applied(began.elapsed());
        self
    }

    /// Again, when the engine broke it off for the sake of another transaction.
    async fn apply_patiently(&mut self, commands: &[A::Command]) -> Result<Vec<A::Answer>, Failure> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.apply_once(commands).await {
                Err(Failure::Undone(error)) if error.is_transient() => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a batch is tried again");
                    sleep(pause).await;
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
        self.apply_once(commands).await
    }

    async fn apply_once(&mut self, commands: &[A::Command]) -> Result<Vec<A::Answer>, Failure> {
        let undone = |error: sqlx::Error| Failure::Undone(error.into());
        let mut held = match self.connection.take() {
            Some(held) => held,
            None => Held::take(&self.db).await.map_err(undone)?,
        };
        let (outcome, sound) = if matches!(held, Held::Sqlite(_)) {
            self.transact(&mut held, commands).await
        } else {
            match timeout(SERVER_DEADLINE, self.transact(&mut held, commands)).await {
                Ok(done) => done,
                Err(_) => {
                    held.abandon();
                    let reason = format!("no answer from the database within {} s", SERVER_DEADLINE.as_secs());
                    return Err(Failure::Unknown(reason));
                }
            }
        };
        // A connection that broke is closed by the pool; a pool of one connection lends it to readers in between.
        if sound && !self.db.has_one_connection() {
            self.connection = Some(held);
        }
        outcome
    }

    /// The outcome, and whether the connection is fit for the next.
    async fn transact(&self, held: &mut Held, commands: &[A::Command]) -> (Result<Vec<A::Answer>, Failure>, bool) {
        let mut tx = match held.begin(&*self.clock).await {
            Ok(tx) => tx,
            Err(error) => return (Err(Failure::Undone(error.into())), false),
        };
        let answers = match self.apply.apply(&mut tx, commands).await {
            Ok(answers) if answers.len() == commands.len() => answers,
            wrong => {
                let sound = tx.rollback().await.is_ok();
                let error = wrong.err().unwrap_or_else(|| {
                    let counts = format!("a batch of {} commands did not get as many answers", commands.len());
                    sql::Error::Query(sqlx::Error::Protocol(counts))
                });
                return (Err(Failure::Undone(error)), sound);
            }
        };
        match tx.commit().await {
            Ok(()) => (Ok(answers), true),
            Err(error) if sql::is_refusal(&error) => (Err(Failure::Undone(error.into())), false),
            Err(error) => (Err(Failure::Unknown(error.to_string())), false),
        }
    }
}

impl Held {
    async fn take(db: &Db) -> Result<Self, sqlx::Error> {
        match db {
            Db::Sqlite(pool) => pool.acquire().await.map(Self::Sqlite),
            Db::Postgres(pool) => pool.acquire().await.map(Self::Postgres),
        }
    }

    /// Leaves it to itself: closing it in good order would wait as well.
    fn abandon(self) {
        match self {
            Self::Sqlite(connection) => drop(connection),
            Self::Postgres(connection) => drop(connection.detach()),
        }
    }

    async fn begin(&mut self, clock: &dyn Clock) -> Result<Tx<'_>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                let transaction = connection.begin_with(Sqlite::BEGIN_WRITE).await?;
                Ok(Tx::Sqlite { transaction, now: clock.now() })
            }
            Self::Postgres(connection) => {
                let transaction = connection.begin_with(Postgres::BEGIN_WRITE).await?;
                Ok(Tx::Postgres { transaction })
            }
        }
    }
}

/// Whether a command may be to blame, rather than the database as such: only then does it help to take others apart.
fn is_of_a_command(error: &sql::Error) -> bool {
    !error.is_transient() && error.kind() != ErrorKind::Unavailable
}
