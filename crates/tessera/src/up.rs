//! From settings to a running process: bind, check, build, serve.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tessera_kernel::{Clock, RandomIds, SystemClock};
use tessera_service::config::Config;
use tessera_service::identity::Issuer;
use tessera_service::run::{self, Inside, Plan, Running};
use tessera_service::sockets::Sockets;
use tessera_service::{Deps, Keys, Metrics, Task, http};

use crate::front;
use crate::roles::{self, CONSOLE, GATEWAY, Role};
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
    start_prepared(config, roles, &Sockets::default(), |_| Ok(())).await
}

/// The same, on the sockets that the process was started with where they fit, and with something to be put into the data
/// folder before the roles are built.
pub async fn start_prepared(
    config: &Config,
    roles: &[Role],
    sockets: &Sockets,
    prepare: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<Running, Failure> {
    let http: http::Config = config.get()?;
    let store: Store = config.get()?;
    // Where the user says how to serve, by a file, the process has its port beside.
    let has_front = roles.iter().any(|role| role.name == GATEWAY)
        && roles.len() > 1
        && config.get::<tessera_gateway::config::Config>()?.file.is_none();
    let (listener, front) = if has_front {
        // It finds out by itself which addresses it has.
        close_rest(sockets);
        let (direct, front) = front::open(config).await?;
        (direct, Some(front))
    } else {
        (run::take_or_bind(sockets, &http.listen).await?, None)
    };
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
        address: match front {
            Some(front) => front.http,
            None => listener.local_addr().context("the address of the bound port")?,
        },
        inside: Inside::default(),
        sockets: sockets.clone(),
    };
    let has_pages = roles.iter().any(|role| role.name == CONSOLE);
    let mut built = Vec::new();
    for role in roles {
        let mut components = match front {
            // The last of the roles: by now stores that cannot be shared have refused the folder of another process.
            Some(front) if role.name == GATEWAY => {
                let served = front::prepare(front, &deps.data_dir, &*deps.clock)?;
                let gateway = roles::gateway_by(&served.path, config, &deps)?;
                vec![gateway.task(Task::new("file", move |stop| async move {
                    stop.cancelled().await;
                    drop(served);
                    Ok(())
                }))]
            }
            _ => (role.build)(config, &deps).await?,
        };
        if let Some(page) = role.page.filter(|_| has_pages) {
            components.iter_mut().for_each(|component| component.path = page);
        }
        built.push(run::Role { name: role.name, components });
    }
    close_rest(sockets);
    let Deps { clock, ids, metrics, inside, sockets, .. } = deps;
    Ok(run::start(Plan { listener, roles: built, http, clock, ids, metrics, front, inside, sockets })?)
}

fn close_rest(sockets: &Sockets) {
    for address in sockets.close_rest() {
        tracing::warn!(%address, "the process was started with a socket that nothing here listens on; it is closed");
    }
}
