//! A batch of writes, applied in one transaction.

use std::sync::{Arc, PoisonError, RwLock};

use tessera_store::claims;
use tessera_store::sql::{self, Tx};
use tessera_store::writer::Apply;

use super::drivers::{self, DriverEdit, Edited};
use super::locked::Locked;
use super::notices;
use super::push::{self, DeviceEdit};
use super::steps::{self, Step, Stepped};
use super::sweep::{self, Sweep};
use super::unreadable::Unreadable;
use crate::domain::fare::Tariff;
use crate::domain::ids::DriverId;
use crate::domain::ride::Ride;

/// What can be written.
#[derive(Debug)]
pub enum Write {
    /// A change of claims.
    Claims(claims::Command),
    /// A new estimate.
    Insert(Box<Ride>),
    /// A ride goes on.
    Step(Box<Step>),
    /// A driver changes.
    Driver(Box<DriverEdit>),
    /// A device changes, or was tried.
    Device(Box<DeviceEdit>),
    /// Old estimates go.
    Sweep(Sweep),
}

/// What came of a [`Write`].
#[derive(Debug)]
pub enum What {
    /// To [`Write::Claims`].
    Claims(claims::Answer),
    /// To [`Write::Insert`]: the ride as it was kept.
    Inserted(Box<Ride>),
    /// To [`Write::Step`].
    Stepped(Box<Result<Stepped, Unreadable>>),
    /// To [`Write::Driver`].
    Driver(Box<Result<Edited, Unreadable>>),
    /// To [`Write::Device`]: rows that changed.
    Device(u64),
    /// To [`Write::Sweep`]: rides that were removed.
    Swept(usize),
}

/// Is told of each ride that has changed, and of the driver who has nothing to do with it any more.
pub(super) type Listener = Box<dyn Fn(&Ride, Option<DriverId>) + Send + Sync>;

/// Those who are told of changes.
pub(super) type Listeners = Arc<RwLock<Vec<Listener>>>;

/// Applies batches.
pub struct Batch {
    tariff: Tariff,
    listeners: Listeners,
}

impl Batch {
    pub fn new(tariff: Tariff, listeners: Listeners) -> Self {
        Self { tariff, listeners }
    }
}

impl Apply for Batch {
    type Command = Write;
    type Answer = What;

    async fn apply(&self, tx: &mut Tx<'_>, writes: &[Write]) -> Result<Vec<What>, sql::Error> {
        // The order of locks is the same in every transaction: claims, rides, drivers, devices.
        let claimed: Vec<_> =
            pick(writes, |write| if let Write::Claims(command) = write { Some(command) } else { None });
        let new: Vec<_> = pick(writes, |write| if let Write::Insert(ride) = write { Some(&**ride) } else { None });
        let taken: Vec<_> = pick(writes, |write| if let Write::Step(step) = write { Some(&**step) } else { None });
        let edits: Vec<_> = pick(writes, |write| if let Write::Driver(edit) = write { Some(&**edit) } else { None });
        let devices: Vec<_> = pick(writes, |write| if let Write::Device(edit) = write { Some(&**edit) } else { None });
        let mut claimed = claims::apply(tx, &claimed).await?.into_iter();
        let mut inserted = steps::insert(tx, &new).await?.into_iter();
        let mut locked = Locked::lock(tx, &taken, &edits).await?;
        let stepped = steps::apply(tx, &self.tariff, &taken, &mut locked).await?;
        notices::tell(tx, &stepped).await?;
        let mut stepped = stepped.into_iter();
        let mut edited = drivers::apply(tx, &edits, &mut locked).await?.into_iter();
        let mut devices = push::apply(tx, &devices).await?.into_iter();
        let mut swept = Vec::new();
        for sweep in pick(writes, |write| if let Write::Sweep(sweep) = write { Some(sweep) } else { None }) {
            swept.push(sweep::apply(tx, sweep).await?);
        }
        let mut swept = swept.into_iter();
        let answers = writes.iter().map_while(|write| {
            Some(match write {
                Write::Claims(_) => What::Claims(claimed.next()?),
                Write::Insert(_) => What::Inserted(Box::new(inserted.next()?)),
                Write::Step(_) => What::Stepped(Box::new(stepped.next()?)),
                Write::Driver(_) => What::Driver(Box::new(edited.next()?)),
                Write::Device(_) => What::Device(devices.next()?),
                Write::Sweep(_) => What::Swept(swept.next()?),
            })
        });
        Ok(answers.collect())
    }

    /// Here, since a caller who has hung up would tell nobody.
    fn committed(&self, _: &[Write], answers: &[What]) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        for answer in answers {
            if let What::Stepped(stepped) = answer
                && let Ok(Stepped::Done(ride, freed)) = &**stepped
            {
                listeners.iter().for_each(|listener| listener(ride, *freed));
            }
        }
    }
}

fn pick<'a, T: ?Sized>(writes: &'a [Write], kind: impl Fn(&'a Write) -> Option<&'a T>) -> Vec<&'a T> {
    writes.iter().filter_map(kind).collect()
}

impl From<claims::Command> for Write {
    fn from(command: claims::Command) -> Self {
        Self::Claims(command)
    }
}

impl TryFrom<What> for claims::Answer {
    type Error = ();

    fn try_from(what: What) -> Result<Self, ()> {
        match what {
            What::Claims(answer) => Ok(answer),
            _ => Err(()),
        }
    }
}
