//! The batching writer: one per process and database. Requests hand it commands; it applies as many as have arrived in
//! one transaction, so that they share one flush to disk, and each gets its own answer.
//!
//! ```text
//! request ─ submit ─┐                     ┌─ lane: BEGIN · apply(commands) · COMMIT ─┐
//! request ─ submit ─┼─ bounded queue ─ as many as wait, up to a limit               ├─ each its answer
//! request ─ submit ─┘                     └─ lane (PostgreSQL has several)          ─┘
//! ```
//!
//! Nothing waits to be batched: a lane takes what is there, and while it works more arrives. SQLite has one lane, as it
//! has one writer; on PostgreSQL several overlap, and between them and other processes the statements decide. The lane of
//! SQLite works on a thread of its own: a batch is some twenty statements, each a question to the thread of the connection,
//! and on the threads of the requests it would stand in line behind these after every answer, and with it all who wait.
//!
//! A product has one writer over one enum of commands. Its [`Apply`] groups a batch by kind and runs few statements over
//! many rows (`jsonb_each` on SQLite, `unnest` on PostgreSQL); what a command may be refused for is part of its answer. A
//! transaction that fails as a whole is done again in halves, down to the one command that breaks it, so a failing
//! command does not fail its neighbours.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::sql::{self, Db, Tx};

/// A lane takes its share of what waits, so that the others have work too, but not less than this.
const SMALLEST_SHARE: usize = 128;
/// What waits is shared by so many at the least: where there is one lane, it and those whom it has answered work at the same
/// time. If it took all, callers that ask again once they are answered would all wait for it, and then it for them.
const FEWEST_SHARES: usize = 2;

mod lane;
mod metrics;

use lane::Lane;
pub use metrics::Metrics;

/// Applies commands. One per writer; a product's enum of commands makes it one per product.
pub trait Apply: Send + Sync + 'static {
    /// What is asked for.
    type Command: Send + Sync + 'static;
    /// What comes of it, refusals included.
    type Answer: Send + 'static;

    /// Applies all commands in the given transaction, as if one after the other in their order, and gives one answer for
    /// each in the same order. It may run again with the same commands, or with some of them, after its work was undone.
    ///
    /// # Errors
    /// The transaction fails as a whole and is undone.
    fn apply(
        &self,
        tx: &mut Tx<'_>,
        commands: &[Self::Command],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, sql::Error>> + Send;

    /// Is told of what was committed before any caller is, whether they still wait or not; within a lane in the order of the
    /// commits. It must not block.
    fn committed(&self, _commands: &[Self::Command], _answers: &[Self::Answer]) {}
}

/// How much a writer takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commands that may wait; one more is refused as [`Error::Busy`]. At 20,000 a second the default is 0.8 s of work.
    pub waiting: usize,
    /// Commands in one transaction. Only a backlog fills it, and then more at once means fewer pages written; a batch of
    /// the default takes some 10 ms of claims, 40 ms of joins.
    pub batch: usize,
    /// Transactions at a time on PostgreSQL, each with a connection of its own. SQLite has one.
    pub lanes: usize,
    /// How long a caller waits for an answer.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { waiting: 16_384, batch: 4_096, lanes: 3, deadline: Duration::from_secs(5) }
    }
}

/// The way to hand commands in. Cheap to clone; the writer ends when [`Writer::close`] is called or all clones are gone.
pub struct Writer<A: Apply> {
    queue: mpsc::Sender<Waiting<A>>,
    limits: Limits,
    metrics: Metrics,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// A command, and where its answer goes.
struct Waiting<A: Apply> {
    command: A::Command,
    answer: oneshot::Sender<Result<A::Answer, Error>>,
    since: Instant,
}

impl<A: Apply> Writer<A> {
    /// Starts the writer of a database: on PostgreSQL on the present runtime, on SQLite on a thread. The clock is what SQLite
    /// goes by.
    pub fn start(db: &Db, apply: A, clock: Arc<dyn Clock>, limits: Limits, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(limits.waiting.max(1));
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let lanes = match db {
            Db::Sqlite(_) => 1,
            Db::Postgres(_) => limits.lanes.max(1),
        };
        let apply = Arc::new(apply);
        let lanes = (0..lanes).map(|_| Lane::new(db, &apply, &clock, &metrics)).collect();
        let work = dispatch(waiting, lanes, limits.batch.max(1), stop.clone(), stopped.clone().drop_guard());
        match db {
            Db::Sqlite(_) => on_a_thread(work),
            Db::Postgres(_) => drop(tokio::spawn(work)),
        }
        Self { queue, limits, metrics, stop, stopped }
    }

    /// Hands a command in and waits for its answer. Dropped before the command's turn has come, it is not applied.
    ///
    /// # Errors
    /// [`Error::Busy`] and [`Error::Closed`]: nothing was done. [`Error::Sql`]: this command was undone.
    /// [`Error::Deadline`] and [`Error::Unknown`]: it may have been done.
    pub async fn submit(&self, command: A::Command) -> Result<A::Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { command, answer, since: Instant::now() };
        self.queue.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                self.metrics.refused();
                Error::Busy { limit: self.limits.waiting }
            }
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        match timeout(self.limits.deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Unknown { reason: "the writer broke off".to_owned() }),
            Err(_) => {
                self.metrics.timed_out();
                Err(Error::Deadline { after: self.limits.deadline })
            }
        }
    }

    /// How many commands wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Takes no more commands, answers those that wait, and returns when all are answered.
    pub async fn close(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

impl<A: Apply> Clone for Writer<A> {
    fn clone(&self) -> Self {
        let Self { queue, limits, metrics, stop, stopped } = self;
        Self {
            queue: queue.clone(),
            limits: *limits,
            metrics: metrics.clone(),
            stop: stop.clone(),
            stopped: stopped.clone(),
        }
    }
}

impl<A: Apply> std::fmt::Debug for Writer<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("limits", &self.limits).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Where there is no thread to be had, the writer is closed: all commands are refused.
fn on_a_thread(work: impl Future<Output = ()> + Send + 'static) {
    let started = tokio::runtime::Builder::new_current_thread().enable_time().build().and_then(|runtime| {
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || runtime.block_on(work))
    });
    if let Err(error) = started {
        tracing::error!(%error, "there is no thread for a writer; give the process more, and start it again");
    }
}

/// Gives each free lane what waits, until the queue is closed and empty and the lanes are done.
async fn dispatch<A: Apply>(
    mut queue: mpsc::Receiver<Waiting<A>>,
    mut free: Vec<Lane<A>>,
    most: usize,
    stop: CancellationToken,
    _stopped: tokio_util::sync::DropGuard,
) {
    let lanes = free.len();
    let Some(spare) = free.first().map(Lane::sibling) else { return };
    let mut at_work = tokio::task::JoinSet::new();
    loop {
        while let Some(done) = at_work.try_join_next() {
            free.push(done.unwrap_or_else(|_panic| spare.sibling()));
        }
        let Some(lane) = free.pop() else {
            tokio::select! {
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                Some(done) = at_work.join_next() => free.push(done.unwrap_or_else(|_panic| spare.sibling())),
            }
            continue;
        };
        let share = queue.len().div_ceil(lanes.max(FEWEST_SHARES)).max(SMALLEST_SHARE).min(most);
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                free.push(lane);
            }
            taken = queue.recv_many(&mut batch, share) => {
                if taken == 0 {
                    break;
                }
                at_work.spawn(lane.run(batch));
            }
        }
    }
    while let Some(done) = at_work.join_next().await {
        free.extend(done);
    }
    for lane in free {
        lane.end().await;
    }
}
