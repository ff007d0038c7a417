//! The command line. Exit codes: 0 done, 1 failed, 2 bad usage or settings.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use tessera_service::VERSION;
use tessera_service::config::Config;
use tessera_service::shutdown::Signals;
use tessera_service::telemetry::Telemetry;
use tokio::runtime::Runtime;

use crate::roles::{ROLES, Role};
use crate::settings::{self, Flags};
use crate::up::{self, Failure};

/// How long work on threads that cannot be stopped may keep the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Markets where many people want the same scarce thing at the same moment
#[derive(Parser, Debug)]
#[command(name = "tessera", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run every role in this process, on embedded stores
    Up {
        #[command(flatten)]
        flags: Flags,
    },
    /// Run one role
    Serve {
        /// Which one
        #[arg(value_parser = PossibleValuesParser::new(ROLES.iter().map(|role| role.name)))]
        role: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Pull an API into a lake
    Ingest {
        #[command(subcommand)]
        command: Box<tessera_ingest::cli::Command>,
    },
    /// Show settings
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version
    Version,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print each effective setting and where it came from, secrets starred
    Print {
        #[command(flatten)]
        flags: Flags,
    },
}

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    crate::memory::settle();
    let command = match Cli::parse().command {
        Command::Ingest { command } => return crate::ingest::main(*command),
        other => other,
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Setting(error)) => complain(&error.to_string(), 2),
        Err(Failure::Other(error)) => complain(&format!("{error:#}"), 1),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up { flags } => serve(&flags, ROLES),
        Command::Serve { role, flags } => {
            let roles: Vec<Role> = ROLES.iter().copied().filter(|row| row.name == role).collect();
            serve(&flags, &roles)
        }
        Command::Config { command: ConfigCommand::Print { flags } } => {
            say(&load(&flags)?.print());
            Ok(())
        }
        Command::Ingest { .. } => Ok(()),
        Command::Version => {
            say(&format!("tessera {VERSION}\n"));
            Ok(())
        }
    }
}

fn load(flags: &Flags) -> Result<Config, Failure> {
    Ok(settings::load(flags, settings::environment())?)
}

/// Runs roles until SIGTERM or Ctrl-C.
fn serve(flags: &Flags, roles: &[Role]) -> Result<(), Failure> {
    let config = load(flags)?;
    let runtime = Runtime::new().context("the async runtime")?;
    let served = runtime.block_on(serve_until_signal(&config, roles));
    runtime.shutdown_timeout(LAST_WAIT);
    served
}

async fn serve_until_signal(config: &Config, roles: &[Role]) -> Result<(), Failure> {
    let mut signals = Signals::listen().context("the handlers of SIGTERM and SIGINT")?;
    let telemetry = Telemetry::start(&config.get()?)?;
    let running = match up::start(config, roles).await {
        Ok(running) => running,
        Err(failure) => {
            telemetry.flush().await;
            return Err(failure);
        }
    };
    say(&format!("{}stop it with Ctrl-C\n", running.address_table()));
    let signal = signals.recv().await;
    tracing::info!(signal, "stopping");
    tokio::select! {
        in_time = running.stop() => tracing::info!(in_time, "stopped"),
        signal = signals.recv() => tracing::warn!(signal, "stopped at once"),
    }
    telemetry.flush().await;
    Ok(())
}

/// Writes to stdout. A reader that has gone away is no failure of ours.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// One line on stderr, and the exit code.
fn complain(message: &str, code: u8) -> ExitCode {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "tessera: {line}");
    ExitCode::from(code)
}
