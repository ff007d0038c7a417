//! Events, search, seats, two-phase booking, waiting room. Never one seat to two people.
//!
//! What holds, always:
//! - A seat of an event has at most one row in `bookings`: its ticket id is the primary key. Correctness rests on nothing
//!   else; claims, caches, indexes and feeds may lie, lag or be lost.
//! - A booking names the token of the claim that it was made under, and is written only while that claim counts.
//! - Money and seats agree: every order ends booked and captured, failed without a charge, or refunded.

pub mod app;
pub mod config;
pub mod domain;
mod error;
pub mod http;
pub mod jobs;
mod metrics;
pub mod paper;
pub mod payment;
pub mod search;
pub mod seats;
pub mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::Clock;
use tessera_service::{Component, Deps, Task};
use tessera_store::claims::{Claims, RedisClaims};
use tessera_store::lines::{Lines, RedisLines};
use tessera_store::redis::Redis;
use tessera_store::writer;

pub use error::{CODES, Error};

/// The folder of the search index, in that of the data.
const INDEX: &str = "search";
/// How long the start may wait for the search index.
const FIRST_INDEX: Duration = Duration::from_secs(2);

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
    let url = database(config, &deps.data_dir);
    let metrics = writer::Metrics::default();
    deps.metrics.register(|registry| metrics.register("tickets", registry));
    let store = store::Store::open(&url, Arc::clone(&deps.clock), metrics).await;
    let store = store.map_err(|error| refused(config::Config::STORE, error))?;
    let metrics = writer::Metrics::default();
    deps.metrics.register(|registry| metrics.register("tickets_payments", registry));
    let clock = Arc::clone(&deps.clock);
    let payments = payment::open(&config.payments, &url, &deps.data_dir, clock, metrics).await;
    let payments = payments.map_err(|error| refused(config::Config::PAYMENTS, error))?;
    let redis = open_redis(config).await.map_err(|error| refused(config::Config::REDIS, error.into()))?;
    let lines: Arc<dyn Lines> = match &redis {
        Some(redis) => Arc::new(RedisLines::new(redis.clone(), "tickets")),
        None => store.lines(),
    };
    let app = app::App::new(app::Parts {
        payments: payments.provider,
        public_url: config.public_url.clone().unwrap_or_else(|| deps.base_url()),
        live: seats::Live::new(store.clone(), Arc::clone(&deps.clock)),
        store: store.clone(),
        claims: redis.map(|redis| Arc::new(RedisClaims::new(redis, "tickets")) as Arc<dyn Claims>),
        queues: app::queue::Queues::new(lines, deps.keys.clone()),
        keys: deps.keys.clone(),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        payment_window: Duration::from_secs(config.payment_window_s),
    });
    let router = http::router(app.clone()).merge(http::card_form::router(app.payments.name(), payments.form));
    let router = match payments.test {
        Some(test) => router.merge(http::test_payment::router(app.clone(), test)),
        None => router,
    };
    let folder = deps.data_dir.join(INDEX);
    let search: Arc<dyn search::Search> = Arc::new(search::Tantivy::open(&folder)?);
    let (mut indexer, indexed) = jobs::index::Indexer::new(store.search_source(), Arc::clone(&search));
    // Where there is little to index it is done before anyone asks; what is left is done, or tried again, by its loop.
    let _ = tokio::time::timeout(FIRST_INDEX, indexer.catch_up()).await;
    let searching = http::search::Searching::new(search, Arc::clone(&deps.clock));
    let (counts, searched, level) = (app.counting(), searching.counting(), indexer.level());
    let numbers = move || {
        let (pages, queues) = counts();
        metrics::Numbers { pages, searches: searched(), search_lag: level.lag(), queues }
    };
    let metrics = metrics::Metrics(Box::new(numbers));
    deps.metrics.register(|registry| registry.register_collector(Box::new(metrics)));
    let wake = jobs::seats::Wake::default();
    let (pulsing, following, watching, woken) = (app.clone(), app.clone(), app.clone(), Arc::clone(&wake));
    let (listening, closing) = (store.clone(), store);
    // What every process needs that answers requests.
    let mut components = vec![
        Component::new("tickets-api", "/events")
            .router(router)
            .quick(http::quick(app.clone()))
            .openapi(http::openapi())
            .task(Task::new("seat-pulse", move |stop| jobs::seats::pulse(pulsing, stop)))
            .task(Task::new("seat-follow", move |stop| jobs::seats::follow(following, woken, stop)))
            .task(Task::new("seat-listen", move |stop| jobs::seats::listen(listening, wake, stop)))
            .task(Task::new("queue-follow", move |stop| jobs::admit::follow(watching, stop)))
            .task(Task::new("database-close", move |stop| jobs::seats::close(closing, stop))),
        Component::new("tickets-search", "/search")
            .router(http::search::router(searching))
            .ready(indexed)
            .task(Task::new("search-index", move |stop| indexer.run(stop))),
    ];
    if config.jobs {
        let (settling, cancelling, admitting, sweeping) = (app.clone(), app.clone(), app.clone(), app);
        components.push(
            Component::new("tickets-jobs", "/events")
                .task(Task::new("order-settle", move |stop| jobs::settle::run(settling, stop)))
                .task(Task::new("event-refund", move |stop| jobs::cancel::run(cancelling, stop)))
                .task(Task::new("queue-admit", move |stop| jobs::admit::admit(admitting, stop)))
                .task(Task::new("sweep", move |stop| jobs::sweep::run(sweeping, stop))),
        );
    }
    Ok(components)
}

/// What became of the wish to have the search index built anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reindexed {
    /// It was, here: nobody had the index of this folder open.
    Built,
    /// Processes that run do it within a second; they answer from what they have until then.
    Ordered,
}

/// Has the search index built anew from the database: here where nobody has the index in `data_dir` open, and by every
/// process of this database that runs. One that does not does it when it starts.
///
/// # Errors
/// [`BuildError::Setting`] where there is no such database; [`Error::Search`], where the order stands all the same.
pub async fn reindex(config: &config::Config, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Reindexed, BuildError> {
    let url = database(config, data_dir);
    let refused = |reason: String| BuildError::Setting { key: config::Config::STORE, value: url.clone(), reason };
    let file = url.strip_prefix("sqlite:").map(|file| file.trim_start_matches("//").split('?').next().unwrap_or(file));
    if let Some(file) = file.map(Path::new).filter(|file| !file.exists()) {
        return Err(refused(format!(
            "there is no file `{}`; name the data folder that the service has",
            file.display()
        )));
    }
    let store = store::Store::open(&url, clock, writer::Metrics::default()).await;
    let store = store.map_err(|error| refused(error.to_string()))?;
    let source = store.search_source();
    source.order_rebuild().await?;
    let folder = data_dir.join(INDEX);
    let done = if !folder.exists() || search::is_in_use(&folder) {
        Reindexed::Ordered
    } else {
        let search: Arc<dyn search::Search> = Arc::new(search::Tantivy::open(&folder)?);
        jobs::index::Indexer::new(source, search).0.catch_up().await?;
        Reindexed::Built
    };
    store.close().await;
    Ok(done)
}

fn database(config: &config::Config, data_dir: &Path) -> String {
    config.store.clone().unwrap_or_else(|| format!("sqlite:{}", data_dir.join("tickets.db").display()))
}

/// Where claims and lines are not to be kept in the database.
async fn open_redis(config: &config::Config) -> Result<Option<Redis>, tessera_store::Error> {
    match &config.redis {
        Some(url) => Ok(Some(Redis::open(url).await?)),
        None => Ok(None),
    }
}
