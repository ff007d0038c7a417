//! Fare estimates, drivers' live locations, one driver for one rider, trips.
//!
//! What holds, always:
//! - A driver has at most one open offer or ride, and a ride at most one driver: both are keys of the table `bindings`.
//!   Claims, positions and the streams may lie, lag or be lost.
//! - A step of a ride is one conditional commit under the lock of its row; an acceptance names ride, driver and offer, and an
//!   offer is written only under a later claim than the driver's last one.
//! - No ride is stuck: what waits for a driver, an answer or a request has a time at which it moves on.

pub mod app;
pub mod config;
pub mod domain;
mod error;
pub mod http;
pub mod jobs;
pub mod judge;
pub mod locations;
pub mod network;
pub mod push;
pub mod routes;
pub mod store;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tessera_service::{Component, Deps, Task};
use tessera_store::claims::{Claims, RedisClaims};
use tessera_store::redis::Redis;
use tessera_store::{sql, writer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::locations::{Locations, Refusals};
use crate::network::Network;
use crate::routes::{Crow, Osrm, Road, Routes, Valhalla};

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

/// What of rides a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The API and its streams.
    Api,
    /// Taking positions.
    Locations,
    /// Matching, and what happens by time alone.
    Matcher,
}

/// Opens the stores and gives the parts of the service: its API, and its loops.
///
/// # Errors
/// [`BuildError`]; nothing was started.
pub async fn build(config: &config::Config, deps: &Deps, part: Part) -> Result<Vec<Component>, BuildError> {
    let refused = |key: &'static str, error: Error| BuildError::Setting {
        key,
        value: "what it is".to_owned(),
        reason: error.to_string(),
    };
    if part != Part::Whole {
        shared(config)?;
    }
    let default = || format!("sqlite:{}", deps.data_dir.join("rides.db").display());
    let url = config.store.clone().unwrap_or_else(default);
    let metrics = writer::Metrics::default();
    deps.metrics.register(|registry| metrics.register("rides", registry));
    let store = store::Store::open(&url, Arc::clone(&deps.clock), config.tariff.clone(), metrics).await;
    let store = store.map_err(|error| refused(config::Config::STORE, error))?;
    let open_redis =
        async |key: &'static str, url: &str| Redis::open(url).await.map_err(|error| refused(key, error.into()));
    let claims: Arc<dyn Claims> = match &config.redis {
        Some(url) => Arc::new(RedisClaims::new(open_redis(config::Config::REDIS, url).await?, "rides")),
        None => store.claims(),
    };
    let locations = match &config.locations {
        Some(url) => {
            let redis = open_redis(config::Config::LOCATIONS, url).await?;
            Locations::in_redis(redis, config.intervals.clone())
        }
        None => Locations::in_memory(config.intervals.clone(), deps.clock.now()),
    };
    let client = tessera_service::client::build()
        .map_err(|error| Error::Setting { reason: format!("no HTTP client can be made: {error}") })?;
    let Ways { routes, road, map } = match part {
        // It needs no roads, and a city of them takes memory.
        Part::Locations => Ways::none(),
        _ => open_routes(config, deps, &client, part)?,
    };
    let refusals = Refusals::default();
    deps.metrics.register(|registry| refusals.register(registry));
    let app = app::App::new(app::Parts {
        store,
        claims,
        locations,
        routes,
        keys: deps.keys.clone(),
        config: config.clone(),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        refusals,
    });
    let services = push::Services::open(&config.push, &deps.clock).map_err(|(key, reason)| BuildError::Setting {
        key,
        value: "what it is".to_owned(),
        reason,
    })?;
    let map = http::map_router(map);
    let loops = Loops::default();
    let mut components = components(&app, part, client, map, config.traffic.clone().zip(road), &loops);
    // Each process tells what it commits.
    if part != Part::Locations && !services.is_empty() {
        components.push(push(&app, services, deps, &loops));
    }
    Ok(components)
}

/// The loops that use the database, which is closed when all of them have ended.
#[derive(Default)]
struct Loops(TaskTracker);

impl Loops {
    fn task<F, R>(&self, name: &'static str, run: F) -> Task
    where
        F: FnOnce(CancellationToken) -> R + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let in_use = self.0.token();
        Task::new(name, move |stop| {
            let running = run(stop);
            async move {
                let _in_use = in_use;
                running.await
            }
        })
    }

    /// Closes the database after all of them, which the same stop ends.
    fn close(&self, store: store::Store) -> Task {
        let loops = self.0.clone();
        Task::new("database-close", move |stop| async move {
            stop.cancelled().await;
            loops.close();
            loops.wait().await;
            store.close().await;
            Ok(())
        })
    }
}

/// Tells changes of rides to the phones of those whom they concern.
fn push(app: &app::App, services: push::Services, deps: &Deps, loops: &Loops) -> Component {
    let metrics = push::Metrics::default();
    deps.metrics.register(|registry| metrics.register(registry));
    let (outbox, notes) = jobs::push::outbox(metrics.clone());
    app.store.on_change(move |ride, freed| outbox.tell(ride, freed));
    let (store, clock) = (app.store.clone(), Arc::clone(&deps.clock));
    let sending = jobs::push::Sending { store, services, clock, metrics };
    Component::new("rides-push", "/rides").task(loops.task("push", move |stop| jobs::push::run(sending, notes, stop)))
}

