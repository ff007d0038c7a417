//! Who is measured, and the command that does the job with each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde::Serialize;

/// One way to do the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contender {
    /// `tessera ingest run` with a primary key, without quality rules
    Tessera,
    /// The same with quality rules
    Quality,
    /// `tessera ingest run` without a primary key and without rules: nothing looks for duplicates
    Keyless,
    /// The loop of this benchmark
    Bare,
    /// dlt's rest_api source
    Dlt,
    /// `tessera version`: no job, the start alone
    Version,
}

impl Contender {
    /// As in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Tessera => "tessera",
            Self::Quality => "tessera, with quality rules",
            Self::Keyless => "tessera, without a key",
            Self::Bare => "bare loop",
            Self::Dlt => "dlt",
            Self::Version => "tessera version",
        }
    }

    /// Whether it reads the API and writes files.
    pub(crate) fn works(self) -> bool {
        self != Self::Version
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) tessera: PathBuf,
    pub(crate) bare: PathBuf,
    pub(crate) pages: PathBuf,
    /// Python with dlt.
    pub(crate) python: Option<PathBuf>,
}

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    /// The API.
    pub(crate) url: &'a str,
    /// An empty folder for all that the process writes.
    pub(crate) folder: &'a Path,
    /// Requests in flight, for those who can.
    pub(crate) concurrency: u16,
}

impl Job<'_> {
    /// Where the rows go.
    pub(crate) fn lake(&self) -> PathBuf {
        self.folder.join("lake")
    }

    /// What the process says.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }
}

impl Programs {
    /// The command that does the job.
    pub(crate) fn command(&self, contender: Contender, job: &Job<'_>) -> anyhow::Result<Command> {
        fs::create_dir_all(job.lake())?;
        let mut command = match contender {
            Contender::Tessera | Contender::Quality | Contender::Keyless => {
                let key = if contender == Contender::Keyless { "[]" } else { "[id]" };
                let rules = if contender == Contender::Quality { RULES } else { "" };
                let file = job.folder.join("pipeline.yaml");
                fs::write(&file, pipeline(job, key) + rules)?;
                let mut command = Command::new(&self.tessera);
                command.args(["ingest", "run"]).arg(file);
                command
            }
            Contender::Version => {
                let mut command = Command::new(&self.tessera);
                command.arg("version");
                command
            }
            Contender::Bare => {
                let mut command = Command::new(&self.bare);
                command.arg("--url").arg(format!("{}/rows", job.url));
                command.arg("--concurrency").arg(job.concurrency.to_string());
                command.arg("--out").arg(job.lake().join("rows.parquet"));
                command
            }
            Contender::Dlt => {
                let python = self.python.as_ref().ok_or_else(|| anyhow::anyhow!("dlt needs --python"))?;
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/dlt_rows.py");
                let mut command = Command::new(python);
                command.args([script, job.url]).arg(job.lake()).arg(job.folder.join("scratch"));
                command
            }
        };
        let log = fs::File::create(job.log())?;
        command.current_dir(job.folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

fn pipeline(job: &Job<'_>, key: &str) -> String {
    format!(
        "version: 1
name: bench
source: {{ base_url: \"{}\", concurrency: {} }}
defaults:
  paginator: {{ type: page, param: page, size_param: per_page, size: 1000 }}
  records: data
  total: total
  primary_key: {key}
resources:
  - {{ name: rows, path: /rows, incremental: false }}
destination: {{ url: \"{}\" }}
",
        job.url,
        job.concurrency,
        job.lake().display(),
    )
}

/// A rule of each kind that these rows give an occasion for.
const RULES: &str = "quality:
  rows:
    unique: [id]
    not_null: [id, ref, status, country, created_at]
    range: { quantity: { min: 1, max: 1000 }, price: { min: 0 } }
    accepted_values: { status: [placed, paid, packed, shipped, delivered, returned] }
    reconcile: true
";
