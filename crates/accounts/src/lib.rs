//! A small identity provider: sign-up, sign-in, access and refresh tokens, roles, programs, keys.
//!
//! What holds, always:
//! - Whether an account exists is told by no answer and by no answer's time, as far as nobody signs up to find out.
//! - Attempts are counted before the password is looked at, in the database: neither a restart nor another process forgets them.
//! - A refresh token is used once. One that comes again after a short grace ends its session, whoever sent it.
//! - Nothing is stored from which a password or a token could be read: hashes of argon2id, and seeds that are nothing without the key.
//! - One admin at least can sign in, once there is one.

pub mod app;
pub mod config;
pub mod domain;
mod error;
pub mod http;
pub mod jobs;
mod metrics;
pub mod signing;
pub mod store;

use std::path::Path;
use std::sync::Arc;

use tessera_kernel::{Clock, Ids, RandomIds};
use tessera_service::{Component, Deps, Keys, Task};
use tessera_store::writer;

use crate::app::passwords::Passwords;
use crate::app::{App, Parts};
use crate::store::Store;

pub use error::{CODES, Error};
pub use metrics::Metrics;

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

/// Opens the store and gives the parts of the service: none where there shall be no accounts.
///
/// # Errors
/// [`BuildError`]; nothing was started.
pub async fn build(config: &config::Config, deps: &Deps) -> Result<Vec<Component>, BuildError> {
    if !config.enabled {
        return Ok(Vec::new());
    }
    let issuer = issuer(config, deps)?;
    deps.keys.name_issuer(&issuer).map_err(Error::from)?;
    signing::renew(config, &deps.keys)?;
    let (metrics, writes) = (Metrics::default(), writer::Metrics::default());
    deps.metrics.register(|registry| {
        metrics.register(registry);
        writes.register("accounts", registry);
    });
    let (clock, ids) = (Arc::clone(&deps.clock), Arc::clone(&deps.ids));
    let made = Made { keys: deps.keys.clone(), clock, ids, issuer, metrics, writes };
    let app = made.open(config, &deps.data_dir).await?;
    let (caring, closing) = (app.clone(), app.clone());
    let component = Component::new("accounts", "/accounts")
        .router(http::router(app))
        .openapi(http::openapi())
        .task(Task::new("care", move |stop| jobs::run(caring, stop)))
        .task(Task::new("database-close", move |stop| async move {
            stop.cancelled().await;
            closing.store().close().await;
            Ok(())
        }));
    Ok(vec![component])
}

/// The use cases without the service, for the command line: whether that runs or not.
///
/// # Errors
/// [`BuildError`].
pub async fn open(
    config: &config::Config,
    data_dir: &Path,
    keys: Keys,
    clock: Arc<dyn Clock>,
) -> Result<App, BuildError> {
    let (metrics, writes) = (Metrics::default(), writer::Metrics::default());
    let made = Made { keys, clock, ids: Arc::new(RandomIds), issuer: String::new(), metrics, writes };
    made.open(config, data_dir).await
}

/// What an [`App`] is made of besides its store.
struct Made {
    keys: Keys,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    issuer: String,
    metrics: Metrics,
    writes: writer::Metrics,
}

impl Made {
    async fn open(self, config: &config::Config, data_dir: &Path) -> Result<App, BuildError> {
        let refused = |key: &'static str, value: String, reason: String| BuildError::Setting { key, value, reason };
        app::check_roles(&config.sign_up_roles).map_err(|error| {
            refused(config::Config::SIGN_UP_ROLES, format!("{:?}", config.sign_up_roles), error.to_string())
        })?;
        let passwords = Passwords::new(config.hashing).map_err(|(key, value, reason)| refused(key, value, reason))?;
        let default = || format!("sqlite:{}", data_dir.join("accounts.db").display());
        let url = config.store.clone().unwrap_or_else(default);
        let store = Store::open(&url, Arc::clone(&self.clock), config.rules(), self.writes).await;
        let store = store.map_err(|error| refused(config::Config::STORE, "what it is".into(), error.to_string()))?;
        Ok(App::new(Parts {
            store,
            keys: self.keys,
            passwords,
            config: config.clone(),
            issuer: self.issuer,
            ids: self.ids,
            metrics: self.metrics,
        }))
    }
}

/// The name that tokens are issued under: an address without a slash at its end.
fn issuer(config: &config::Config, deps: &Deps) -> Result<String, BuildError> {
    let Some(issuer) = &config.issuer else {
        return Ok(deps.base_url());
    };
    let fit = url::Url::parse(issuer).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() && url.fragment().is_none()
    });
    if !fit || issuer.ends_with('/') {
        let reason = "give the address under which others reach this server, such as https://tickets.example.com, without a slash at its end";
        let (key, value) = (config::Config::ISSUER, format!("`{issuer}`"));
        return Err(BuildError::Setting { key, value, reason: reason.into() });
    }
    Ok(issuer.clone())
}
