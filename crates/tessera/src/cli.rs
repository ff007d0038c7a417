//! The command line. Exit codes: 0 done, 1 failed, 2 bad usage or settings.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, Subcommand};
use tessera_ingest::demo_api::{DemoApiArgs, Error as DemoApiError};
use tessera_kernel::{RandomIds, SystemClock, Timestamp};
use tessera_service::VERSION;
use tessera_service::config::{Config, Origin};
use tessera_service::run::Running;
use tessera_service::shutdown::{Asked, Signals};
use tessera_service::sockets::Sockets;
use tessera_service::telemetry::{self, Telemetry};
use tokio::runtime::Runtime;

use crate::demo::{self, Demo};
use crate::hand_over;
use crate::health;
use crate::memory::Arenas;
use crate::roles::{self, ROLES, Role};
use crate::settings::{self, Flags};
use crate::token::TokenArgs;
use crate::up::{self, Failure};

/// How long work on threads that cannot be stopped may keep the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Markets where many people want the same scarce thing at the same moment
#[derive(Parser, Debug)]
#[command(name = "tessera", version, disable_help_subcommand = true)]
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
        /// Show something: a pipeline that reads a demo API, a season of events with fans who buy, and a small city of drivers and riders
        #[arg(long)]
        demo: bool,
    },
    /// Run one role
    Serve {
        /// Which one
        #[arg(value_parser = PossibleValuesParser::new(roles::served().map(|role| {
            PossibleValue::new(role.name).help(role.about)
        })))]
        role: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Pull an API into a lake
    Ingest {
        #[command(subcommand)]
        command: Box<IngestCommand>,
    },
    /// Serve the API of a shop that does not exist: to learn with, for demos and for tests
    DemoApi {
        #[command(flatten)]
        demo: DemoApiArgs,
    },
    /// Make the first admin, set passwords, grant roles, replace keys, whether the service runs or not
    Accounts {
        #[command(subcommand)]
        command: crate::accounts::Command,
    },
    /// Work on the data of tickets, whether the service runs or not
    Tickets {
        #[command(subcommand)]
        command: crate::tickets::Command,
    },
    /// Prepare what rides need
    Rides {
        #[command(subcommand)]
        command: crate::rides::Command,
    },
    /// Say what a config of the gateway means before it serves
    Gateway {
        /// What to say
        #[command(subcommand)]
        command: tessera_gateway::cli::Command,
    },
    /// Send simulated people to a running server: fans, or riders and drivers
    Sim {
        #[command(subcommand)]
        command: tessera_sim::cli::Command,
    },
    /// Ask a running process whether it is well: exit code 0 if so, 2 where the address is none, else 1
    Health {
        /// The address to ask
        #[arg(
            long,
            value_name = "URL",
            env = "TESSERA_HEALTH_URL",
            default_value = "http://127.0.0.1:8080/healthz",
            value_parser = health::web_address
        )]
        url: String,
    },
    /// Print a token that says who somebody is, for `Authorization: Bearer`
    Token {
        #[command(flatten)]
        token: TokenArgs,
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
enum IngestCommand {
    /// Run pipelines on their schedules, with the API and the pages
    Serve {
        #[command(flatten)]
        flags: Flags,
    },
    #[command(flatten)]
    Verb(tessera_ingest::cli::Command),
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print each effective setting and where it came from, secrets starred
    Print {
        #[command(flatten)]
        flags: Flags,
    },
}

impl Command {
    fn arenas(&self) -> Arenas {
        match self {
            Self::Up { .. } | Self::Sim { .. } => Arenas::Many,
            Self::Serve { role, .. } if role != "ingest" => Arenas::Many,
            _ => Arenas::One,
        }
    }
}

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    crate::memory::settle(command.arenas());
    match command {
        Command::Ingest { command } => ingest(*command),
        Command::Up { flags, demo } => done(serve(&flags, ROLES, if demo { Show::Demo } else { Show::Nothing })),
        Command::Serve { role, flags } => {
            let roles: Vec<Role> = roles::find(&role).into_iter().collect();
            if role == "gateway"
                && let Err(failure) = has_gateway_file(&flags)
            {
                return done(Err(failure));
            }
            done(serve(&flags, &roles, Show::Nothing))
        }
        Command::DemoApi { demo } => done(demo_api(demo)),
        Command::Accounts { command } => done(command.run().map(|told| say(&told))),
        Command::Tickets { command } => done(command.run().map(|told| say(&told))),
        Command::Rides { command } => done(command.run().map(|told| say(&told))),
        Command::Gateway { command } => crate::gateway::main(command),
        Command::Sim { command } => sim(command),
        Command::Health { url } => done(health(&url)),
        Command::Config { command: ConfigCommand::Print { flags } } => done(print(&flags)),
        Command::Token { token } => done(token.sign().map(|token| say(&format!("{token}\n")))),
        Command::Version => {
            say(&format!("tessera {VERSION}\n"));
            ExitCode::SUCCESS
        }
    }
}

