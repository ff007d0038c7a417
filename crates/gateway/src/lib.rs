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
pub mod cache;
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
use std::time::Duration;

use tessera_service::{Component, Deps, Ready, Task, client};
use tokio::runtime::Handle;
use tokio::time::Instant;

use app::{Certificates, Reloader};
use auth::Fetcher;
use engine::{Engine, LOG_PATIENCE, Shared};
use limit::Connections;
use metrics::Metrics;
use snapshot::{Lasting, Snapshot};
use spec::{Environment, load_file};

pub use error::{CODES, Error, Side};

/// A gateway that begins is ready after so long, whatever it could not learn.
const LONGEST_SETTLING: Duration = Duration::from_secs(30);

/// A gateway that serves.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its workers.
    pub engine: Arc<Engine>,
    /// Reads its config again.
    pub reloader: Arc<Reloader>,
    /// Has certificates issued.
    pub certificates: Arc<Certificates>,
}

impl Gateway {
    /// Opens the listeners of a config file and serves by it.
    ///
    /// # Errors
    /// [`Error::Config`] with line and reason, [`Error::Listener`].
    pub fn open(file: &Path, deps: &Deps, environment: Environment) -> Result<Self, Error> {
        Self::open_within(file, deps, environment, None)
    }

    /// As [`Gateway::open`]; a stop takes no longer than `stop_deadline`, whatever `limits.drain` says.
    ///
    /// # Errors
    /// As [`Gateway::open`].
    pub fn open_within(
        file: &Path,
        deps: &Deps,
        environment: Environment,
        stop_deadline: Option<Duration>,
    ) -> Result<Self, Error> {
        let longest_drain = stop_deadline.map(|deadline| deadline.saturating_sub(2 * LOG_PATIENCE));
        let (engine, lasting) = start(file, deps, &environment, longest_drain)?;
        let engine = Arc::new(engine);
        for address in engine.addresses() {
            tracing::info!(%address, "the gateway listens");
        }
        let certificates = Arc::new(Certificates::new(engine.clone()));
        let reloader = Arc::new(Reloader::new(engine.clone(), file.to_owned(), environment, lasting));
        Ok(Self { engine, reloader, certificates })
    }

    /// The admin API and the loops, which end the gateway when they are stopped.
    pub fn component(self, deps: &Deps) -> Component {
        let Self { engine, reloader, certificates } = self;
        let settling = engine.clone();
        let admin = http::Admin { engine: engine.clone(), reloader: reloader.clone(), keys: deps.keys.clone() };
        Component::new("gateway", "/gateway")
            .router(http::router(admin))
            .ready(Ready::check(move || is_settled(&settling)))
            .task(Task::new("gateway-reload", move |stop| jobs::follow(reloader, stop)))
            .task(
                Task::new("gateway-proxy", move |stop| async move {
                    stop.cancelled().await;
                    engine.stop().await;
                    Ok(())
                })
                .front(),
            )
            .task(Task::new("gateway-certificates", move |stop| jobs::renew(certificates, stop)))
    }
}

/// A gateway that begins waits for what it learns of upstreams from others, but not for one that cannot be had.
fn is_settled(engine: &Engine) -> Result<(), String> {
    if engine.shared().began.elapsed() > LONGEST_SETTLING {
        return Ok(());
    }
    let snapshot = engine.snapshot();
    if let Some(upstream) = snapshot.upstreams.values().find(|upstream| !upstream.is_found()) {
        return Err(format!("the endpoints of upstream `{}` are looked for", upstream.name));
    }
    let is_unknown = |route: &&snapshot::Route| route.transcoder.as_ref().is_some_and(|known| !known.is_described());
    match snapshot.routes.iter().find(is_unknown) {
        Some(route) => Err(format!("the service of route `{}` is asked to describe itself", route.name)),
        None => Ok(()),
    }
}

/// An engine that serves by this file.
fn start(
    file: &Path,
    deps: &Deps,
    environment: &Environment,
    longest_drain: Option<Duration>,
) -> Result<(Engine, Lasting), Error> {
    let loaded = load_file(file, environment)?;
    let drain = loaded.gateway.limits.drain.0;
    if longest_drain.is_some_and(|longest| drain > longest) {
        let longest_s = longest_drain.unwrap_or_default().as_secs();
        tracing::warn!(
            drain_s = drain.as_secs(),
            longest_s,
            "limits.drain is longer than a stop may take and is cut short; raise http.stop_deadline_s"
        );
    }
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = loaded.gateway.workers.unwrap_or_else(cores);
    let metrics = Metrics::new(workers);
    let lasting = Lasting { limiters: Arc::default(), metrics: metrics.clone(), acme: Arc::default() };
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
        keys: deps.keys.clone(),
        inside: deps.inside.clone(),
        runtime: Handle::current(),
        began: Instant::now(),
        tracer: engine::tracer().map(Arc::new),
        longest_drain,
        sockets: deps.sockets.clone(),
    };
    Ok((Engine::start(shared, snapshot, workers)?, lasting))
}
