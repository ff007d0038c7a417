//! `tessera sim`: a crowd or a city at a running server, and what its end is worth as an exit code.

use std::path::PathBuf;
use std::sync::Arc;

use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::Keys;
use tessera_service::config::Config;
use tessera_sim::Error;
use tessera_sim::cli::{Command, Limits, OnsaleArgs, RidesArgs};

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
    let is_json = match &command {
        Command::Onsale(args) => args.json,
        Command::Rides(args) => args.json,
    };
    let tell = move |line| {
        if !is_json {
            tell(line)
        }
    };
    let (text, json, is_clean) = match command {
        Command::Onsale(args) => {
            let OnsaleArgs { ref data, ref config, .. } = *args;
            let keys = keys(&settings(data.clone(), config.clone())?)?;
            let report = args.run(keys, &SystemClock, &RandomIds, tell).await.map_err(failure)?;
            (report.to_string(), report.json(), report.is_clean())
        }
        Command::Rides(args) => {
            let RidesArgs { ref data, ref config, .. } = *args;
            let config = settings(data.clone(), config.clone())?;
            let (keys, limits) = (keys(&config)?, limits(&config.get()?));
            let report = args.run(keys, Arc::new(SystemClock), &RandomIds, limits, tell).await.map_err(failure)?;
            (report.to_string(), report.json(), report.is_clean())
        }
    };
    let report = if is_json { format!("{json:#}\n") } else { format!("\n{text}") };
    Ok(Done { report, is_clean })
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Usage(_) | Error::Address { .. } => Failure::Usage(error.to_string()),
        Error::Refused { status: 401, .. } => {
            let remedy = "give the data folder of that server with `--data`, and, where there is a `--token`, one that is good there";
            Failure::Usage(format!("{error}; {remedy}"))
        }
        error => Failure::Other(error.into()),
    }
}

/// The server's settings, as far as they are the same here.
fn settings(data: Option<PathBuf>, config: Option<PathBuf>) -> Result<Config, Failure> {
    Ok(settings::load(&Flags { config, data, ..Flags::default() }, settings::environment())?)
}

/// The installation's key: the folder is that of the server.
fn keys(config: &Config) -> Result<Keys, Failure> {
    let store: Store = config.get()?;
    let key = store.data_dir.join("keys/identity.pk8");
    if !key.exists() {
        let text = format!("there is no key of a server at `{}`; give its data folder with `--data`", key.display());
        return Err(Failure::Usage(text));
    }
    Ok(Keys::open(&store.data_dir, Arc::new(SystemClock))?)
}

/// By what rides are judged.
fn limits(config: &tessera_rides::config::Config) -> Limits {
    let tessera_rides::config::Config { matching, tariff, estimate_ttl_s, .. } = config;
    Limits {
        offer_s: matching.offer_s.into(),
        search_s: (!matching.keep_place).then(|| matching.search_s.into()),
        estimate_s: (*estimate_ttl_s).into(),
        cancel_after_s: tariff.cancel_after_s.into(),
        cancel_fee: tariff.cancel_fee,
        no_show_after_s: tariff.no_show_after_s.into(),
    }
}
