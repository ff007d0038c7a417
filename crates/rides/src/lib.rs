//! Fare estimates, drivers' live locations, one driver for one rider, trips.
//!
//! What holds, always:
//! - A driver has at most one open offer or ride, and a ride at most one driver: both are keys of the table `bindings`.
//!   Claims, the index of positions and the streams may lie, lag or be lost.
//! - A step of a ride is one conditional commit under the lock of its row; an acceptance names ride, driver and offer, and an
//!   offer is written only under a later claim than the driver's last one.
//! - No ride is stuck: what waits for a driver, an answer or a request has a time at which it moves on.

pub mod app;
pub mod config;
pub mod domain;
mod error;
pub mod http;
pub mod jobs;
pub mod locations;
pub mod network;
pub mod routes;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;

use tessera_service::{Component, Deps, Task};
use tessera_store::claims::{Claims, RedisClaims};
use tessera_store::redis::Redis;
use tessera_store::writer;

use crate::locations::{Index, Refusals};
use crate::network::Network;
use crate::routes::{Crow, Osrm, Road, Routes};

pub use error::{CODES, Error};

/// The road network in the data folder, used where no other is named.
pub const CITY: &str = "city.roads";

/// Why the service was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting cannot be met.
    #[error("setting `{key}` cannot be {value}: {reason}")]
    Setting {
        /// The dotted key.
        key: &'static str,
        /// Its value, without secrets.
        value: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Something that was opened cannot be used.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Opens the stores and gives the parts of the service: its API, and its loops.
///
/// # Errors
/// [`BuildError`]; nothing was started.
pub async fn build(config: &config::Config, deps: &Deps) -> Result<Vec<Component>, BuildError> {
    let refused = |key: &'static str, error: Error| BuildError::Setting {
        key,
        value: "what it is".to_owned(),
        reason: error.to_string(),
    };
    let default = || format!("sqlite:{}", deps.data_dir.join("rides.db").display());
    let url = config.store.clone().unwrap_or_else(default);
    let metrics = writer::Metrics::default();
    deps.metrics.register(|registry| metrics.register("rides", registry));
    let store = store::Store::open(&url, Arc::clone(&deps.clock), config.tariff.clone(), metrics).await;
    let store = store.map_err(|error| refused(config::Config::STORE, error))?;
    let claims: Arc<dyn Claims> = match &config.redis {
        Some(url) => {
            let redis = Redis::open(url).await.map_err(|error| refused(config::Config::REDIS, error.into()))?;
            Arc::new(RedisClaims::new(redis, "rides"))
        }
        None => store.claims(),
    };
    let client = tessera_service::client::build()
        .map_err(|error| Error::Setting { reason: format!("no HTTP client can be made: {error}") })?;
    let (routes, road) = open_routes(config, deps, &client)?;
    let refusals = Refusals::default();
    deps.metrics.register(|registry| refusals.register(registry));
    let index = Arc::new(Index::new(config.intervals.clone(), deps.clock.now()));
    let app = app::App::new(app::Parts {
        store,
        claims,
        index,
        routes,
        keys: deps.keys.clone(),
        config: config.clone(),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        refusals,
    });
    app.resume().await?;
    let (matching, ending, counting, closing) = (app.clone(), app.clone(), app.clone(), app.clone());
    let mut jobs = Component::new("rides-matcher", "/rides")
        .task(Task::new("match", move |stop| jobs::matcher::run(matching, stop)))
        .task(Task::new("due", move |stop| jobs::due::run(ending, stop)))
        .task(Task::new("demand", move |stop| jobs::demand::run(counting, stop)))
        .task(Task::new("database-close", move |stop| async move {
            stop.cancelled().await;
            closing.store.close().await;
            Ok(())
        }));
    let map = http::map_router(road.as_ref().map(|road| Arc::clone(road.network())));
    if let (Some(url), Some(road)) = (config.traffic.clone(), road) {
        jobs = jobs.task(Task::new("traffic", move |stop| jobs::traffic::run(client, url, road, stop)));
    }
    let api = http::router(app).merge(map);
    Ok(vec![Component::new("rides-api", "/rides").router(api).openapi(http::openapi()), jobs])
}

/// The engine of routes, and the same as what it is where the network is ours.
type Engine = (Arc<dyn Routes>, Option<Arc<Road>>);

/// Opens what the settings name.
fn open_routes(config: &config::Config, deps: &Deps, client: &reqwest::Client) -> Result<Engine, BuildError> {
    let refused = |key: &'static str, value: &str, reason: String| BuildError::Setting {
        key,
        value: format!("`{value}`"),
        reason,
    };
    if let Some(routes) = &config.routes {
        let base = routes.strip_prefix("osrm:").filter(|base| base.starts_with("http"));
        let base = base.ok_or_else(|| {
            refused(config::Config::ROUTES, routes, "write `osrm:` and the address, osrm:http://localhost:5000".into())
        })?;
        return Ok((Arc::new(Osrm::new(client.clone(), base)), None));
    }
    let city = deps.data_dir.join(CITY);
    let path = match &config.network {
        Some(path) => PathBuf::from(path),
        None if city.exists() => city,
        None => return Ok((Arc::new(Crow), None)),
    };
    let timezone = config.timezone.parse().map_err(|_| {
        refused(config::Config::TIMEZONE, &config.timezone, "write a name such as Europe/Lisbon".into())
    })?;
    let network = Network::load(&path)
        .map_err(|error| refused(config::Config::NETWORK, &path.display().to_string(), error.to_string()))?;
    let profile = domain::traffic::Profile::default();
    let road = Arc::new(Road::new(Arc::new(network), profile, timezone, Arc::clone(&deps.clock)));
    Ok((Arc::clone(&road) as Arc<dyn Routes>, Some(road)))
}
