//! `tessera ingest run`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::render::counted;
use super::watch::Watch;
use super::{Context, Exit, PipelineArgs, http, out};
use crate::Error;
use crate::app::operate::{Named, operate};
use crate::app::plan::plan;
use crate::app::progress::Progress;
use crate::app::run::{RunDeps, RunOptions, RunReport, RunStatus, RunType};
use crate::app::service::pipeline_page;
use crate::source::{Cassette, Tape};

/// What `run` takes. Every flag has its environment variable; an empty one counts as unset.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// backfill (everything) or incremental (since the saved cursor); also RUN_TYPE or run_type
    #[arg(long, value_name = "TYPE")]
    run_type: Option<String>,
    /// Rows from this time or cursor on; also RUN_FROM
    #[arg(long)]
    from: Option<String>,
    /// Rows before this time or cursor; also RUN_TO
    #[arg(long)]
    to: Option<String>,
    /// Only these resources, separated by commas; also RUN_RESOURCES
    #[arg(long, value_delimiter = ',')]
    resources: Vec<String>,
    /// At most so many rows a resource; saved cursors stay; also RUN_LIMIT
    #[arg(long)]
    limit: Option<u64>,
    /// Say what would be asked for, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Forget an interrupted run instead of resuming it
    #[arg(long)]
    fresh: bool,
    /// Write every exchange to this folder, secrets removed
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Answer requests from this folder instead of the network
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
}

impl RunArgs {
    fn options(&self) -> Result<RunOptions, Error> {
        let wrong = |place: &str, detail: String| Error::Spec { place: place.to_owned(), detail };
        let env = |names: &[&str]| {
            names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        };
        let run_type = match (&self.run_type, env(&["RUN_TYPE", "run_type"])) {
            (Some(text), _) => Some(("--run-type", text.clone())),
            (None, text) => text.map(|text| ("RUN_TYPE", text)),
        };
        let run_type =
            run_type.map(|(place, text)| text.parse::<RunType>().map_err(|detail| wrong(place, detail))).transpose()?;
        let mut resources = self.resources.clone();
        if resources.is_empty() {
            resources = env(&["RUN_RESOURCES"])
                .map(|list| list.split(',').map(|name| name.trim().to_owned()).collect())
                .unwrap_or_default();
        }
        resources.retain(|name| !name.is_empty());
        let limit = match (self.limit, env(&["RUN_LIMIT"])) {
            (Some(limit), _) => Some(limit),
            (None, Some(text)) => {
                Some(text.parse().map_err(|_| wrong("RUN_LIMIT", format!("`{text}` is not a number of rows")))?)
            }
            (None, None) => None,
        };
        if limit == Some(0) {
            return Err(wrong("--limit or RUN_LIMIT", "0 rows are none; give 1 or more, or leave it out".to_owned()));
        }
        let cassette = match (&self.record, &self.replay) {
            (Some(folder), _) => {
                // Before anything is asked for: nobody should hear of it after minutes.
                std::fs::create_dir_all(folder).map_err(|error| {
                    let folder = folder.display();
                    wrong("--record", format!("cannot write in {folder}: {error}; choose a folder that can be written"))
                })?;
                Some(Cassette::Record(Tape::new(folder)))
            }
            (None, Some(folder)) if folder.is_dir() => Some(Cassette::Replay(Tape::new(folder))),
            (None, Some(folder)) => {
                return Err(wrong(
                    "--replay",
                    format!("there is no folder {}; record one with --record", folder.display()),
                ));
            }
            (None, None) => None,
        };
        Ok(RunOptions {
            run_type,
            from: self.from.clone().or_else(|| env(&["RUN_FROM"])),
            to: self.to.clone().or_else(|| env(&["RUN_TO"])),
            resources,
            limit,
            fresh: self.fresh,
            cassette,
        })
    }
}

