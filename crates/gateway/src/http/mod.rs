//! The admin API: on the process's own port, for callers with the role `admin` or `operator`.

mod cache;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tessera_service::{Identity, Keys, Problem};

use crate::Error;
use crate::app::changes::Change;
use crate::app::{Reloader, explain};
use crate::engine::Engine;
use crate::upstream::Upstream;

/// Who may look and act.
const ROLES: &[&str] = &["operator"];

/// What the admin API works on.
#[derive(Clone)]
pub struct Admin {
    /// The workers.
    pub engine: Arc<Engine>,
    /// Reads the config again.
    pub reloader: Arc<Reloader>,
    /// Who asks.
    pub keys: Keys,
}

impl axum::extract::FromRef<Admin> for Keys {
    fn from_ref(admin: &Admin) -> Self {
        admin.keys.clone()
    }
}

/// Its routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/gateway/status", get(status))
        .route("/gateway/routes", get(routes))
        .route("/gateway/upstreams", get(upstreams))
        .route("/gateway/config", get(config))
        .route("/gateway/upstreams/{name}/drain", post(drain))
        .route("/gateway/reload", post(reload))
        .route("/gateway/cache", get(cache::sizes))
        .route("/gateway/cache/purge", post(cache::purge))
        .with_state(admin)
}

#[derive(Serialize)]
struct Status {
    config_number: u64,
    /// Why the file as it is now was refused, where it was.
    config_refused: Option<String>,
    listeners: Vec<String>,
    connections: u32,
    routes: usize,
    /// Requests refused since the start because there were too many: by rate, at once, or all together.
    limits_hit: u64,
    /// Requests since the start on routes with a cache, where there are any.
    cache: Option<Cached>,
    /// Upper bounds of the buckets of routes, in milliseconds; the last bucket has none.
    bounds_ms: Vec<f64>,
}

async fn status(identity: Identity, State(admin): State<Admin>) -> Result<Json<Status>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    Ok(Json(Status {
        config_number: snapshot.number,
        config_refused: admin.reloader.refusal(),
        listeners: snapshot.listeners.iter().map(|(address, _)| address.clone()).collect(),
        connections: admin.engine.shared().connections.count(),
        routes: snapshot.routes.len(),
        limits_hit: admin.engine.shared().metrics.limits_hit(),
        cache: cached(&snapshot),
        bounds_ms: crate::metrics::bounds_ms(),
    }))
}

#[derive(Serialize)]
struct Cached {
    /// Answered with what was kept, or what another had fetched at the same time.
    hits: u64,
    /// All.
    requests: u64,
}

fn cached(snapshot: &crate::snapshot::Snapshot) -> Option<Cached> {
    snapshot.cache.as_ref()?;
    let counted = snapshot.routes.iter().filter_map(|route| route.cache.as_ref()).map(|caching| caching.counted());
    let (hits, requests) = counted.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Some(Cached { hits, requests })
}

#[derive(Serialize)]
struct Config {
    number: u64,
    /// Secrets are starred.
    config: serde_json::Value,
    /// What it changed.
    changed: Vec<Change>,
}

async fn config(identity: Identity, State(admin): State<Admin>) -> Result<Json<Config>, Problem> {
    identity.require(ROLES)?;
    let number = admin.engine.snapshot().number;
    let (config, changed) = admin.reloader.config();
    Ok(Json(Config { number, config, changed }))
}

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Serialize)]
struct RouteRow {
    name: String,
    path: String,
    to: String,
    requests: u64,
    client_errors: u64,
    server_errors: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Answers by how long they took.
    buckets: Vec<u64>,
    /// Bounds of buckets: at most so long.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

async fn routes(identity: Identity, State(admin): State<Admin>) -> Result<Json<Items<RouteRow>>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    let row = |route: &crate::snapshot::Route| {
        let sums = route.stats.sums();
        RouteRow {
            name: route.name.to_string(),
            path: route.spec.matcher.path.clone(),
            to: explain::target(route),
            requests: sums.count(),
            client_errors: sums.by_class[4],
            server_errors: sums.by_class[5],
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            buckets: sums.buckets.to_vec(),
            p50_ms: sums.percentile_ms(50),
            p99_ms: sums.percentile_ms(99),
        }
    };
    Ok(Json(Items { items: snapshot.routes.iter().map(row).collect() }))
}

