//! Rows that cannot be read: a fault of ours, or of who edits tables. One of them holds up no others; it is told where it is asked
//! for, and is in the log once where a list leaves it out.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::types::Uuid;

use super::Store;
use crate::Error;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// Rows that are remembered to be in the log.
const MOST: usize = 1_000;

/// Rows whose faults are in the log already.
pub(super) type Known = Arc<Mutex<HashSet<Whose>>>;

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Ride(RideId),
    Driver(DriverId),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ride(ride) => write!(f, "ride `{ride}`"),
            Self::Driver(driver) => write!(f, "driver `{driver}`"),
        }
    }
}

/// A row that cannot be read, and why.
#[derive(Clone, Debug)]
pub struct Unreadable {
    whose: Whose,
    reason: String,
}

impl Unreadable {
    pub(super) fn new(whose: Whose, error: &serde_json::Error) -> Self {
        Self { whose, reason: error.to_string() }
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { whose, reason }: Unreadable) -> Self {
        Self::Corrupt { what: whose.to_string(), reason }
    }
}

/// A ride as it was written.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read_ride(document: &str, ride: RideId) -> Result<Ride, Unreadable> {
    serde_json::from_str(document).map_err(|error| Unreadable::new(Whose::Ride(ride), &error))
}

impl Store {
    /// Those that can be read, in their order. Of the others each is in the log once.
    pub(super) fn readable(&self, rows: impl IntoIterator<Item = (Uuid, String)>) -> Vec<Ride> {
        let read = |(id, document): (Uuid, String)| self.or_left_out(read_ride(&document, id.into()));
        rows.into_iter().filter_map(read).collect()
    }

    /// What was read; nothing where it cannot be, which is in the log once.
    pub(super) fn or_left_out<T>(&self, read: Result<T, Unreadable>) -> Option<T> {
        read.inspect_err(|unreadable| self.leave_out(unreadable)).ok()
    }

    fn leave_out(&self, Unreadable { whose, reason }: &Unreadable) {
        let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        if !known.insert(*whose) {
            return;
        }
        match whose {
            Whose::Ride(ride) => {
                tracing::error!(ride.id = %ride, reason, "a ride cannot be read, and stays as it is until its row is mended");
            }
            Whose::Driver(driver) => {
                tracing::error!(driver.id = %driver, reason, "a driver cannot be read, and is asked for no ride until the row is mended");
            }
        }
    }
}
