//! What this process remembers of the database, to be quick: of holds what never changes, of venues what they were called
//! a moment ago.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tessera_kernel::Timestamp;

use super::App;
use crate::Error;
use crate::domain::catalogue::Venue;
use crate::domain::ids::{HoldId, VenueId};
use crate::store::Hold;

/// Holds that are remembered; some hundred bytes each.
const MAX_HOLDS: usize = 65_536;
/// Venues that are remembered.
const MAX_VENUES: usize = 4_096;
/// For how long what a venue is called is taken for true.
const VENUE_FRESH: Duration = Duration::from_secs(1);

/// The memory of a process.
pub struct Remembered {
    holds: Cache<HoldId, Arc<Hold>>,
    venues: Cache<VenueId, (Timestamp, Arc<Venue>)>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { holds: Cache::new(MAX_HOLDS), venues: Cache::new(MAX_VENUES) }
    }
}

impl App {
    /// Keeps a hold that was made.
    pub(crate) fn remember_hold(&self, hold: &Hold) {
        self.remembered().holds.insert(hold.id, Arc::new(hold.clone()));
    }

    /// A hold of this subject as it was made: its seats, prices and token are what they were, its state and its end may
    /// have changed since.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub(crate) async fn hold_as_made(&self, subject: &str, id: HoldId) -> Result<Arc<Hold>, Error> {
        let hold = match self.remembered().holds.get(&id) {
            Some(hold) => Some(hold),
            None => self.store.find_hold(id).await?.map(Arc::new),
        };
        let hold = hold.filter(|hold| &*hold.subject == subject);
        hold.ok_or_else(|| Error::NotFound { what: "hold", id: id.to_string() })
    }

    /// A venue, as it was a second ago at the most.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub(crate) async fn venue_of_late(&self, id: VenueId) -> Result<Arc<Venue>, Error> {
        let now = self.clock.now();
        let fresh = |at: Timestamp| at <= now && now.since(at) < VENUE_FRESH;
        if let Some((_, venue)) = self.remembered().venues.get(&id).filter(|(at, _)| fresh(*at)) {
            return Ok(venue);
        }
        let venue = Arc::new(self.store.venue(id).await?);
        self.remembered().venues.insert(id, (now, Arc::clone(&venue)));
        Ok(venue)
    }
}
