//! `[ingest]`: the settings of the service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tessera_service::config::Section;

/// `[ingest]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of pipeline files (`*.yaml`, `*.yml`); `<data>/pipelines` where not set.
    pub pipelines: Option<PathBuf>,
    /// Runs at a time; more wait in the queue.
    pub max_concurrent_runs: MaxConcurrentRuns,
    /// Where the history of runs is kept: `sqlite:…` or `postgres://…`; `<data>/ingest.db` where not set.
    pub store: Option<String>,
    /// Where people reach the console, for links in alerts, such as `https://tessera.example.com`.
    pub public_url: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { pipelines: None, max_concurrent_runs: MaxConcurrentRuns(2), store: None, public_url: None }
    }
}

impl Section for Config {
    const NAME: &'static str = "ingest";
}

impl Config {
    /// The name of `pipelines` in messages.
    pub const PIPELINES: &'static str = "ingest.pipelines";
    /// The name of `store` in messages.
    pub const STORE: &'static str = "ingest.store";
}

/// A number of runs, 1 to 64: each has its own buffers and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize")]
pub struct MaxConcurrentRuns(usize);

impl MaxConcurrentRuns {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<usize> for MaxConcurrentRuns {
    type Error = &'static str;

    fn try_from(runs: usize) -> Result<Self, &'static str> {
        if (1..=64).contains(&runs) { Ok(Self(runs)) } else { Err("give 1 to 64 runs") }
    }
}
