//! The one door in front of all APIs.
//!
//! Requests take one way through named phases (`pipeline`), served by threads that share nothing they would have to wait
//! for (`engine`). What a config file says (`spec`) is compiled into a [`snapshot::Snapshot`], which never changes and is
//! swapped whole; one that is wrong is refused with its line, and the last good one stays.
//!
//! Invariants:
//! - No byte of a request reaches an upstream before the framing of its head had one meaning only (`domain::framing`).
//! - A route is chosen by the same spelling of a path that the upstream is asked for (`domain::path`).
//! - Headers that say who asks are the gateway's own; a caller's are taken away.
//! - A request is sent again only where nothing of it was sent, or where its method is idempotent and it has no body.
//! - Every request is counted and, unless sampled out, logged: answered, refused, broken off or abandoned.

mod access_log;
pub mod aggregate;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
mod error;
mod http;
mod jobs;
pub mod limit;
pub mod mapping;
pub mod metrics;
pub mod openapi;
mod pipeline;
pub mod snapshot;
pub mod spec;
pub mod tallies;
pub mod tls;
pub mod transcode;
pub mod upstream;
pub mod validate;
pub mod versions;

use std::path::Path;
use std::sync::Arc;

use tessera_service::{Component, Deps, Ready, Task, client};
use tokio::runtime::Handle;
use tokio::time::Instant;

use app::Reloader;
use auth::Fetcher;
use engine::{Engine, Shared};
use limit::Connections;
use metrics::Metrics;
use snapshot::{Lasting, Snapshot};
use spec::{Environment, load_file};

pub use error::{CODES, Error, Side};

/// A gateway that serves.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its workers.
    pub engine: Arc<Engine>,
    /// Reads its config again.
    pub reloader: Arc<Reloader>,
}

impl Gateway {
    /// Opens the listeners of a config file and serves by it.
    ///
    /// # Errors
    /// [`Error::Config`] with line and reason, [`Error::Listener`].
    pub fn open(file: &Path, deps: &Deps, environment: Environment) -> Result<Self, Error> {
        let (engine, lasting) = start(file, deps, &environment)?;
        let engine = Arc::new(engine);
        for address in engine.addresses() {
            tracing::info!(%address, "the gateway listens");
        }
        let reloader = Arc::new(Reloader::new(engine.clone(), file.to_owned(), environment, lasting));
        Ok(Self { engine, reloader })
    }

    /// The admin API and the loops, which end the gateway when they are stopped.
    pub fn component(self, deps: &Deps) -> Component {
        let Self { engine, reloader } = self;
        let admin = http::Admin { engine: engine.clone(), reloader: reloader.clone(), keys: deps.keys.clone() };
        Component::new("gateway", "/gateway")
            .router(http::router(admin))
            .ready(Ready::always())
            .task(Task::new("gateway-reload", move |stop| jobs::follow(reloader, stop)))
            .task(Task::new("gateway-proxy", move |stop| async move {
                stop.cancelled().await;
                engine.stop().await;
                Ok(())
            }))
    }
}

/// The component of the gateway. Without a config file in the settings it listens nowhere and does nothing.
///
/// # Errors
/// As [`Gateway::open`].
pub fn build(config: &config::Config, deps: &Deps, environment: Environment) -> Result<Vec<Component>, Error> {
    let Some(file) = &config.file else { return Ok(vec![Component::new("gateway", "/gateway")]) };
    Ok(vec![Gateway::open(file, deps, environment)?.component(deps)])
}

/// An engine that serves by this file.
fn start(file: &Path, deps: &Deps, environment: &Environment) -> Result<(Engine, Lasting), Error> {
    let loaded = load_file(file, environment)?;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = loaded.gateway.workers.unwrap_or_else(cores);
    let metrics = Metrics::new(workers);
    let lasting = Lasting { limiters: Arc::default(), metrics: metrics.clone() };
    let snapshot = Snapshot::build(&loaded, None, &lasting)?;
    let client = client::build().map_err(|error| Error::Internal(error.to_string()))?;
    let connections = Arc::new(Connections::default());
    metrics.register(&deps.metrics, connections.clone());
    let shared = Shared {
        clock: deps.clock.clone(),
        ids: deps.ids.clone(),
        metrics,
        connections,
        requests: Arc::default(),
        fetcher: Fetcher::new(Handle::current(), client),
        began: Instant::now(),
    };
    Ok((Engine::start(shared, snapshot, workers)?, lasting))
}
