//! A town without a map: drivers along a street, riders who want to go north.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, Ids, ManualClock, Place, RandomIds, SystemClock, Timestamp};
use tessera_rides::app::{App, Parts, Shift, Wish, driver_of};
use tessera_rides::config::Config;
use tessera_rides::domain::ids::{DriverId, OfferId};
use tessera_rides::domain::ride::Ride;
use tessera_rides::locations::{Locations, Refusals};
use tessera_rides::routes::{Crow, Routes};
use tessera_rides::store::{Profile, Store};
use tessera_service::Keys;
use tessera_store::claims::Claims;
use tessera_store::redis::Redis;
use tessera_store::writer::Metrics;

pub const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A process of the service on a database.
pub struct Town {
    pub app: App,
    pub claims: Arc<dyn Claims>,
    /// Where time is moved by hand: on SQLite, which goes by it.
    pub clock: Option<Arc<ManualClock>>,
}

pub fn place(up: f64, right: f64) -> Place {
    Place::from_degrees(41.15 + up, -8.61 + right).unwrap()
}

impl Town {
    /// A process whose time is moved by hand.
    pub async fn still(url: &str, config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(NOON));
        Self::still_with(url, config, Arc::new(Crow), clock).await
    }

    /// The same with another engine of routes, or at the hour of another process.
    pub async fn still_with(url: &str, config: Config, routes: Arc<dyn Routes>, clock: Arc<ManualClock>) -> Self {
        let (app, claims) = app(url, config, routes, Arc::clone(&clock) as Arc<dyn Clock>, None).await;
        Self { app, claims, clock: Some(clock) }
    }

    /// The same with claims of another store.
    pub async fn with_claims(url: &str, config: Config, claims: Arc<dyn Claims>, clock: Arc<ManualClock>) -> Self {
        let by = Arc::clone(&clock) as Arc<dyn Clock>;
        let (app, claims) = app(url, config, Arc::new(Crow), by, Some(claims)).await;
        Self { app, claims, clock: Some(clock) }
    }

    /// A process in real time.
    pub async fn live(url: &str, config: Config) -> Self {
        let (app, claims) = app(url, config, Arc::new(Crow), Arc::new(SystemClock), None).await;
        Self { app, claims, clock: None }
    }

    /// Another process of the same service.
    pub async fn beside(&self, url: &str, config: Config) -> Self {
        let mut parts = parts(url, config, Arc::new(Crow), Arc::new(SystemClock), None).await;
        parts.keys = self.app.keys().clone();
        let claims = Arc::clone(&parts.claims);
        Self { app: App::new(parts), claims, clock: None }
    }

    /// A token of somebody with a role.
    pub fn token(&self, subject: &str, role: &str) -> String {
        self.app.keys().sign_token(subject, &[role.to_owned()], Duration::from_secs(3_600)).unwrap()
    }

    pub fn passes(&self, seconds: u64) {
        self.clock.as_ref().unwrap().advance(Duration::from_secs(seconds));
    }

    /// A driver with a profile that an operator approved, on duty at a place.
    pub async fn driver(&self, name: &str, at: Place) -> DriverId {
        let subject: Arc<str> = name.into();
        let profile = Profile { name: name.into(), vehicle: "white Dacia".into(), plate: "AA-00-AA".into(), seats: 4 };
        let driver = self.app.set_profile(&subject, profile).await.unwrap();
        self.app.approve(driver.id, true).await.unwrap();
        self.app.shift(&subject, Shift::On(at)).await.unwrap();
        assert_eq!(driver.id, driver_of(name));
        driver.id
    }

    /// A ride that was requested.
    pub async fn request(&self, rider: &str, pickup: Place) -> Ride {
        let wish = Wish { pickup, destination: Place::from_degrees(pickup.lat() + 0.02, pickup.lng()).unwrap() };
        let ride = self.app.estimate(rider, wish).await.unwrap();
        self.app.request(&rider.into(), ride.id).await.unwrap()
    }
}

async fn app(
    url: &str,
    config: Config,
    routes: Arc<dyn Routes>,
    clock: Arc<dyn Clock>,
    claims: Option<Arc<dyn Claims>>,
) -> (App, Arc<dyn Claims>) {
    let parts = parts(url, config, routes, clock, claims).await;
    let claims = Arc::clone(&parts.claims);
    (App::new(parts), claims)
}

async fn parts(
    url: &str,
    config: Config,
    routes: Arc<dyn Routes>,
    clock: Arc<dyn Clock>,
    claims: Option<Arc<dyn Claims>>,
) -> Parts {
    let store = Store::open(url, Arc::clone(&clock), config.tariff.clone(), Metrics::default()).await.unwrap();
    let ids: Arc<dyn Ids> = Arc::new(RandomIds);
    Parts {
        claims: claims.unwrap_or_else(|| store.claims()),
        store,
        locations: locations(&config, clock.now()).await,
        routes,
        keys: Keys::ephemeral(Arc::clone(&clock)).unwrap(),
        config,
        clock,
        ids,
        refusals: Refusals::default(),
    }
}

/// Positions where the settings say.
pub async fn locations(config: &Config, now: Timestamp) -> Locations {
    match &config.locations {
        Some(url) => Locations::in_redis(Redis::open(url).await.unwrap(), config.intervals.clone()),
        None => Locations::in_memory(config.intervals.clone(), now),
    }
}

/// The offer that is open.
pub fn open(ride: &Ride) -> (DriverId, OfferId) {
    let offer = ride.offer.as_ref().unwrap();
    (offer.driver, offer.id)
}
