//! How far it is by road, and how long it takes: the network in memory, an engine over HTTP, or the bare distance.

mod crow;
mod osrm;
pub mod polyline;
mod remote;
mod road;
mod valhalla;

use futures::future::BoxFuture;
use tessera_kernel::Place;

use crate::Error;

pub use crow::Crow;
pub use osrm::Osrm;
pub use road::Road;
pub use valhalla::Valhalla;

/// A way by road.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Metres.
    pub distance_m: f64,
    /// Seconds, at this hour and traffic.
    pub seconds: f64,
    /// An encoded polyline, precision 5.
    pub line: String,
}

/// An engine of routes. Each call is one question.
pub trait Routes: Send + Sync {
    /// The way from one place to another.
    ///
    /// # Errors
    /// [`Error::NoRoad`], [`Error::NoWay`], [`Error::Routes`].
    fn route(&self, from: Place, to: Place) -> BoxFuture<'_, Result<Route, Error>>;

    /// Seconds from each place to one; `None` where there is no way.
    ///
    /// # Errors
    /// [`Error::NoRoad`] for the place where all go, [`Error::Routes`].
    fn table<'a>(&'a self, from: &'a [Place], to: Place) -> BoxFuture<'a, Result<Vec<Option<f64>>, Error>>;
}
