//! No map: the line over the earth, longer and slower by stated factors. Road time over straight line varies from 1.1 to more than
//! 2.5 in a town, so an estimate of it is a rough one, and the answers say so.

use futures::future::BoxFuture;
use tessera_kernel::Place;

use super::{Route, Routes, polyline};
use crate::Error;

/// How much longer the road is than the line.
pub const DETOUR: f64 = 1.4;
/// Over the road, metres a second: 28 km/h.
pub const SPEED: f64 = 7.8;

/// Routes without a map.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crow;

impl Routes for Crow {
    fn route(&self, from: Place, to: Place) -> BoxFuture<'_, Result<Route, Error>> {
        let distance_m = from.distance_m(to) * DETOUR;
        let line = polyline::encode(&[from, to]);
        Box::pin(async move { Ok(Route { distance_m, seconds: distance_m / SPEED, line }) })
    }

    fn table<'a>(&'a self, from: &'a [Place], to: Place) -> BoxFuture<'a, Result<Vec<Option<f64>>, Error>> {
        Box::pin(async move { Ok(from.iter().map(|from| Some(from.distance_m(to) * DETOUR / SPEED)).collect()) })
    }
}
