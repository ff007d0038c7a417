//! What can be done: one method a use case.

mod drivers;
mod estimate;
mod follow;
mod hub;
mod rides;
mod told;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRef;
use futures::FutureExt;
use tessera_kernel::{Clock, Ids, Timestamp};
use tessera_service::Keys;
use tessera_store::claims::Claims;

use crate::config::Config;
use crate::domain::fare::Surge;
use crate::domain::ids::DriverId;
use crate::domain::ride::Ride;
use crate::locations::{Duty, Locations, Refusals};
use crate::routes::Routes;
use crate::store::{Change, Store};
use told::Told;

pub use crate::domain::ids::driver_of;
pub use drivers::{Shift, Update};
pub use estimate::Wish;
pub use hub::Hub;
pub use rides::{Asker, StatusChange};

/// How long an area is known in which nobody is any more, so that who follows the changes hears of it.
const EMPTY_KEPT: Duration = Duration::from_secs(3_600);
/// How long a step that is done waits for the positions to know who is busy.
const DUTY_DEADLINE: Duration = Duration::from_millis(250);

/// Where the prices of an area stand.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The smoothed multiple, hundredths.
    pub multiple: f64,
    /// The same as it is shown and charged.
    pub surge: Surge,
    /// Rides that wait.
    pub waiting: u32,
    /// Free drivers.
    pub free: u32,
    /// When it was counted.
    pub at: Timestamp,
    /// When the numbers that are shown changed last.
    pub changed_at: Timestamp,
}

impl Demand {
    fn new(now: Timestamp) -> Self {
        Self { multiple: 100.0, surge: Surge::NONE, waiting: 0, free: 0, at: now, changed_at: now }
    }

    /// Whether somebody waits or is free there, or did a moment ago.
    pub fn is_busy(&self) -> bool {
        self.waiting > 0 || self.free > 0 || self.surge > Surge::NONE
    }
}

/// The parts of an [`App`].
pub struct Parts {
    /// The database.
    pub store: Store,
    /// On drivers and areas.
    pub claims: Arc<dyn Claims>,
    /// Where drivers are.
    pub locations: Locations,
    /// Ways and times.
    pub routes: Arc<dyn Routes>,
    /// Who asks.
    pub keys: Keys,
    /// The settings.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Counts positions that changed nothing.
    pub refusals: Refusals,
}

/// Rides. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What an [`App`] is made of.
pub struct Inner {
    /// The database.
    pub store: Store,
    pub(crate) claims: Arc<dyn Claims>,
    /// Where drivers are.
    pub locations: Locations,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) keys: Keys,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// Counts positions that changed nothing.
    pub refusals: Refusals,
    pub(crate) hub: Hub,
    /// Wakes the matcher.
    pub(crate) wake: tokio::sync::Notify,
    demand: Mutex<HashMap<u64, Demand>>,
    /// Drivers who reported without being on duty, and when that was found out.
    off_duty: Mutex<HashMap<DriverId, Timestamp>>,
    /// Whether each driver got free or busy last.
    told: Told,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl FromRef<App> for Keys {
    fn from_ref(app: &App) -> Self {
        app.keys.clone()
    }
}

impl Inner {
    /// A ride has changed: those who watch are told, who is bound to it is busy, who was is free.
    ///
    /// It does not wait where positions are elsewhere: until they know, a free driver is not asked, and a busy one in vain.
    fn changed(self: &Arc<Self>, ride: &Ride, freed: Option<DriverId>) {
        let Change { wakes, drivers, .. } = Change::of(ride, freed);
        self.hub.tell(ride, &drivers);
        let bound = ride.bound_driver().map(|driver| (driver, Duty::Busy));
        let duties = bound.into_iter().chain(freed.map(|driver| (driver, Duty::Free)));
        let drivers: Vec<DriverId> = duties
            .filter(|(driver, duty)| self.told.keep(*driver, *duty, ride.updated_at))
            .map(|(driver, _)| driver)
            .collect();
        let app = Arc::clone(self);
        let mut telling = Box::pin(async move {
            let mut wakes = wakes;
            for driver in drivers {
                wakes |= app.hand_on(driver).await == Some(Duty::Free);
            }
            if wakes {
                app.wake.notify_one();
            }
        });
        if (&mut telling).now_or_never().is_none() {
            tokio::spawn(telling);
        }
    }

    /// Hands what was told of a driver to the positions until nothing else was told meanwhile. Gives what came last.
    async fn hand_on(&self, driver: DriverId) -> Option<Duty> {
        let mut handed = None;
        while let Some(duty) = self.told.next(driver, handed) {
            match tokio::time::timeout(DUTY_DEADLINE, self.locations.set_duty(driver, duty)).await {
                Ok(Ok(_)) => {}
                // The loop that compares them with the database sets it when they are back.
                Ok(Err(error)) => tracing::warn!(%error, "a driver's duty is not in the positions yet"),
                Err(_) => tracing::warn!("a driver's duty is not in the positions yet: no answer"),
            }
            handed = Some(duty);
        }
        handed
    }
}

impl App {
    /// Puts the parts together; changes of rides are told to those who watch from now on.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, claims, locations, routes, keys, config, clock, ids, refusals } = parts;
        let app = Self(Arc::new(Inner {
            store,
            claims,
            locations,
            routes,
            keys,
            config,
            clock,
            ids,
            refusals,
            hub: Hub::default(),
            wake: tokio::sync::Notify::new(),
            demand: Mutex::default(),
            off_duty: Mutex::default(),
            told: Told::default(),
        }));
        let told = Arc::downgrade(&app.0);
        app.store.on_change(move |ride, freed| {
            if let Some(app) = told.upgrade() {
                app.changed(ride, freed);
            }
        });
        app
    }

    /// The installation's key.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Who watches what in this process.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The multiple of the price in an area now.
    pub fn surge(&self, area: u64) -> Surge {
        let demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        demand.get(&area).map_or(Surge::NONE, |demand| demand.surge)
    }

    /// Every area with demand or drivers, and for an hour those that had.
    pub fn demands(&self) -> Vec<(u64, Demand)> {
        let demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = demand.iter().map(|(area, demand)| (*area, *demand)).collect();
        all.sort_by_key(|(area, _)| *area);
        all
    }

    /// Takes a count of who waits and who is free; areas that are not named have nobody.
    pub fn count_demand(&self, counted: &HashMap<u64, (u32, u32)>) {
        let (now, rules) = (self.clock.now(), &self.config.surge);
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        for area in counted.keys() {
            demand.entry(*area).or_insert_with(|| Demand::new(now));
        }
        for (area, demand) in demand.iter_mut() {
            let (waiting, free) = counted.get(area).copied().unwrap_or_default();
            let passed = u64::try_from(now.micros() - demand.at.micros()).unwrap_or(0);
            let target = rules.target(waiting, free);
            let multiple = rules.smooth(demand.multiple, target, Duration::from_micros(passed));
            let surge = rules.shown(multiple);
            let same = (demand.waiting, demand.free, demand.surge) == (waiting, free, surge);
            let changed_at = if same { demand.changed_at } else { now };
            *demand = Demand { multiple, surge, waiting, free, at: now, changed_at };
        }
        // An area that has calmed down and is empty is forgotten in the end.
        let is_news = |demand: &Demand| now.since(demand.changed_at) < EMPTY_KEPT;
        demand.retain(|area, demand| counted.contains_key(area) || demand.multiple > 100.5 || is_news(demand));
    }
}
