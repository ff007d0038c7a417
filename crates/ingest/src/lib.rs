//! Pulls any REST API into a lake: fast, resumable, exactly once, watched.
//!
//! Rooms are named after the stages of a run: [`spec`] says what is wanted.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo_api;
mod error;
pub mod http;
pub mod jobs;
pub mod lake;
pub mod load;
pub mod metrics;
pub mod quality;
pub mod shape;
pub mod source;
pub mod spec;
pub mod store;
pub mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

use tessera_service::{Component, Deps, Task};

pub use error::{CODES, Error};

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
    /// The outgoing client cannot be built.
    #[error(transparent)]
    Client(#[from] tessera_service::Error),
    /// The history of runs, or the folder of pipelines, cannot be used.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Opens the store and gives the parts of the service: its API, and its loops. Pipeline files are read with
/// `environment`.
///
/// # Errors
/// [`BuildError`]; nothing was started.
pub async fn build(
    config: &config::Config,
    deps: &Deps,
    environment: spec::Environment,
) -> Result<Vec<Component>, BuildError> {
    let pipelines = pipelines_folder(config, deps)?;
    let url = store_url(config, &deps.data_dir);
    let store = store::Store::open(&url).await.map_err(|error| refused_store(&url, error.reason()))?;
    let store = store.claim(&url).map_err(|reason| refused_store(&url, reason))?;
    let service = app::service::Service::new(app::service::Parts {
        pipelines,
        environment,
        max_concurrent_runs: config.max_concurrent_runs,
        public_url: config.public_url.clone(),
        store,
        clock: deps.clock.clone(),
        ids: deps.ids.clone(),
        keys: deps.keys.clone(),
        metrics: metrics::Metrics::new(&deps.metrics),
        http: tessera_service::client::build()?,
    });
    jobs::scheduler::begin(&service).await?;
    let (scheduled, watched) = (service.clone(), service.clone());
    Ok(vec![
        Component::new("ingest-api", "/ingest/pipelines").router(http::router(service)).openapi(http::openapi()),
        Component::new("ingest-scheduler", "/ingest/pipelines")
            .task(Task::new("scheduler", move |stop| jobs::scheduler::run(scheduled, stop)))
            .task(Task::new("sla-watch", move |stop| jobs::sla::run(watched, stop))),
    ])
}

/// Keeps other processes from the service's store while it is held, for what is to be put into the data folder before [`build`]; none
/// where the store can be shared. [`build`] itself needs it given back.
///
/// # Errors
/// [`BuildError::Setting`] where another process has it.
pub fn hold(config: &config::Config, data_dir: &Path) -> Result<Option<File>, BuildError> {
    let url = store_url(config, data_dir);
    store::claim_file(&url).map_err(|reason| refused_store(&url, reason))
}

fn store_url(config: &config::Config, data_dir: &Path) -> String {
    let default = || format!("sqlite:{}", data_dir.join("ingest.db").display());
    config.store.clone().unwrap_or_else(default)
}

fn refused_store(url: &str, reason: String) -> BuildError {
    let value = format!("`{}`", tessera_store::sql::without_password(url));
    BuildError::Setting { key: config::Config::STORE, value, reason }
}

/// The folder of pipeline files; our own is made where it is missing, one that was named must be there.
fn pipelines_folder(config: &config::Config, deps: &Deps) -> Result<PathBuf, BuildError> {
    let folder = config.pipelines.clone().unwrap_or_else(|| deps.data_dir.join("pipelines"));
    let made = if config.pipelines.is_none() { std::fs::create_dir_all(&folder) } else { Ok(()) };
    let listed = made.and_then(|()| std::fs::read_dir(&folder).map(drop));
    listed.map(|()| folder.clone()).map_err(|error| BuildError::Setting {
        key: config::Config::PIPELINES,
        value: format!("`{}`", folder.display()),
        reason: format!("{error}; give a folder of pipeline files with --pipelines or TESSERA__INGEST__PIPELINES"),
    })
}
