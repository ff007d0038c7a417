//! `tessera ingest …` as a process: logs, signals, exit codes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tessera_ingest::Error;
use tessera_ingest::cli::{Command, Context, Exit, execute};
use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::shutdown::Signals;
use tessera_service::telemetry::Telemetry;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::settings::{self, Flags};

/// A run that was told to stop has this long to save its progress.
const GRACE: Duration = Duration::from_secs(28);

/// Runs a verb to its end, or to the first SIGTERM or Ctrl-C.
pub fn main(command: Command) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("the async runtime cannot start: {error}"), 1),
    };
    let outcome = runtime.block_on(until_signal(command));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => complain(&format!("{error} [{}]", error.code()), error.exit_code()),
    }
}

async fn until_signal(command: Command) -> Result<Exit, Error> {
    let internal = |error: &dyn std::fmt::Display| Error::Internal(error.to_string());
    let mut signals = Signals::listen().map_err(|error| internal(&error))?;
    let setting = |error: tessera_service::Error| Error::Spec { place: "settings".into(), detail: error.to_string() };
    let config = settings::load(&Flags::default(), settings::environment()).map_err(setting)?;
    let telemetry = Telemetry::start(&config.get().map_err(setting)?).map_err(setting)?;
    let stop = CancellationToken::new();
    let ingest: tessera_ingest::config::Config = config.get().map_err(setting)?;
    let public_url = ingest.public_url;
    let context = Context { clock: Arc::new(SystemClock), ids: Arc::new(RandomIds), stop: stop.clone(), public_url };
    let work = execute(command, context);
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        signal = signals.asked_to_stop() => {
            eprintln!("{signal}: saving progress");
            stop.cancel();
            match tokio::time::timeout(GRACE, work).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::Stopped(format!("by {signal}; not everything could be saved in {} s", GRACE.as_secs()))),
            }
        }
    };
    telemetry.flush().await;
    outcome
}

fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("tessera: {message}");
    ExitCode::from(code)
}
