//! `tessera demo-api`: the API of a shop that does not exist, to learn with, for the demo, and for tests.
//!
//! It serves ten resources, each paged another way, with late updates, deletions, schema drift, rate limits and, on
//! request, faults. Every row is computed from the seed and the moment asked about, none is stored: two servers with the same options
//! and the same clock answer alike, and a million orders cost no memory. What is kept is counters and the faults in force.
//!
//! The shop's past, two years of it, ends at `opened_at`. From then on it grows by `growth` orders a minute, whose life goes on in
//! minutes, and old orders are corrected and deleted; with `growth` 0 it stands still at its opening. How a list sorted by
//! `updated_at` is computable is told in `stream.rs`. `GET /_truth` says what a faithful copy has to hold.

mod args;
mod asked;
mod auth;
mod calendar;
mod draw;
mod faults;
mod gate;
mod lifecycle;
mod make;
mod openapi;
mod problem;
mod routes;
mod rows;
mod shop;
mod stream;
#[cfg(test)]
mod tests;
mod truth;
mod words;

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tessera_kernel::{Clock, Timestamp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use args::{DemoApiArgs, Error};
pub use faults::{Faults, RetryAfter};

use gate::Traffic;
use problem::Problem;
use shop::Shop;

/// How long open connections have to finish after a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// What the shop is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Another seed is another shop.
    pub seed: u64,
    /// Customers at the opening; they grow by a tenth of `growth`.
    pub customers: u64,
    /// Products, always the same.
    pub products: u64,
    /// Orders at the opening.
    pub orders: u64,
    /// When growth begins; the past lies before it. Cut to the second.
    pub opened_at: Timestamp,
    /// New orders per minute from the opening on; 0 is a shop that stands still at its opening.
    pub growth: u32,
    /// Whether credentials are asked for.
    pub auth: bool,
    /// Requests per second over all clients, no limit where none.
    pub rate_limit: Option<u32>,
    /// How long every answer takes at least.
    pub latency: Duration,
    /// What goes wrong.
    pub faults: Faults,
}

impl Default for Options {
    /// Seed 1, 500 customers, 200 products and 10,000 orders, opened on 2026-01-01, standing still, open to all.
    fn default() -> Self {
        Self {
            seed: 1,
            customers: 500,
            products: 200,
            orders: 10_000,
            opened_at: Timestamp::from_micros(1_767_225_600_000_000),
            growth: 0,
            auth: false,
            rate_limit: None,
            latency: Duration::ZERO,
            faults: Faults::default(),
        }
    }
}

/// The server's state; clones share it.
#[derive(Clone)]
pub struct DemoApi(Arc<Inner>);

/// What the clones share.
struct Inner {
    shop: Shop,
    options: Options,
    clock: Arc<dyn Clock>,
    faults: RwLock<Arc<Faults>>,
    traffic: Traffic,
}

impl DemoApi {
    /// A shop by these options, whose present is the clock's.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let shop = Shop::new(&options);
        let faults = RwLock::new(Arc::new(options.faults.clone()));
        Self(Arc::new(Inner { shop, options, clock, faults, traffic: Traffic::default() }))
    }

    /// Replaces the faults in force, as `POST /_faults` does.
    pub fn set_faults(&self, faults: Faults) {
        *self.0.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
    }

    fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.0.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The moment that the shop shows now.
    fn present(&self) -> i64 {
        self.0.shop.present(self.0.clock.now().micros())
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let data = Router::new()
            .route("/customers", get(routes::customers))
            .route("/customers/{id}", get(routes::customer))
            .route("/orders", get(routes::orders))
            .route("/orders/search", post(routes::search))
            .route("/orders/{id}", get(routes::order))
            .route("/orders/{id}/items", get(routes::items))
            .route("/products", get(routes::products))
            .route("/products/{id}", get(routes::product))
            .route("/payments", get(routes::payments))
            .route("/refunds", get(routes::refunds))
            .route("/shipments", get(routes::shipments))
            .route("/reviews", get(routes::reviews))
            .route("/events", get(routes::events))
            .route("/stock.csv", get(routes::stock))
            .route("/stock.csv.gz", get(routes::stock_gz))
            .route("/countries", get(routes::countries))
            .route_layer(from_fn_with_state(self.clone(), gate::gate));
        Router::new()
            .merge(data)
            .route("/", get(openapi::index))
            .route("/openapi.json", get(openapi::document))
            .route("/oauth/token", post(auth::oauth_token))
            .route("/session", post(auth::login))
            .route("/_truth", get(truth::truth))
            .route("/_faults", get(gate::show_faults).post(gate::set_faults))
            .route("/_stats", get(gate::stats).delete(gate::reset_stats))
            .fallback(async |uri: axum::http::Uri| Problem::missing(format!("nothing is at `{}`; see /", uri.path())))
            .with_state(self.clone())
    }
}

/// Serves until `shutdown` is done; then open requests have five seconds to finish.
///
/// # Errors
/// Those of accepting connections.
pub async fn serve(
    listener: TcpListener,
    api: DemoApi,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let stopping = CancellationToken::new();
    let listener = listener.tap_io(|connection| {
        // Without it small answers wait for more to send; a connection that refuses it is merely slower.
        let _ = connection.set_nodelay(true);
    });
    let told = stopping.clone();
    let serving = axum::serve(listener, api.router()).with_graceful_shutdown(async move {
        shutdown.await;
        told.cancel();
    });
    let drained = async {
        stopping.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { serving.await } => served,
        () = drained => Ok(()),
    }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
