//! Rules that rows must keep.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Rules for one resource.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityRules {
    /// These columns together name a row once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<String>,
    /// Columns that always have a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
    /// The newest cursor is no older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_within: Option<Span>,
    /// Rows that the resource has at least after the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rows: Option<u64>,
    /// Bounds by column, both inclusive.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub range: BTreeMap<String, Range>,
    /// Allowed values by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted_values: BTreeMap<String, Vec<String>>,
    /// Regular expression by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, String>,
    /// The number of rows read equals the API's own total, where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<bool>,
    /// The schema did not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_schema: Option<bool>,
    /// What a broken rule does.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// Bounds of a number.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// What a broken rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// Said in the report and the alert; the data is committed.
    #[default]
    Warn,
    /// The resource is not committed and its cursor stays; the run ends with exit code 3.
    Fail,
    /// Bad rows go to the quarantine folder with the reason; the others are committed. A rule about the whole
    /// resource, which no row breaks by itself, warns.
    Quarantine,
}
