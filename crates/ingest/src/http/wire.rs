//! What is sent: the types of the answers, and how they are made from what is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;
use tessera_service::http::List;
use utoipa::ToSchema;

use crate::alerts::SlaStatus;
use crate::app::service::{Facts, Look, PipelineStatus, Watched};
use crate::lake::DataFile;
use crate::quality;
use crate::spec::{Pipeline as Spec, WriteMode, primary_key, write_mode};
use crate::store::{Counts, Kind, RunError, Status, Trigger};

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Listed<T: ToSchema> {
    /// The items of this page.
    items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl<T: ToSchema> From<List<T>> for Listed<T> {
    fn from(list: List<T>) -> Self {
        Self { items: list.items, next_cursor: list.next_cursor }
    }
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:tessera:error:<code>`
    r#type: String,
    /// What sort of error it is.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code, such as `ingest.not_found`.
    code: String,
    /// What happened, and what to do.
    detail: String,
    /// By which the log knows the request.
    #[schema(required)]
    request_id: Option<String>,
}

/// A pipeline.
#[derive(Serialize, ToSchema)]
pub(super) struct Pipeline {
    /// Its name.
    pub(super) name: String,
    /// What it is for.
    #[schema(required)]
    description: Option<String>,
    /// Who answers for it.
    #[schema(required)]
    owner: Option<String>,
    /// Who uses the data.
    consumers: Vec<String>,
    /// When it runs: a cron expression.
    #[schema(required)]
    schedule: Option<String>,
    /// When the schedule runs it next.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    next_run_at: Option<Timestamp>,
    /// Where the files go.
    #[schema(required)]
    destination: Option<String>,
    /// Their format: parquet, csv or jsonl.
    #[schema(required)]
    format: Option<&'static str>,
    /// What it reads.
    resources: Vec<Resource>,
    /// What its consumers are promised.
    #[schema(required)]
    sla: Option<Sla>,
    /// Whether the promise is kept: met or missed.
    #[schema(required)]
    sla_status: Option<&'static str>,
    /// In words, where it is not.
    #[schema(required)]
    sla_detail: Option<String>,
    /// never_ran, running, ok, failed, gate_failed or late.
    status: &'static str,
    /// Why its file cannot be used.
    #[schema(required)]
    error: Option<RunError>,
    /// Its newest run.
    #[schema(required)]
    last_run: Option<Run>,
    /// When its file or its newest run last changed.
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
}

/// What a pipeline reads.
#[derive(Serialize, ToSchema)]
struct Resource {
    /// Its name.
    name: String,
    /// replace, append or merge.
    write: &'static str,
    /// The columns that name a row.
    primary_key: Vec<String>,
    /// The column that an incremental run goes by.
    #[schema(required)]
    cursor: Option<String>,
    /// Rows in the lake.
    #[schema(required)]
    rows: Option<u64>,
    /// Version of its schema.
    #[schema(required)]
    schema_version: Option<u32>,
}

/// What consumers are promised.
#[derive(Serialize, ToSchema)]
struct Sla {
    /// The last successful run is no older than this.
    #[schema(required)]
    fresh_within_s: Option<u64>,
    /// A run has succeeded each day by this time.
    #[schema(required)]
    ready_by: Option<String>,
    /// The time zone of `ready_by` and the schedule.
    timezone: String,
}

impl From<Facts> for Pipeline {
    fn from(facts: Facts) -> Self {
        let Facts { entry, look, last_run, sla, next_run_at, status } = facts;
        let spec = entry.loaded.as_ref().ok().map(|loaded| loaded.pipeline.clone());
        let error = entry.loaded.as_ref().err();
        let error = error.map(|broken| RunError { code: broken.code.to_owned(), detail: broken.detail.clone() });
        let last_run = last_run.map(Run::from);
        let changed = last_run.as_ref().map_or(entry.changed_at, |run| run.updated_at.max(entry.changed_at));
        let of = |read: fn(&Spec) -> Option<String>| spec.as_deref().and_then(read);
        Self {
            name: entry.name.clone(),
            description: of(|spec| spec.description.clone()),
            owner: of(|spec| spec.owner.clone()),
            consumers: spec.as_ref().map(|spec| spec.consumers.clone()).unwrap_or_default(),
            schedule: of(|spec| spec.schedule.clone()),
            next_run_at,
            destination: of(|spec| Some(spec.destination.url.clone())),
            format: spec.as_ref().map(|spec| spec.destination.format.extension()),
            resources: spec.as_ref().map(|spec| resources(spec, look.as_deref())).unwrap_or_default(),
            sla: spec.as_ref().and_then(|spec| spec.sla.as_ref()).map(|sla| Sla {
                fresh_within_s: sla.fresh_within.map(|span| span.as_secs()),
                ready_by: sla.ready_by.clone(),
                timezone: sla.timezone.clone(),
            }),
            sla_status: sla.as_ref().map(|sla| if *sla == SlaStatus::Met { "met" } else { "missed" }),
            sla_detail: sla.and_then(|sla| match sla {
                SlaStatus::Met => None,
                SlaStatus::Missed { what, .. } => Some(what),
            }),
            status: match status {
                PipelineStatus::NeverRan => "never_ran",
                PipelineStatus::Running => "running",
                PipelineStatus::Ok => "ok",
                PipelineStatus::Failed => "failed",
                PipelineStatus::GateFailed => "gate_failed",
                PipelineStatus::Late => "late",
            },
            error,
            last_run,
            updated_at: changed,
        }
    }
}

fn resources(spec: &Spec, look: Option<&Look>) -> Vec<Resource> {
    let state = |name: &str| look.and_then(|look| look.state.resources.get(name));
    let shown = spec.resources.iter().map(|resource| Resource {
        name: resource.name.clone(),
        write: match write_mode(spec, resource) {
            WriteMode::Replace => "replace",
            WriteMode::Append => "append",
            WriteMode::Merge => "merge",
        },
        primary_key: primary_key(spec, resource).to_vec(),
        cursor: resource.incremental.cursor().map(|cursor| cursor.cursor.clone()),
        rows: state(&resource.name).map(|state| state.rows),
        schema_version: state(&resource.name).map(|state| state.schema_version),
    });
    shown.collect()
}

/// A run.
#[derive(Serialize, ToSchema)]
pub(super) struct Run {
    /// `run_…`
    pub(super) id: String,
    /// Its pipeline.
    pipeline: String,
    /// backfill or incremental.
    run_type: Kind,
    /// What set it going.
    trigger: Trigger,
    /// Where it stands.
    status: Status,
    /// When it began; when it was asked for until then.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When anything of it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub(super) updated_at: Timestamp,
    /// When it ended.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// Rows written.
    rows: u64,
    /// Bytes of complete files.
    bytes: u64,
    /// Complete files.
    files: u64,
    /// Requests sent.
    requests: u64,
    /// Requests sent again.
    retries: u64,
    /// Answers 429.
    throttled: u64,
    /// Over the last seconds while it is at work; on average when it is over.
    rows_per_second: f64,
    /// Why it did not end well.
    #[schema(required)]
    error: Option<RunError>,
    /// Its resources.
    resources: Vec<RunResource>,
}

/// A resource's part of a run.
#[derive(Serialize, ToSchema)]
struct RunResource {
    /// Its name.
    name: String,
    /// waiting, running, done or failed.
    status: String,
    /// Rows written.
    rows: u64,
    /// The API's own total.
    #[schema(required)]
    expected_rows: Option<u64>,
    /// Bytes of complete files.
    bytes: u64,
    /// Complete files.
    files: u64,
    /// Requests sent.
    requests: u64,
    /// Requests sent again.
    retries: u64,
    /// Answers 429.
    throttled: u64,
    /// Seconds until the API's own total is reached.
    #[schema(required)]
    eta_s: Option<u64>,
}

impl From<Watched> for Run {
    fn from(watched: Watched) -> Self {
        let Watched { run, speed } = watched;
        let sum = |of: fn(&Counts) -> u64| run.resources.iter().map(of).sum::<u64>();
        let rows = sum(|counts| counts.rows);
        let seconds = run.finished_at.unwrap_or(run.updated_at).since(run.started_at).as_secs_f64();
        let average = if seconds > 0.0 { rows as f64 / seconds } else { 0.0 };
        let rate = speed.as_ref().map_or(average, |speed| speed.rows_per_second);
        let resource = |counts: &Counts| RunResource {
            name: counts.name.clone(),
            status: counts.status.clone(),
            rows: counts.rows,
            expected_rows: counts.expected_rows,
            bytes: counts.bytes,
            files: counts.files,
            requests: counts.requests,
            retries: counts.retries,
            throttled: counts.throttled,
            eta_s: speed.as_ref().and_then(|speed| speed.eta_s.get(&counts.name).copied()),
        };
        Self {
            rows,
            bytes: sum(|counts| counts.bytes),
            files: sum(|counts| counts.files),
            requests: sum(|counts| counts.requests),
            retries: sum(|counts| counts.retries),
            throttled: sum(|counts| counts.throttled),
            rows_per_second: (rate * 10.0).round() / 10.0,
            resources: run.resources.iter().map(resource).collect(),
            id: run.id,
            pipeline: run.pipeline,
            run_type: run.kind,
            trigger: run.trigger,
            status: run.status,
            started_at: run.started_at,
            updated_at: run.updated_at,
            finished_at: run.finished_at,
            error: run.error,
        }
    }
}

/// What is asked of a run. All of it may be left out: an incremental run of all resources.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartRun {
    /// incremental where not given.
    pub(super) run_type: Option<Kind>,
    /// Rows from this cursor on: a time, or a number where the cursor is one.
    pub(super) from: Option<String>,
    /// Rows before this cursor.
    pub(super) to: Option<String>,
    /// Only these resources.
    #[serde(default)]
    pub(super) resources: Vec<String>,
}

/// The quality of a pipeline's tables.
#[derive(Serialize, ToSchema)]
pub(super) struct Quality {
    /// The pipeline.
    pub(super) pipeline: String,
    /// By table.
    pub(super) resources: Vec<TableQuality>,
}

/// The quality of a table, run by run.
#[derive(Serialize, ToSchema)]
pub(super) struct TableQuality {
    name: String,
    /// Oldest first.
    history: Vec<QualityEntry>,
}

/// What one run found out.
#[derive(Serialize, ToSchema)]
struct QualityEntry {
    /// The run.
    run_id: String,
    /// When it was committed.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Rows that the run committed.
    rows: u64,
    /// Rows in the lake after it.
    rows_total: u64,
    /// The API's own total.
    #[schema(required)]
    expected_rows: Option<u64>,
    /// Rows whose key an earlier row of the run had.
    duplicates: u64,
    /// Missing values by column.
    nulls: BTreeMap<String, u64>,
    /// Oldest cursor seen: a time or a number.
    #[schema(required, value_type = Option<serde_json::Value>)]
    cursor_min: Option<crate::lake::Cursor>,
    /// Newest cursor seen.
    #[schema(required, value_type = Option<serde_json::Value>)]
    cursor_max: Option<crate::lake::Cursor>,
    /// Seconds from the newest cursor to the end of the run.
    #[schema(required)]
    lag_s: Option<u64>,
    /// What the schema gained.
    schema_changes: Vec<String>,
    /// Rows with a rescued value.
    rescued: u64,
    /// Rows set aside.
    quarantined: u64,
    /// What was noticed beside the rules.
    notes: Vec<String>,
    /// The rules.
    checks: Vec<Check>,
}

/// The verdict on one rule.
#[derive(Serialize, ToSchema)]
struct Check {
    /// `unique`, `not_null`, …
    rule: String,
    /// The column it is about.
    #[schema(required)]
    column: Option<String>,
    /// passed, warned, failed or quarantined.
    #[schema(value_type = String)]
    status: quality::CheckStatus,
    /// Rows that break it.
    bad_rows: u64,
    /// In words.
    detail: String,
}

impl From<quality::History> for TableQuality {
    fn from(history: quality::History) -> Self {
        Self { name: history.name, history: history.history.into_iter().map(QualityEntry::from).collect() }
    }
}

impl From<quality::HistoryEntry> for QualityEntry {
    fn from(entry: quality::HistoryEntry) -> Self {
        let quality::HistoryEntry { run_id, at, report } = entry;
        let check = |check: quality::Check| {
            let quality::Check { rule, column, status, bad_rows, detail } = check;
            Check { rule, column, status, bad_rows, detail }
        };
        Self {
            run_id,
            at,
            rows: report.rows,
            rows_total: report.rows_total,
            expected_rows: report.expected_rows,
            duplicates: report.duplicates,
            nulls: report.nulls,
            cursor_min: report.cursor_min,
            cursor_max: report.cursor_max,
            lag_s: report.lag_s,
            schema_changes: report.schema_changes,
            rescued: report.rescued,
            quarantined: report.quarantined,
            notes: report.notes,
            checks: report.checks.into_iter().map(check).collect(),
        }
    }
}

/// A file of the lake.
#[derive(Serialize, ToSchema)]
pub(super) struct File {
    /// Its table.
    resource: String,
    /// Its path below the dataset.
    pub(super) path: String,
    /// Rows in it.
    rows: u64,
    /// Its size.
    bytes: u64,
    /// Oldest cursor in it: a time or a number.
    #[schema(required, value_type = Option<serde_json::Value>)]
    min_cursor: Option<crate::lake::Cursor>,
    /// Newest cursor in it.
    #[schema(required, value_type = Option<serde_json::Value>)]
    max_cursor: Option<crate::lake::Cursor>,
    /// The run that wrote it.
    run_id: String,
    /// When that run committed.
    #[schema(value_type = String, format = DateTime)]
    pub(super) committed_at: Timestamp,
}

impl From<(String, DataFile, Timestamp)> for File {
    fn from((resource, file, committed_at): (String, DataFile, Timestamp)) -> Self {
        let DataFile { path, rows, bytes, min_cursor, max_cursor, run_id, .. } = file;
        Self { resource, path, rows, bytes, min_cursor, max_cursor, run_id, committed_at }
    }
}

/// The schemas of a pipeline's tables.
#[derive(Serialize, ToSchema)]
pub(super) struct Schemas {
    resources: Vec<TableSchema>,
}

/// The schema of a table.
#[derive(Serialize, ToSchema)]
struct TableSchema {
    name: String,
    /// Grows with each change.
    version: u32,
    columns: Vec<Column>,
}

/// A column.
#[derive(Serialize, ToSchema)]
struct Column {
    name: String,
    /// Such as `int`, `timestamp`, `list<string>`, `struct<…>`.
    r#type: String,
    /// Whether a value may be missing.
    nullable: bool,
}

impl From<&Look> for Schemas {
    fn from(look: &Look) -> Self {
        let tables = look.state.resources.iter().map(|(name, state)| TableSchema {
            name: name.clone(),
            version: state.schema_version,
            // What an API leaves out today it may leave out tomorrow: every column may be null.
            columns: (state.schema.columns.iter())
                .map(|column| Column { name: column.name.clone(), r#type: column.kind.to_string(), nullable: true })
                .collect(),
        });
        Self { resources: tables.collect() }
    }
}