/// Runs, and shows it.
pub async fn run(args: RunArgs, context: &Context) -> Result<Exit, Error> {
    let loaded = args.pipeline.load()?;
    let options = args.options()?;
    if args.dry_run {
        out(&plan(&loaded, &options, context.clock.now()).await?);
        return Ok(Exit::Done);
    }
    let progress = Arc::new(Progress::default());
    let deps = RunDeps {
        clock: Arc::clone(&context.clock),
        ids: Arc::clone(&context.ids),
        stop: context.stop.clone(),
        progress: Arc::clone(&progress),
        http: http()?,
    };
    // The console takes this run in when it is committed; until then it has the pipeline's page only.
    let link = context.public_url.as_deref().map(|base| pipeline_page(base, &loaded.pipeline.name));
    let named = Named { file: args.pipeline.name(), link };
    let watch = Watch::start(progress, &loaded.pipeline.name);
    let outcome = operate(&loaded, named, options, &deps).await;
    watch.finish().await;
    let report = outcome.map_err(|error| redacted(error, &loaded.secrets))?;
    Ok(say(&report, &args.pipeline.name(), &loaded.secrets))
}

fn redacted(error: Error, secrets: &crate::spec::Secrets) -> Error {
    match error {
        Error::Lake { detail } => Error::Lake { detail: secrets.redact(&detail) },
        other => other,
    }
}

/// What went into databases, a line a table.
pub fn say_loads(loads: &[crate::load::LoadOutcome]) {
    for load in loads {
        let what =
            if load.already { "is up to date".to_owned() } else { format!("took {}", counted(load.rows, "row")) };
        eprintln!("load: {} {what}, commit {}", load.table, load.to_commit);
    }
}

/// The end of a run in a few lines.
fn say(report: &RunReport, file: &str, secrets: &crate::spec::Secrets) -> Exit {
    for warning in report.warnings.iter().filter(|warning| !warning.contains("secret in plain text")) {
        eprintln!("note: {}", secrets.redact(warning));
    }
    for (name, quality) in &report.reports {
        let mut words = vec![counted(quality.rows, "row"), format!("{} in all", quality.rows_total)];
        if let Some(expected) = quality.expected_rows {
            words.push(format!("API says {expected}"));
        }
        let counts = [
            (quality.duplicates, if quality.duplicates == 1 { "duplicate" } else { "duplicates" }),
            (quality.overlap, "seen before"),
            (quality.rescued, "rescued"),
            (quality.quarantined, "quarantined"),
        ];
        words.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        eprintln!("{name}: {}", words.join(", "));
        for change in &quality.schema_changes {
            eprintln!("  schema: {change}");
        }
        for check in quality.checks.iter().filter(|check| check.status != crate::quality::CheckStatus::Passed) {
            let status = format!("{:?}", check.status).to_lowercase();
            eprintln!(
                "  {status}: {}{}: {}",
                check.rule,
                check.column.as_ref().map(|c| format!(" {c}")).unwrap_or_default(),
                check.detail
            );
        }
    }
    say_loads(&report.loads);
    let took = report.finished_at.since(report.started_at);
    let resumed = if report.resumed { ", resumed" } else { "" };
    let error = report.error.as_ref().map(|error| secrets.redact(&error.to_string())).unwrap_or_default();
    match report.status {
        RunStatus::Succeeded => {
            eprintln!(
                "{} ({}{resumed}) succeeded in {:.1} s, commit {}",
                report.run_id,
                report.run_type,
                took.as_secs_f64(),
                report.commit.unwrap_or(0)
            );
            Exit::Done
        }
        RunStatus::GateFailed => {
            eprintln!("{} finished, but a quality gate failed; look: tessera ingest quality {file}", report.run_id);
            Exit::GateFailed
        }
        RunStatus::Stopped => {
            eprintln!("{} {error}; progress is saved, the next run goes on", report.run_id);
            if error.contains("budget") { Exit::Done } else { Exit::Failed }
        }
        RunStatus::Failed => {
            eprintln!("error: {error}");
            let code = report.error.as_ref().map_or("", Error::code);
            let rest = match report.commit {
                Some(number) if code == "ingest.load_refused" => {
                    format!("the lake is committed ({number}); load again with: tessera ingest load {file}")
                }
                Some(number) => format!("the other resources are committed ({number})"),
                None if report.error.as_ref().is_some_and(Error::can_be_resumed) => {
                    "nothing was committed; progress is saved, the next run goes on".to_owned()
                }
                None => "nothing was committed".to_owned(),
            };
            eprintln!("{} failed [{code}]; {rest}", report.run_id);
            Exit::Failed
        }
    }
}
