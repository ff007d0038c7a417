//! From settings to a running process: bind, check, build, serve.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tessera_kernel::{Clock, RandomIds, SystemClock};
use tessera_service::config::Config;
use tessera_service::identity::Issuer;
use tessera_service::run::{self, Plan, Running};
use tessera_service::{Deps, Keys, Metrics, http};

use crate::roles::Role;
use crate::settings::Store;

/// Why a process did not start: which exit code, and one line for the user.
#[derive(Debug)]
pub enum Failure {
    /// A setting is wrong or cannot be met: exit 2. Nothing was started.
    Setting(tessera_service::Error),
    /// The command line asks for what cannot be done: exit 2.
    Usage(String),
    /// Something else: exit 1.
    Other(anyhow::Error),
}

impl From<tessera_service::Error> for Failure {
    fn from(error: tessera_service::Error) -> Self {
        Self::Setting(error)
    }
}

impl From<anyhow::Error> for Failure {
    /// A setting that a product found wrong is still a setting.
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<tessera_service::Error>().map_or_else(Self::Other, Self::Setting)
    }
}

/// Starts these roles as one process on one port. Several can run beside each other: nothing here is shared.
pub async fn start(config: &Config, roles: &[Role]) -> Result<Running, Failure> {
    start_prepared(config, roles, |_| Ok(())).await
}

/// The same, with something to be put into the data folder before the roles are built.
pub async fn start_prepared(
    config: &Config,
    roles: &[Role],
    prepare: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<Running, Failure> {
    let http: http::Config = config.get()?;
    let store: Store = config.get()?;
    let listener = run::bind(&http.listen).await?;
    run::check_folder(Store::DATA_DIR, Store::DATA_DIR_REMEDY, &store.data_dir)?;
    prepare(&store.data_dir)?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Keys::open(&store.data_dir, clock.clone())?;
    let deps = Deps {
        keys: match Issuer::new(&config.get()?, clock.clone())? {
            Some(issuer) => keys.trusting(issuer),
            None => keys,
        },
        metrics: Metrics::new(clock.clone()),
        clock,
        ids: Arc::new(RandomIds),
        data_dir: store.data_dir,
        address: listener.local_addr().context("the address of the bound port")?,
    };
    let mut built = Vec::new();
    for role in roles {
        built.push(run::Role { name: role.name, components: (role.build)(config, &deps).await? });
    }
    let Deps { clock, ids, metrics, .. } = deps;
    Ok(run::start(Plan { listener, roles: built, http, clock, ids, metrics })?)
}
