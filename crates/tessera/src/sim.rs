//! `tessera sim`: a crowd at a running server, and what its end is worth as an exit code.

use std::path::PathBuf;
use std::sync::Arc;

use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::Keys;
use tessera_sim::Error;
use tessera_sim::cli::{Command, OnsaleArgs};

use crate::settings::{self, Flags, Store};
use crate::up::Failure;

/// What a run has said, and whether its books agree.
pub struct Done {
    /// The report as it is printed.
    pub report: String,
    /// Whether there are no findings.
    pub is_clean: bool,
}

/// Runs it; `tell` is given a line now and then.
///
/// # Errors
/// [`Failure::Usage`] for what cannot be run.
pub async fn run(command: Command, tell: impl Fn(String) + Send + 'static) -> Result<Done, Failure> {
    let Command::Onsale(args) = command;
    let OnsaleArgs { json, ref data, ref config, .. } = *args;
    let keys = keys(data.clone(), config.clone())?;
    let tell = move |line| {
        if !json {
            tell(line)
        }
    };
    let report = args.run(keys, &SystemClock, &RandomIds, tell).await.map_err(|error| match error {
        Error::Usage(_) | Error::Address { .. } => Failure::Usage(error.to_string()),
        error => Failure::Other(error.into()),
    })?;
    let is_clean = report.is_clean();
    let report = if json { format!("{:#}\n", report.json()) } else { format!("\n{report}") };
    Ok(Done { report, is_clean })
}

/// The installation's key: the folder is that of the server.
fn keys(data: Option<PathBuf>, config: Option<PathBuf>) -> Result<Keys, Failure> {
    let config = settings::load(&Flags { config, data, ..Flags::default() }, settings::environment())?;
    let store: Store = config.get()?;
    Ok(Keys::open(&store.data_dir, Arc::new(SystemClock))?)
}
