//! Changes of rides that other processes have committed.

use std::collections::HashMap;

use super::App;
use crate::Error;
use crate::domain::ids::{DriverId, RideId};
use crate::store::Change;

/// Rides or drivers that are asked for at once.
const AT_ONCE: usize = 500;

impl App {
    /// Takes notices of commits: watchers who do not know of one yet are told, and the matcher is woken.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heard(&self, changes: Vec<Change>) -> Result<(), Error> {
        if changes.iter().any(|change| change.wakes) {
            self.wake.notify_one();
        }
        let mut news: HashMap<RideId, Vec<DriverId>> = HashMap::new();
        for change in changes.into_iter().filter(|change| self.hub.lacks(change)) {
            news.entry(change.ride).or_default().extend(change.drivers);
        }
        let rides: Vec<RideId> = news.keys().copied().collect();
        for rides in rides.chunks(AT_ONCE) {
            for ride in self.store.rides_by_id(rides).await? {
                self.hub.tell(&ride, news.get(&ride.id).map_or(&[], Vec::as_slice));
            }
        }
        Ok(())
    }

    /// Looks at everything that is watched here, where notices may have been lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn look(&self) -> Result<(), Error> {
        let concerns = self.hub.concerns();
        let ids: Vec<_> = concerns.ids.into_iter().collect();
        for ids in ids.chunks(AT_ONCE) {
            let mut changes = self.store.versions(ids).await?;
            for change in &mut changes {
                change.drivers.extend(concerns.told.get(&change.ride).into_iter().flatten());
            }
            self.heard(changes).await?;
        }
        // A ride may wait that nobody told of.
        self.wake.notify_one();
        Ok(())
    }
}
