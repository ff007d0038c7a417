//! The pipeline file: what a user writes, as types. The doc comments here are the reference: the JSON Schema and
//! `docs/ingest.md` are made from them.

mod alerts;
mod auth;
mod check;
mod destination;
#[cfg(test)]
mod docs_tests;
mod env;
mod incremental;
mod load;
mod paginator;
mod quality;
mod resource;
mod shown;
mod source;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alerts::{AlertEvent, Alerts, PagerDuty, Slack, Webhook};
pub use auth::{Auth, ClientAuth, KeyPlace};
pub use check::check;
pub(crate) use check::{effective_paginator, parent, primary_key, references, write_mode};
pub use destination::{Chunk, Destination, FileFormat, Load, S3};
pub use env::Secrets;
pub(crate) use env::is_secret_name;
pub use incremental::{CursorFormat, Incremental, IncrementalCursor};
pub use load::{Loaded, json_schema, load, load_file};
pub use paginator::Paginator;
pub use quality::{OnFail, QualityRules, Range};
pub use resource::{ColumnType, Defaults, Lists, Method, Nested, Resource, ResponseFormat, SchemaPolicy, WriteMode};
pub use source::{RateLimit, Source};
pub use tessera_kernel::{Bytes, Span};
pub use tessera_service::yaml::Environment;

/// A pipeline: one API, its resources, where they go, and who is told when something is wrong.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Version of this file's format: 1.
    pub version: u32,
    /// Name of the pipeline; the dataset in the lake is called so too. Letters, digits, `_` and `-`.
    pub name: String,
    /// What this pipeline is for, shown in the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who answers for it, shown in alerts and the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who uses the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
    /// When `serve` runs it: a cron expression of five fields, in the time zone of `sla.timezone` or UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// What the consumers are promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
    /// How much one run may use. It stops cleanly at its budget and the next run goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The API.
    pub source: Source,
    /// What holds for every resource that does not say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// What is read from the API.
    pub resources: Vec<Resource>,
    /// The lake the files go to.
    pub destination: Destination,
    /// Databases that the committed files are loaded into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Load>,
    /// Rules by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, QualityRules>,
    /// Who is told of failed runs, missed SLAs, quality failures and schema drift.
    #[serde(default)]
    pub alerts: Alerts,
}

/// What the consumers are promised.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sla {
    /// The last successful run may be no older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_within: Option<Span>,
    /// A run must have succeeded since midnight by this time of day, `HH:MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_by: Option<String>,
    /// IANA time zone of `ready_by` and `schedule`.
    #[serde(default = "utc")]
    pub timezone: String,
}

fn utc() -> String {
    "UTC".into()
}

/// How much one run may use.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Requests, retries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bytes received, before decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Time since the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
}