/// The routes and loops of a part.
fn components(
    app: &app::App,
    part: Part,
    client: reqwest::Client,
    map: axum::Router,
    traffic: Option<(String, Arc<Road>)>,
    loops: &Loops,
) -> Vec<Component> {
    let new = |name: &'static str| Component::new(name, "/rides");
    let matcher = || {
        let (matching, ending, comparing) = (app.clone(), app.clone(), app.clone());
        new("rides-matcher")
            .task(loops.task("match", move |stop| jobs::matcher::run(matching, stop)))
            .task(loops.task("due", move |stop| jobs::due::run(ending, stop)))
            .task(loops.task("duty", move |stop| jobs::duty::run(comparing, stop)))
    };
    let main = match part {
        Part::Whole | Part::Api => {
            let counting = app.clone();
            let api = new("rides-api").router(http::router(app.clone()).merge(map)).openapi(http::openapi());
            api.task(loops.task("demand", move |stop| jobs::demand::run(counting, stop)))
        }
        Part::Locations => new("rides-locations").router(http::locations_router(app.clone())),
        Part::Matcher => matcher(),
    };
    // What each process needs, whatever it does.
    let following = app.clone();
    let mut main = main.task(loops.close(app.store.clone()));
    if part != Part::Locations {
        main = main.task(loops.task("follow", move |stop| jobs::follow::run(following, stop)));
    }
    if let Some((url, road)) = traffic {
        main = main.task(loops.task("traffic", move |stop| jobs::traffic::run(client, url, road, stop)));
    }
    let mut components = vec![main];
    if part == Part::Whole {
        components.push(matcher());
    }
    components
}

/// Refuses a part alone where what the parts share is in one process's hands.
fn shared(config: &config::Config) -> Result<(), BuildError> {
    let refused = |key: &'static str, value: &Option<String>, form: &str, variable: &str| BuildError::Setting {
        key,
        value: value
            .as_ref()
            .map_or_else(|| "left out".to_owned(), |value| format!("`{}`", sql::without_password(value))),
        reason: format!(
            "a role that is a part of rides shares it with the others; set it to {form} ({variable}), or run all of them with `tessera serve rides`"
        ),
    };
    if !config.store.as_ref().is_some_and(|url| url.starts_with("postgres")) {
        return Err(refused(config::Config::STORE, &config.store, "postgres://user@host/db", "TESSERA__RIDES__STORE"));
    }
    if config.locations.is_none() {
        let (form, variable) = ("redis://host:6379", "TESSERA__RIDES__LOCATIONS");
        return Err(refused(config::Config::LOCATIONS, &config.locations, form, variable));
    }
    Ok(())
}

/// What answers for ways, and what maps are drawn of.
struct Ways {
    routes: Arc<dyn Routes>,
    /// The same as `routes`, where the network is ours.
    road: Option<Arc<Road>>,
    map: Option<Arc<Network>>,
}

impl Ways {
    fn none() -> Self {
        Self { routes: Arc::new(Crow), road: None, map: None }
    }
}

/// Opens what the settings name.
fn open_routes(config: &config::Config, deps: &Deps, client: &reqwest::Client, part: Part) -> Result<Ways, BuildError> {
    let refused = |key: &'static str, value: &str, reason: String| BuildError::Setting {
        key,
        value: format!("`{value}`"),
        reason,
    };
    let timezone = config.timezone.parse().map_err(|_| {
        refused(config::Config::TIMEZONE, &config.timezone, "write a name such as Europe/Lisbon".into())
    })?;
    if let Some(routes) = &config.routes {
        let engine: Option<Arc<dyn Routes>> = match routes.split_once(':') {
            Some((_, base)) if !base.starts_with("http") => None,
            Some(("osrm", base)) => Some(Arc::new(Osrm::new(client.clone(), base))),
            Some(("valhalla", base)) => Some(Arc::new(Valhalla::new(client.clone(), base))),
            _ => None,
        };
        let remedy = "write the engine and its address, osrm:http://localhost:5000 or valhalla:http://localhost:8002";
        let routes = engine.ok_or_else(|| refused(config::Config::ROUTES, routes, remedy.into()))?;
        // The engine has no picture of its roads; who serves pages draws them by ours.
        let map = if part == Part::Matcher { None } else { open_network(config, deps)? };
        return Ok(Ways { routes, road: None, map });
    }
    let Some(network) = open_network(config, deps)? else { return Ok(Ways::none()) };
    let profile = domain::traffic::Profile::default();
    let road = Arc::new(Road::new(Arc::clone(&network), profile, timezone, Arc::clone(&deps.clock)));
    Ok(Ways { routes: Arc::clone(&road) as Arc<dyn Routes>, road: Some(road), map: Some(network) })
}

/// The network that is named, or the one in the data folder, if any.
fn open_network(config: &config::Config, deps: &Deps) -> Result<Option<Arc<Network>>, BuildError> {
    let city = deps.data_dir.join(CITY);
    let path = match &config.network {
        Some(path) => PathBuf::from(path),
        None if city.exists() => city,
        None => return Ok(None),
    };
    let network = Network::load(&path).map_err(|error| BuildError::Setting {
        key: config::Config::NETWORK,
        value: format!("`{}`", path.display()),
        reason: error.to_string(),
    })?;
    Ok(Some(Arc::new(network)))
}