/// A gateway that is asked for alone needs to be told what to do.
fn has_gateway_file(flags: &Flags) -> Result<(), Failure> {
    let gateway: tessera_gateway::config::Config = load(flags)?.get()?;
    let missing = || Failure::Usage("the gateway has no file of routes; give one with --gateway FILE".into());
    gateway.file.map(drop).ok_or_else(missing)
}

fn ingest(command: IngestCommand) -> ExitCode {
    match command {
        IngestCommand::Verb(verb) => crate::ingest::main(verb),
        IngestCommand::Serve { flags } => {
            let roles: Vec<Role> = ["ingest", "console"].into_iter().filter_map(roles::find).collect();
            done(serve(&flags, &roles, Show::Nothing))
        }
    }
}

/// The exit code of an outcome, and its one line.
fn done(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Setting(error)) => complain(&error.to_string(), 2),
        Err(Failure::Usage(line)) => complain(&line, 2),
        Err(Failure::Other(error)) => complain(&format!("{error:#}"), 1),
    }
}

fn demo_api(demo: DemoApiArgs) -> Result<(), Failure> {
    let runtime = Runtime::new().context("the async runtime")?;
    runtime.block_on(demo.run(Arc::new(SystemClock))).map_err(|error| match error {
        DemoApiError::Serve(_) => Failure::Other(error.into()),
        usage => Failure::Usage(usage.to_string()),
    })
}

/// 1 where the books do not agree, too.
fn sim(command: tessera_sim::cli::Command) -> ExitCode {
    let tell = |line: String| say(&format!("{line}\n"));
    let ran = Runtime::new().context("the async runtime").map_err(Failure::Other);
    match ran.and_then(|runtime| runtime.block_on(crate::sim::run(command, tell))) {
        Ok(crate::sim::Done { report, is_clean }) => {
            say(&report);
            if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => done(Err(failure)),
    }
}

fn health(url: &str) -> Result<(), Failure> {
    let runtime = Runtime::new().context("the async runtime")?;
    runtime.block_on(health::check(url)).map_err(Failure::Other)
}

fn print(flags: &Flags) -> Result<(), Failure> {
    say(&load(flags)?.print());
    Ok(())
}

fn load(flags: &Flags) -> Result<Config, Failure> {
    Ok(settings::load(flags, settings::environment())?)
}

/// What is shown besides the roles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Nothing,
    Demo,
}

/// Runs roles until SIGTERM or Ctrl-C.
fn serve(flags: &Flags, roles: &[Role], show: Show) -> Result<(), Failure> {
    // Before there are threads.
    let sockets = Sockets::of_process().context("the sockets that LISTEN_FDS names")?;
    let config = load(flags)?;
    let runtime = Runtime::new().context("the async runtime")?;
    let served = runtime.block_on(serve_until_signal(&config, roles, show, &sockets));
    runtime.shutdown_timeout(LAST_WAIT);
    served
}

