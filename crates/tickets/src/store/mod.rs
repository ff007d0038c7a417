//! What tickets remembers, in the product's words. One method is one atomic business step.
//!
//! Every write goes through the one batching writer of the process: as many as wait are applied in one transaction, each
//! kind in few statements, in a fixed order of kinds so that transactions wait for each other but never in a ring. The
//! changes of seats that a batch brings are written into the feed in the same transaction.

mod answers;
mod batch;
mod bookings;
mod catalogue;
mod edits;
mod feed;
mod holds;
mod indexed;
mod lists;
mod orders;
mod outbox;
mod promos;
mod queues;
mod sales;
mod schema;
mod seats;
mod sweep;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use tessera_kernel::{Clock, Timestamp};
use tessera_store::claims::{self, SqlClaims};
use tessera_store::lines;
use tessera_store::sql::{Db, Migration};
use tessera_store::writer::{self, Limits, Writer};

use crate::Error;
use crate::domain::ids::PlanId;
use crate::domain::plan::SeatPlan;
use batch::Batch;

pub use answers::{Answered, Asked, Once};
pub(crate) use batch::{Fed, Write};
pub use bookings::{Booking, DoorEntry, Ended, Scan, Scanned, TicketsOf, TicketsPage, Transfer, Transferred};
pub use edits::{Deleted, Edit, Edited, NewPlan, Put, Season};
pub use feed::{Head, SeatNotices};
pub use holds::{Held, Hold, HoldState, NewHold, ReleaseHold, Released};
pub use indexed::{CHANNEL, Changed, Changes, OutboxHead, Source};
pub use lists::{Listed, ListedEvent, Viewer};
pub use orders::{
    Action, Advance, Advanced, Attempt, Begun, Booked, InOrder, NewOrder, OpenOrder, OrderRecord, OrdersOf, Return,
    Unreturnable, Unsettled,
};
pub use outbox::Kind;
pub use queues::{OwnedPlace, QueueRow};
pub use sales::{Sale, Sales};
pub use seats::PricedSeat;
pub use sweep::Kept;

/// Commands in one transaction on PostgreSQL, where several lanes share the work and each takes locks.
const POSTGRES_BATCH: usize = 256;

/// Is told of committed changes of seats.
type Listener = Box<dyn Fn(&Fed) + Send + Sync>;

/// The steps of the schema, the claims' table among them.
pub fn migrations() -> Vec<Migration> {
    schema::STEPS
        .iter()
        .copied()
        .chain([
            claims::migration(2),
            lines::migration(3),
            schema::QUEUES,
            schema::CHANGES,
            schema::FEWER,
            schema::BESIDE,
            schema::FEWER_STILL,
        ])
        .collect()
}

/// The database of tickets. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
    writer: Writer<Batch>,
    listener: Arc<OnceLock<Listener>>,
    /// Seat plans that are in use: they never change, and many events share one.
    plans: Arc<Mutex<HashMap<PlanId, Weak<SeatPlan>>>>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(url: &str, clock: Arc<dyn Clock>, metrics: writer::Metrics) -> Result<Self, Error> {
        let db = Db::open(url, "tickets", &migrations()).await?;
        let batch = match db {
            Db::Sqlite(_) => Limits::default().batch,
            Db::Postgres(_) => POSTGRES_BATCH,
        };
        let limits = Limits { batch, ..Limits::default() };
        let writer = Writer::start(&db, Batch, Arc::clone(&clock), limits, metrics);
        Ok(Self { db, clock, writer, listener: Arc::default(), plans: Arc::default() })
    }

    /// Has committed changes of seats told to `listener` as their answers come; the first one stays.
    pub fn on_change(&self, listener: impl Fn(&Fed) + Send + Sync + 'static) {
        // A second listener would be a fault of ours, and the first one suffices.
        let _ = self.listener.set(Box::new(listener));
    }

    /// The claims on seats, as rows of this database.
    pub fn claims(&self) -> Arc<dyn claims::Claims> {
        Arc::new(SqlClaims::new(self.db.clone(), self.writer.clone(), Arc::clone(&self.clock)))
    }

    /// The moment by the database's clock.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.db.now(&*self.clock).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.db.ping().await?)
    }

    /// Answers what waits and closes the database.
    pub async fn close(&self) {
        self.writer.close().await;
        self.db.close().await;
    }

    async fn submit(&self, write: Write) -> Result<batch::What, Error> {
        let answer = self.writer.submit(write).await?;
        if let Some(listener) = self.listener.get() {
            listener(&answer.fed);
        }
        Ok(answer.what)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("db", &self.db).finish_non_exhaustive()
    }
}

/// An answer to another question: a fault of ours.
fn unexpected() -> Error {
    tessera_store::Error::Unexpected { what: "another write's answer".to_owned() }.into()
}
