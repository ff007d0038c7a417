//! Who watches which ride or driver in this process, and what they were told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_kernel::Uuid;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;
use crate::store::Change;

/// Changes that a slow watcher may be behind; then it reads anew.
const BEHIND: usize = 64;
/// Rides whose versions are remembered for those who watch the same: a driver has had the one before, hardly more.
const REMEMBERED: usize = 4;

/// The watchers.
#[derive(Debug, Default)]
pub struct Hub(Mutex<HashMap<Uuid, Watched>>);

/// A ride or driver that somebody watches.
#[derive(Debug)]
struct Watched {
    sender: Sender<Arc<Ride>>,
    /// Which version of which ride was told last.
    told: VecDeque<Told>,
}

/// What was told of a ride.
#[derive(Clone, Copy, Debug)]
struct Told {
    ride: RideId,
    version: u32,
    /// Whether those who watch had nothing to do with it any more: a driver who was asked and said no.
    over: bool,
}

impl Watched {
    /// Whether a version of a ride is news.
    fn lacks(&self, ride: RideId, version: u32) -> bool {
        self.told.iter().find(|told| told.ride == ride).is_none_or(|told| told.version < version)
    }

    /// `id`: what is watched.
    fn tell(&mut self, id: Uuid, ride: &Arc<Ride>) {
        let over = id != ride.id.uuid() && ride.bound_driver().is_none_or(|driver| driver.uuid() != id);
        self.told.retain(|told| told.ride != ride.id);
        self.told.push_front(Told { ride: ride.id, version: ride.version, over });
        self.told.truncate(REMEMBERED);
        // Nobody listening is no fault.
        let _ = self.sender.send(Arc::clone(ride));
    }
}

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
        let mut watched = self.watched();
        watched.retain(|_, watched| watched.sender.receiver_count() > 0);
        let new = || Watched { sender: broadcast::channel(BEHIND).0, told: VecDeque::new() };
        watched.entry(id).or_insert_with(new).sender.subscribe()
    }

    /// Tells those whom a change of a ride concerns: who watches it, and these drivers. A version that they know is no news.
    pub fn tell(&self, ride: &Ride, drivers: &[DriverId]) {
        let mut watched = self.watched();
        let mut told: Option<Arc<Ride>> = None;
        for id in std::iter::once(ride.id.uuid()).chain(drivers.iter().map(|driver| driver.uuid())) {
            if let Some(watched) = watched.get_mut(&id).filter(|watched| watched.lacks(ride.id, ride.version)) {
                watched.tell(id, told.get_or_insert_with(|| Arc::new(ride.clone())));
            }
        }
    }

    /// Whether somebody here does not know of a change yet.
    pub fn lacks(&self, change: &Change) -> bool {
        let watched = self.watched();
        let mut ids = std::iter::once(change.ride.uuid()).chain(change.drivers.iter().map(|driver| driver.uuid()));
        ids.any(|id| watched.get(&id).is_some_and(|watched| watched.lacks(change.ride, change.version)))
    }

    /// What is watched, and the rides that those were told of: what has to be looked at to know whether they lack something.
    pub fn concerns(&self) -> Concerns {
        let mut concerns = Concerns::default();
        for (id, watched) in &mut *self.watched() {
            if watched.sender.receiver_count() == 0 {
                continue;
            }
            concerns.ids.insert(*id);
            for told in watched.told.iter().filter(|told| told.ride.uuid() != *id && !told.over) {
                concerns.ids.insert(told.ride.uuid());
                concerns.told.entry(told.ride).or_default().push((*id).into());
            }
        }
        concerns
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Uuid, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What watchers are concerned with.
#[derive(Debug, Default)]
pub struct Concerns {
    /// Rides and drivers.
    pub ids: HashSet<Uuid>,
    /// Drivers that were told of a ride, and may have nothing to do with it any more without knowing it.
    pub told: HashMap<RideId, Vec<DriverId>>,
}
