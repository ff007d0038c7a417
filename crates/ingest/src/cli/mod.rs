//! `tessera ingest`: the verbs, and what they print. stdout is for data, stderr for everything else.

mod inspect;
mod render;
mod run;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use tessera_kernel::{Clock, Ids};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::spec::{Environment, Loaded, load, load_file};

/// The verbs of `tessera ingest`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first pipeline file from a URL or an OpenAPI document
    Init(inspect::InitArgs),
    /// Check a pipeline file; no network
    Validate(PipelineArgs),
    /// Check that the API answers and takes the credentials, and that the lake can be written
    Check(PipelineArgs),
    /// List the endpoints that the API offers
    Discover(inspect::DiscoverArgs),
    /// Show the first rows of a resource as a table
    Preview(inspect::PreviewArgs),
    /// Pull the resources into the lake
    Run(run::RunArgs),
    /// Load committed files into the pipeline's databases; `run` does so by itself
    Load(PipelineArgs),
    /// Show where each resource stands
    Status(inspect::FormatArgs),
    /// Show or change the saved cursors
    State(inspect::StateArgs),
    /// Print the schema of each resource
    Schema(inspect::FormatArgs),
    /// Show what the runs found out about the data
    Quality(inspect::QualityArgs),
    /// Print the JSON Schema of the pipeline file, for editors
    JsonSchema,
}

/// The pipeline file.
#[derive(Clone, Debug, Args)]
pub struct PipelineArgs {
    /// Pipeline file; without it the text in TESSERA_PIPELINE_YAML is read
    #[arg(env = "TESSERA_PIPELINE")]
    pipeline: Option<PathBuf>,
}

/// What the verbs need from outside.
#[derive(Clone)]
pub struct Context {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Mints ids.
    pub ids: Arc<dyn Ids>,
    /// Stops a run.
    pub stop: CancellationToken,
    /// Where people reach the console, for links in alerts.
    pub public_url: Option<String>,
}

/// How a verb ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1: said already
    Failed,
    /// 3
    GateFailed,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::GateFailed => 3,
        }
    }
}

impl PipelineArgs {
    /// How the user names the file.
    fn name(&self) -> String {
        self.pipeline.as_deref().unwrap_or(Path::new("pipeline.yaml")).display().to_string()
    }

    fn load(&self) -> Result<Loaded, Error> {
        let environment = Environment::of_process();
        let loaded = match (&self.pipeline, environment.get("TESSERA_PIPELINE_YAML")) {
            (Some(path), _) if !path.as_os_str().is_empty() => load_file(path, &environment)?,
            (_, Some(text)) => load(text, "TESSERA_PIPELINE_YAML", &environment)?,
            _ => {
                return Err(Error::Spec {
                    place: "PIPELINE".into(),
                    detail: "name a pipeline file; `tessera ingest init URL` writes a first one".into(),
                });
            }
        };
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(loaded)
    }
}

/// Does what the verb says.
///
/// # Errors
/// Any [`Error`]; its `exit_code` is the process's.
pub async fn execute(command: Command, context: Context) -> Result<Exit, Error> {
    match command {
        Command::Init(args) => inspect::init(args).await,
        Command::Validate(args) => inspect::validate(&args),
        Command::Check(args) => inspect::check(&args, &context).await,
        Command::Discover(args) => inspect::discover(args).await,
        Command::Preview(args) => inspect::preview(args, &context).await,
        Command::Run(args) => run::run(args, &context).await,
        Command::Load(args) => {
            let loaded = args.load()?;
            if loaded.pipeline.load.is_empty() {
                eprintln!("{} names no databases under `load`; there is nothing to load", args.name());
            }
            run::say_loads(&crate::app::operate::load_all(&loaded).await?);
            Ok(Exit::Done)
        }
        Command::Status(args) => inspect::status(&args).await,
        Command::State(args) => inspect::state(args, &context).await,
        Command::Schema(args) => inspect::schema(&args).await,
        Command::Quality(args) => inspect::quality(&args, &context).await,
        Command::JsonSchema => out_json(&crate::spec::json_schema()),
    }
}

/// Writes to stdout. A reader that has gone away is no failure of ours.
fn out(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A document on stdout.
fn out_json<T: serde::Serialize>(value: &T) -> Result<Exit, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    out(&format!("{text}\n"));
    Ok(Exit::Done)
}

/// The client for everything that is not a run.
fn http() -> Result<reqwest::Client, Error> {
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| first.host_str() == attempt.url().host_str());
        if same && attempt.previous().len() <= 10 { attempt.follow() } else { attempt.stop() }
    });
    let client = tessera_service::client::builder().redirect(redirects).build();
    client.map_err(|error| Error::Internal(format!("the HTTP client cannot be built: {error}")))
}
