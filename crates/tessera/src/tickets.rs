//! `tessera tickets`: work on the data of a service, whether it runs or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use tessera_kernel::SystemClock;
use tessera_tickets::{BuildError, Reindexed, reindex};
use tokio::runtime::Runtime;

use crate::settings::{self, Flags, Store};
use crate::up::Failure;

/// What can be done.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Build the search index anew from the database
    Reindex {
        #[command(flatten)]
        place: Place,
    },
}

/// Whose data.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The data folder, as given to `up` and `serve` [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file, where the folder or the database is set there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Command {
    /// Does it, and says what was done.
    pub fn run(self) -> Result<String, Failure> {
        let Self::Reindex { place } = self;
        let flags = Flags { config: place.config, data: place.data, ..Flags::default() };
        let config = settings::load(&flags, settings::environment())?;
        let store: Store = config.get()?;
        let tickets: tessera_tickets::config::Config = config.get()?;
        let runtime = Runtime::new().context("the async runtime")?;
        let began = Instant::now();
        let done = runtime.block_on(reindex(&tickets, &store.data_dir, Arc::new(SystemClock)));
        let done = done.map_err(|error| match error {
            BuildError::Setting { key, value, reason } => {
                let origin = config.origin(key).to_string();
                Failure::Setting(tessera_service::Error::BadSetting { origin, key: key.into(), value, reason })
            }
            error => Failure::Other(error.into()),
        })?;
        Ok(match done {
            Reindexed::Built => format!(
                "search index built anew in {:.1} s; no service has it open, the next one to start finds it ready\n",
                began.elapsed().as_secs_f64()
            ),
            Reindexed::Ordered => {
                "search index ordered anew: each service of this database that runs builds its own within \
                                   seconds and answers from the one it has until then; others do when they start\n"
                    .to_owned()
            }
        })
    }
}