async fn serve_until_signal(config: &Config, roles: &[Role], show: Show, sockets: &Sockets) -> Result<(), Failure> {
    let mut signals = Signals::listen().context("the handlers of SIGTERM and SIGINT")?;
    let mut telemetry: telemetry::Config = config.get()?;
    // The crowd of the demo asks many times a second; its address table should stay in sight.
    if matches!(show, Show::Demo) && config.origin("telemetry.log") == Origin::Code {
        telemetry.log = telemetry::Filter::without_requests();
    }
    let telemetry = Telemetry::start(&telemetry)?;
    let started = match show {
        Show::Nothing => up::start_prepared(config, roles, sockets, |_| Ok(())).await.map(|running| {
            say(&running.address_table());
            (running, None)
        }),
        Show::Demo => start_demo(config, roles).await.map(|(running, demo)| (running, Some(demo))),
    };
    let (running, demo) = match started {
        Ok(started) => started,
        Err(failure) => {
            telemetry.flush().await;
            return Err(failure);
        }
    };
    say("stop it with Ctrl-C\n");
    let signal = serve_on(&running, roles, sockets, &mut signals).await;
    tracing::info!(signal, "stopping");
    if let Some(demo) = &demo {
        demo.announce_stop();
    }
    tokio::select! {
        in_time = running.stop() => tracing::info!(in_time, "stopped"),
        signal = signals.asked_to_stop() => tracing::warn!(signal, "stopped at once"),
    }
    if let Some(demo) = demo {
        demo.stop().await;
    }
    telemetry.flush().await;
    Ok(())
}

/// Until it is to stop, or another process has taken over; gives the signal.
async fn serve_on(running: &Running, roles: &[Role], sockets: &Sockets, signals: &mut Signals) -> &'static str {
    tokio::select! {
        () = hand_over::say_ready(running) => {}
        signal = signals.asked_to_stop() => return signal,
    }
    loop {
        match signals.recv().await {
            Asked::Stop(signal) => return signal,
            Asked::HandOver if roles.iter().any(|role| role.name != roles::GATEWAY) => {
                tracing::warn!(
                    "SIGUSR2: only a gateway by itself is handed over, for embedded stores have one owner; stop this process and start another"
                );
                continue;
            }
            Asked::HandOver => {}
        }
        tracing::info!("hand-over: the program is started again");
        let next = tokio::select! {
            next = hand_over::begin(sockets, &RandomIds) => next,
            signal = signals.asked_to_stop() => return signal,
        };
        match next {
            Ok(next) => {
                tracing::info!(from = std::process::id(), to = next, "handed over");
                sockets.hand_on();
                return "SIGUSR2";
            }
            Err(reason) => tracing::error!(reason, "not handed over; this process goes on serving"),
        }
    }
}

/// The roles, the people of the demo and their season of events, the demo API, and a first run of the pipeline that reads it.
async fn start_demo(config: &Config, roles: &[Role]) -> Result<(Running, demo::Serving), Failure> {
    let demo = Demo::bind(config).await?;
    let address = demo.address();
    let pipelines = config.get::<tessera_ingest::config::Config>()?.pipelines;
    let mut opened = (Timestamp::default(), PathBuf::new());
    let roles: Vec<Role> = roles.iter().copied().chain([roles::DEMO]).collect();
    let running = up::start_prepared(config, &roles, &Sockets::default(), |data| {
        // A process that serves from this folder goes by these files.
        let _held = roles::hold_ingest(config, data)?;
        opened = (demo.prepare(data, pipelines).map_err(Failure::Other)?, data.to_owned());
        Ok(())
    })
    .await?;
    let (opened_at, data) = opened;
    let base = running.base_url();
    let serving = demo.serve(opened_at, data.clone(), base.clone());
    say(&format!("{}  demo API  http://{address}\n", running.address_table()));
    say(&format!("watch the demo pipeline as an operator: {base}/console/#/ingest/pipelines/shop\n"));
    say(&format!("buy a ticket while others do: {base}/console/#/tickets\n"));
    say(&format!("see a small city drive, and ride in it: {base}/console/#/rides\n"));
    if let Err(error) = demo::first_run(&data, &base, opened_at).await {
        tracing::warn!(%error, "the first run was not started; the schedule will");
    }
    Ok((running, serving))
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
