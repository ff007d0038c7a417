//! The network in memory, under the traffic of the hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Timelike};
use chrono_tz::Tz;
use futures::future::BoxFuture;
use tessera_kernel::{Clock, Place};

use super::{Route, Routes, polyline};
use crate::Error;
use crate::domain::traffic::{Conditions, Profile};
use crate::network::{Network, Snapped};

/// Routes over a prepared network.
pub struct Road {
    network: Arc<Network>,
    profile: Profile,
    timezone: Tz,
    clock: Arc<dyn Clock>,
    /// The live factor, as the bits of a float.
    factor: AtomicU64,
}

impl std::fmt::Debug for Road {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Road").field("junctions", &self.network.junctions()).finish_non_exhaustive()
    }
}

impl Road {
    /// Over this network, in this time zone.
    pub fn new(network: Arc<Network>, profile: Profile, timezone: Tz, clock: Arc<dyn Clock>) -> Self {
        Self { network, profile, timezone, clock, factor: AtomicU64::new(1.0_f64.to_bits()) }
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// How much longer everything takes than the profile says.
    pub fn set_factor(&self, factor: f64) {
        self.factor.store(factor.to_bits(), Ordering::Relaxed);
    }

    fn conditions(&self) -> Conditions<'_> {
        let now = DateTime::from_timestamp_micros(self.clock.now().micros()).unwrap_or_default();
        let hour = now.with_timezone(&self.timezone).hour() as usize;
        Conditions { profile: &self.profile, hour, factor: f64::from_bits(self.factor.load(Ordering::Relaxed)) }
    }

    fn snap(&self, what: &'static str, place: Place) -> Result<Snapped, Error> {
        self.network.snap(place).ok_or(Error::NoRoad { what, place })
    }

    fn way(&self, from: Place, to: Place) -> Result<Route, Error> {
        let (start, end) = (self.snap("pickup", from)?, self.snap("destination", to)?);
        let path = self.network.path(start, end).ok_or(Error::NoWay { from, to })?;
        Ok(Route {
            distance_m: self.network.length_m(&path),
            seconds: self.network.seconds(&path, &self.conditions()),
            line: polyline::encode(&self.network.line(&path)),
        })
    }

    fn times(&self, from: &[Place], to: Place) -> Result<Vec<Option<f64>>, Error> {
        let end = self.snap("pickup", to)?;
        let from: Vec<_> = from.iter().map(|place| self.network.snap(*place)).collect();
        Ok(self.network.table(&from, end, &self.conditions()))
    }
}

impl Routes for Road {
    fn route(&self, from: Place, to: Place) -> BoxFuture<'_, Result<Route, Error>> {
        // A fraction of a millisecond: not worth another thread.
        let way = self.way(from, to);
        Box::pin(async move { way })
    }

    fn table<'a>(&'a self, from: &'a [Place], to: Place) -> BoxFuture<'a, Result<Vec<Option<f64>>, Error>> {
        let times = self.times(from, to);
        Box::pin(async move { times })
    }
}
