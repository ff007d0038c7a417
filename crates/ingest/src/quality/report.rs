//! What a run found out about a resource's rows. Stored in the manifest, shown by `quality` and the console.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lake::Cursor;

/// One resource, one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// Rows that this run committed.
    pub rows: u64,
    /// Rows in the lake after it.
    pub rows_total: u64,
    /// The API's own total, where it gives one that this run can be held against.
    pub expected_rows: Option<u64>,
    /// Rows of this run whose primary key an earlier row of the run had.
    pub duplicates: u64,
    /// Missing values by top-level column.
    pub nulls: BTreeMap<String, u64>,
    /// Oldest cursor seen.
    pub cursor_min: Option<Cursor>,
    /// Newest cursor seen.
    pub cursor_max: Option<Cursor>,
    /// Seconds from the newest cursor to the end of the run, where the cursor is a time.
    pub lag_s: Option<u64>,
    /// What the schema gained: "added column x: string", "widened weight: int to float".
    pub schema_changes: Vec<String>,
    /// Rows with a value in `_rescued`.
    pub rescued: u64,
    /// Rows that went to the quarantine folder.
    pub quarantined: u64,
    /// Rows of the overlap that were committed before and not again.
    pub overlap: u64,
    /// What was noticed beside the rules, such as a cursor that went backwards.
    pub notes: Vec<String>,
    /// The rules.
    pub checks: Vec<Check>,
}

/// The verdict on one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `unique`, `not_null`, `fresh_within`, `min_rows`, `range`, `accepted_values`, `matches`, `reconcile` or
    /// `stable_schema`.
    pub rule: String,
    /// The column it is about.
    pub column: Option<String>,
    /// The verdict.
    pub status: CheckStatus,
    /// Rows that break it.
    pub bad_rows: u64,
    /// In words, with the values.
    pub detail: String,
}

/// The verdict on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It holds.
    Passed,
    /// It does not, and the data was committed.
    Warned,
    /// It does not, and the resource was not committed.
    Failed,
    /// It does not, and the bad rows were set aside.
    Quarantined,
}

impl QualityReport {
    /// Whether a rule kept the resource from being committed.
    pub fn gate_failed(&self) -> bool {
        self.checks.iter().any(|check| check.status == CheckStatus::Failed)
    }
}

/// One entry of a resource's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The run.
    pub run_id: String,
    /// When it was committed.
    pub at: tessera_kernel::Timestamp,
    /// What it found.
    #[serde(flatten)]
    pub report: QualityReport,
}

/// The history of one resource, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The resource.
    pub name: String,
    /// Its entries.
    pub history: Vec<HistoryEntry>,
}
