//! What is written beside the data: the manifest of each commit, the state after it, and the progress of a run that has
//! not committed yet. All versioned JSON that a person can read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use super::{Cursor, KeyRange};
use crate::quality::QualityReport;
use crate::shape::Shape;
use crate::spec::WriteMode;

/// Version of these documents. 2: files say between which values their keys lie; without that they may hold any.
pub const VERSION: u32 = 2;

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
    /// Between which values its keys lie, by key column; empty where that is not known. Rows may have left it since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRange>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::Span;

    /// As version 1 wrote it.
    const STATE_1: &str = r#"{
      "version": 1, "pipeline": "shop", "resources": { "orders": {
        "cursor": "2024-01-31T10:00:00Z", "committed_at": "2024-01-31T10:00:05Z", "rows": 2, "schema_version": 1,
        "schema": { "columns": [{ "name": "id", "type": "int" }] },
        "files": [{
          "path": "orders/dt=2024-01-31/1-a-00001.parquet", "rows": 2, "bytes": 700, "sha256": "ab", "schema_version": 1,
          "min_cursor": "2024-01-30T10:00:00Z", "max_cursor": "2024-01-31T10:00:00Z",
          "run_id": "run_1", "written_at": "2024-01-31T10:00:00Z"
        }]
      } }
    }"#;

    #[test]
    fn a_state_of_version_1_is_read_and_names_no_keys() {
        let state: State = serde_json::from_str(STATE_1).unwrap();
        let file = &state.resources["orders"].files[0];
        assert_eq!((file.rows, &file.keys), (2, &vec![]));
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("keys"), "{text}");
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    }

    #[test]
    fn keys_of_a_file_are_read_as_they_were_written() {
        let state: State = serde_json::from_str(STATE_1).unwrap();
        let keys = vec![KeyRange { column: "id".into(), span: Span::Int(1, 2) }];
        let file = DataFile { keys, ..state.resources["orders"].files[0].clone() };
        let text = serde_json::to_string(&file).unwrap();
        assert!(text.contains(r#""keys":[{"column":"id","int":[1,2]}]"#), "{text}");
        assert_eq!(serde_json::from_str::<DataFile>(&text).unwrap(), file);
    }
}