#[derive(Serialize)]
struct UpstreamRow {
    name: String,
    requests_at_once: u32,
    breaker_open: bool,
    in_process: bool,
    endpoints: Vec<EndpointRow>,
}

#[derive(Serialize)]
struct EndpointRow {
    url: String,
    weight: u32,
    well: bool,
    drained: bool,
    paused: bool,
    requests_at_once: u32,
    expected_ms: f64,
}

async fn upstreams(identity: Identity, State(admin): State<Admin>) -> Result<Json<Items<UpstreamRow>>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    let now_us = u64::try_from(admin.engine.shared().began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let row = |upstream: &Arc<Upstream>| {
        let endpoints = upstream.endpoints();
        let endpoint = |endpoint: &Arc<crate::upstream::Endpoint>| EndpointRow {
            url: endpoint.url.to_string(),
            weight: endpoint.weight,
            well: endpoint.is_well(),
            drained: endpoint.is_drained(),
            paused: endpoint.is_well() && endpoint.standing(now_us) == crate::upstream::Standing::Away,
            requests_at_once: endpoint.in_flight(),
            expected_ms: endpoint.expected_us() as f64 / 1_000.0,
        };
        UpstreamRow {
            name: upstream.name.to_string(),
            requests_at_once: upstream.in_flight(),
            breaker_open: upstream.is_broken(),
            in_process: upstream.spec.in_process,
            endpoints: endpoints.iter().map(endpoint).collect(),
        }
    };
    Ok(Json(Items { items: snapshot.upstreams.values().map(row).collect() }))
}

/// An endpoint to be drained, or to be used again.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// As in the config file.
    url: String,
    /// Whether it gets no new requests.
    drained: bool,
}

async fn drain(
    identity: Identity,
    State(admin): State<Admin>,
    Path(name): Path<String>,
    tessera_service::http::Json(drain): tessera_service::http::Json<Drain>,
) -> Result<Json<Items<EndpointState>>, Problem> {
    identity.require(ROLES)?;
    let snapshot = admin.engine.snapshot();
    let known: Vec<&str> = snapshot.upstreams.keys().map(String::as_str).collect();
    let missing = || Error::NotFound(format!("there is no upstream `{name}`; there are {}", known.join(", ")));
    let upstream = snapshot.upstreams.get(&name).ok_or_else(missing)?;
    let endpoints = upstream.endpoints();
    let found = endpoints.iter().find(|endpoint| endpoint.url.to_string() == drain.url.trim_end_matches('/'));
    let missing = || Error::NotFound(format!("upstream `{name}` has no endpoint `{}`", drain.url));
    found.ok_or_else(missing)?.drain(drain.drained);
    tracing::info!(
        upstream = name,
        endpoint = drain.url,
        drained = drain.drained,
        "an endpoint was drained or taken back"
    );
    let state = |endpoint: &Arc<crate::upstream::Endpoint>| EndpointState {
        url: endpoint.url.to_string(),
        drained: endpoint.is_drained(),
        requests_at_once: endpoint.in_flight(),
    };
    Ok(Json(Items { items: endpoints.iter().map(state).collect() }))
}

#[derive(Serialize)]
struct EndpointState {
    url: String,
    drained: bool,
    requests_at_once: u32,
}

#[derive(Serialize)]
struct Reloaded {
    config_number: u64,
    routes: usize,
}

async fn reload(identity: Identity, State(admin): State<Admin>) -> Result<Json<Reloaded>, Problem> {
    identity.require(ROLES)?;
    let reloaded = admin.reloader.reload().await?;
    Ok(Json(Reloaded { config_number: reloaded.number, routes: reloaded.routes }))
}
