//! Who watches which ride or driver, within this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tessera_kernel::Uuid;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// Changes that a slow watcher may be behind; then it reads anew.
const BEHIND: usize = 64;

/// The watchers.
#[derive(Debug, Default)]
pub struct Hub(Mutex<HashMap<Uuid, Sender<Arc<Ride>>>>);

impl Hub {
    /// Changes of a ride from now on.
    pub fn ride(&self, id: RideId) -> Receiver<Arc<Ride>> {
        self.watch(id.uuid())
    }

    /// Changes of rides that a driver is asked for or drives, from now on.
    pub fn driver(&self, id: DriverId) -> Receiver<Arc<Ride>> {
        self.watch(id.uuid())
    }

    fn watch(&self, id: Uuid) -> Receiver<Arc<Ride>> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.entry(id).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe()
    }

    /// Tells those whom a change of a ride concerns: who watches it, and a driver.
    pub fn tell(&self, ride: &Ride, driver: Option<DriverId>) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: Option<Arc<Ride>> = None;
        for id in [Some(ride.id.uuid()), driver.map(DriverId::uuid)].into_iter().flatten() {
            if let Some(sender) = watched.get(&id) {
                let ride = told.get_or_insert_with(|| Arc::new(ride.clone()));
                // Nobody listening is no fault.
                let _ = sender.send(Arc::clone(ride));
            }
        }
    }
}
