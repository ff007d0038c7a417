//! What rides remember. One method is one atomic step; every write goes through the process's one batching writer.

mod batch;
mod drivers;
mod lists;
mod locked;
mod notices;
mod push;
mod schema;
mod steps;
mod sweep;
mod unreadable;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tessera_kernel::Clock;
use tessera_store::claims::{self, SqlClaims};
use tessera_store::sql::{Db, Migration};
use tessera_store::writer::{self, Limits, Writer};

use crate::Error;
use crate::domain::fare::Tariff;
use crate::domain::ids::DriverId;
use crate::domain::ride::Ride;
use batch::{Batch, Listeners, What};
use sweep::Sweep;

pub use batch::Write;
pub use drivers::{Driver, DriverChange, DriverEdit, Edited, Profile};
pub use lists::{Behind, Listed, Page, RidesOf, Waiting};
pub use notices::{Change, Notices};
pub use push::{Attempt, DeviceEdit, MOST_DEVICES};
pub use steps::{Step, Stepped};
pub use tessera_store::sql::Changed;

/// The steps of the schema, the claims' table among them.
pub fn migrations() -> Vec<Migration> {
    let later = schema::PUSH.iter().chain(schema::OLD).copied();
    schema::RIDES.iter().copied().chain([claims::migration(2)]).chain(later).collect()
}

/// The database of rides. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
    writer: Writer<Batch>,
    listeners: Listeners,
    unreadable: unreadable::Known,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("db", &self.db).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(
        url: &str,
        clock: Arc<dyn Clock>,
        tariff: Tariff,
        metrics: writer::Metrics,
    ) -> Result<Self, Error> {
        let db = Db::open(url, "rides", &migrations()).await?;
        let listeners = Listeners::default();
        let batch = Batch::new(tariff, Arc::clone(&listeners));
        let writer = Writer::start(&db, batch, Arc::clone(&clock), Limits::default(), metrics);
        Ok(Self { db, clock, writer, listeners, unreadable: unreadable::Known::default() })
    }

    /// Has changes of rides told to `listener` once they are committed, before their callers are answered. Changes of one ride
    /// or driver may come in another order than they were committed, where a server has them; their times tell.
    pub fn on_change(&self, listener: impl Fn(&Ride, Option<DriverId>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// The claims on drivers and areas, as rows of this database.
    pub fn claims(&self) -> Arc<dyn claims::Claims> {
        Arc::new(SqlClaims::new(self.db.clone(), self.writer.clone(), Arc::clone(&self.clock)))
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

    /// Keeps a new estimate, made now by the store's clock, and gives it as it was kept.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, ride: Ride) -> Result<Ride, Error> {
        match self.writer.submit(Write::Insert(Box::new(ride))).await? {
            What::Inserted(ride) => Ok(*ride),
            _ => Err(unexpected()),
        }
    }

    /// Removes estimates that ended without a request longer ago than that, so many at the most. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep_estimates(&self, kept: Duration, limit: u32) -> Result<usize, Error> {
        match self.writer.submit(Write::Sweep(Sweep { kept, limit })).await? {
            What::Swept(removed) => Ok(removed),
            _ => Err(unexpected()),
        }
    }

    /// Takes a ride a step further, if its state allows it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where its row cannot be read; those of the database.
    pub async fn step(&self, step: Step) -> Result<Stepped, Error> {
        match self.writer.submit(Write::Step(Box::new(step))).await? {
            What::Stepped(stepped) => Ok((*stepped)?),
            _ => Err(unexpected()),
        }
    }

    /// Changes a driver's row, made with the first change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn edit_driver(&self, edit: DriverEdit) -> Result<Edited, Error> {
        match self.writer.submit(Write::Driver(Box::new(edit))).await? {
            What::Driver(edited) => Ok((*edited)?),
            _ => Err(unexpected()),
        }
    }
}

/// An answer to another question: a fault of ours.
fn unexpected() -> Error {
    tessera_store::Error::Unexpected { what: "another write's answer".to_owned() }.into()
}
