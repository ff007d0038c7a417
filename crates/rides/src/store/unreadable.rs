//! Rows that cannot be read: a fault of ours, or of who edits tables. One of them holds up no others; it is told where it is asked
//! for, and is in the log once where a list leaves it out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::types::Uuid;

use super::Store;
use crate::Error;
use crate::domain::ids::RideId;
use crate::domain::ride::Ride;

/// Rides that are remembered to be in the log.
const MOST: usize = 1_000;

/// Rides whose faults are in the log already.
pub(super) type Known = Arc<Mutex<HashSet<RideId>>>;

/// A ride whose row cannot be read, and why.
#[derive(Clone, Debug)]
pub struct Unreadable {
    ride: RideId,
    reason: String,
}

impl From<Unreadable> for Error {
    fn from(Unreadable { ride, reason }: Unreadable) -> Self {
        Self::Corrupt { what: format!("ride `{ride}`"), reason }
    }
}

/// A ride as it was written.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read_ride(document: &str, ride: RideId) -> Result<Ride, Unreadable> {
    serde_json::from_str(document).map_err(|error| Unreadable { ride, reason: error.to_string() })
}

impl Store {
    /// Those that can be read, in their order. Of the others each is in the log once.
    pub(super) fn readable(&self, rows: impl IntoIterator<Item = (Uuid, String)>) -> Vec<Ride> {
        let read = |(id, document): (Uuid, String)| match read_ride(&document, id.into()) {
            Ok(ride) => Some(ride),
            Err(unreadable) => {
                self.leave_out(&unreadable);
                None
            }
        };
        rows.into_iter().filter_map(read).collect()
    }

    fn leave_out(&self, Unreadable { ride, reason }: &Unreadable) {
        let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        if known.insert(*ride) {
            tracing::error!(ride.id = %ride, reason, "a ride cannot be read, and stays as it is until its row is mended");
        }
    }
}
