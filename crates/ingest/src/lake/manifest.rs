//! What is written beside the data: the manifest of each commit, the state after it, and the progress of a run that has
//! not committed yet. All versioned JSON that a person can read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use super::Cursor;
use crate::quality::QualityReport;
use crate::shape::Shape;
use crate::spec::WriteMode;

/// Version of these documents.
pub const VERSION: u32 = 1;

/// A file of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Path below the dataset: `orders/dt=2024-01-31/….parquet`.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, in hex.
    pub sha256: String,
    /// Version of the schema it was written with.
    pub schema_version: u32,
    /// Oldest cursor in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cursor: Option<Cursor>,
    /// Newest cursor in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cursor: Option<Cursor>,
    /// The run that wrote it.
    pub run_id: String,
    /// When that run began.
    pub written_at: Timestamp,
}

/// One commit: what a run changed. Its creation under the next number is the moment in which files become part of the
/// dataset and cursors advance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Number of the commit, from 1.
    pub number: u64,
    /// The pipeline.
    pub pipeline: String,
    /// The run; `state-…` for a change of state by hand, or for a run that was given up.
    pub run_id: String,
    /// backfill, incremental or state.
    pub kind: String,
    /// When the run began.
    pub started_at: Timestamp,
    /// When it committed.
    pub committed_at: Timestamp,
    /// What happened to each resource.
    pub resources: BTreeMap<String, ResourceCommit>,
    /// Path of the [`State`] after this commit.
    pub state: String,
}

/// What a run did to one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceCommit {
    /// How the rows met the old ones.
    pub write: WriteMode,
    /// Everything before was replaced.
    pub replaced: bool,
    /// The gate failed: nothing was committed for this resource, only its report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// Files that came; those that a merge wrote anew included.
    pub added: Vec<DataFile>,
    /// Paths of the files that went.
    pub removed: Vec<String>,
    /// Files of rows set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<String>,
    /// What was found out about the rows.
    pub report: QualityReport,
}

/// The dataset after a commit: which files count, where each resource stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// The pipeline.
    pub pipeline: String,
    /// By resource.
    pub resources: BTreeMap<String, ResourceState>,
}

impl State {
    /// The state of a dataset that nobody wrote to.
    pub fn empty(pipeline: &str) -> Self {
        Self { version: VERSION, pipeline: pipeline.to_owned(), resources: BTreeMap::new() }
    }
}

/// Where a resource stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceState {
    /// The newest cursor committed; an incremental run reads from here minus the lookback.
    pub cursor: Option<Cursor>,
    /// When a run last committed this resource.
    pub committed_at: Option<Timestamp>,
    /// Rows in the lake.
    pub rows: u64,
    /// They are what a run with a limit read, which took the place of all others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
    /// Version of the schema; grows with each change.
    pub schema_version: u32,
    /// The schema.
    pub schema: Shape,
    /// The files that count.
    pub files: Vec<DataFile>,
}
