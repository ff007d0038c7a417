//! What the service remembers: runs and their counters, when a pipeline was first seen, which tick of its schedule was
//! last answered. One method is one atomic step. The data itself, and where it stands, lives in the lake; losing this
//! store loses history, no rows.

mod schema;
mod write;

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use tessera_kernel::Timestamp;
use tessera_store::each_engine;
use tessera_store::sql::{self, Db};

use crate::Error;

pub use write::{Accepted, NewRun};

/// Runs kept for each pipeline; older ones that are over are deleted. A run each minute is kept for a week.
pub const RUNS_KEPT: i64 = 10_000;

/// Names that are written as text, one for each variant.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What set a run going.
    Trigger {
        /// The schedule.
        Schedule = "schedule",
        /// A request.
        Api = "api",
        /// The command line, in another process; known from its commit in the lake.
        Cli = "cli",
    }
}

words! {
    /// Where a run stands.
    Status {
        /// It waits for a free place.
        Queued = "queued",
        /// It is at work.
        Running = "running",
        /// It ended well.
        Succeeded = "succeeded",
        /// It ended with an error.
        Failed = "failed",
        /// It ended, and a quality rule held rows back.
        GateFailed = "gate_failed",
        /// It was stopped, or its process was; the next run goes on from there.
        Stopped = "stopped",
    }
}

impl Status {
    /// Whether nothing more happens to the run.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

words! {
    /// Backfill or incremental.
    Kind {
        /// Everything is read.
        Backfill = "backfill",
        /// What is new or changed is read.
        Incremental = "incremental",
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// `run_…`
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Backfill or incremental.
    pub kind: Kind,
    /// What set it going.
    pub trigger: Trigger,
    /// Where it stands.
    pub status: Status,
    /// Its id in the lake, where it went on with an earlier run's work under that run's id.
    pub lake_run: Option<String>,
    /// When it was asked for: the order of the list.
    pub created_at: Timestamp,
    /// When it began; when it was asked for until then.
    pub started_at: Timestamp,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it did not end well.
    pub error: Option<RunError>,
    /// Its resources.
    pub resources: Vec<Counts>,
}

/// Why a run did not end well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunError {
    /// The stable code, such as `ingest.source_unreachable`.
    pub code: String,
    /// In words, without secrets.
    pub detail: String,
}

/// A resource's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Its name.
    pub name: String,
    /// waiting, running, done or failed.
    pub status: String,
    /// Rows written, those of a run before that was resumed included.
    pub rows: u64,
    /// Rows that this process wrote; not stored.
    #[serde(skip)]
    pub written: u64,
    /// The API's own total.
    pub expected_rows: Option<u64>,
    /// Bytes of complete files.
    pub bytes: u64,
    /// Complete files.
    pub files: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
}

/// What is known of a pipeline beside its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the service first saw it; its SLA is measured from here until a run succeeds.
    pub first_seen_at: Timestamp,
    /// The tick of its schedule that was last answered, or when it was first seen.
    pub tick_at: Timestamp,
}

/// Which runs are listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// With this status.
    pub status: Option<Status>,
    /// Changed at or after this moment; the list is then in the order of change, oldest first.
    pub updated_since: Option<Timestamp>,
}

/// A run's place in a list: a time and the id.
pub type Place = (i64, String);

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    /// Held while the store is this process's alone.
    claim: Option<Arc<File>>,
}

/// Keeps other processes from a store in a file while it is held; none where the store can be shared.
///
/// # Errors
/// Who has it, and what to do.
pub fn claim_file(url: &str) -> Result<Option<File>, String> {
    let Some(path) = url.strip_prefix("sqlite:") else { return Ok(None) };
    let path = format!("{}.lock", path.trim_start_matches("//").split('?').next().unwrap_or(path));
    let folder = Path::new(&path).parent().unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(folder).and_then(|()| File::create(&path));
    let file = made.map_err(|error| format!("{path} cannot be written: {error}"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another process uses it (it holds {path}); stop that one, or give this one another folder with --data"
        )),
        Err(TryLockError::Error(error)) => Err(format!("{path} cannot be locked: {error}")),
    }
}

impl From<sql::Error> for Error {
    fn from(error: sql::Error) -> Self {
        use std::error::Error as _;
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Internal(format!("the history of runs: {error}{cause}"))
    }
}

const COLUMNS: &str = "id, pipeline, kind, started_by, status, lake_run, created_at, started_at, updated_at, \
                       finished_at, error_code, error_detail, resources";

#[derive(FromRow)]
struct Row {
    id: String,
    pipeline: String,
    kind: String,
    started_by: String,
    status: String,
    lake_run: Option<String>,
    created_at: i64,
    started_at: i64,
    updated_at: i64,
    finished_at: Option<i64>,
    error_code: Option<String>,
    error_detail: Option<String>,
    resources: String,
}

impl TryFrom<Row> for Run {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let broken = |what: String| Error::Internal(format!("run `{}` in the history: {what}", row.id));
        Ok(Self {
            kind: row.kind.parse().map_err(broken)?,
            trigger: row.started_by.parse().map_err(broken)?,
            status: row.status.parse().map_err(broken)?,
            resources: serde_json::from_str(&row.resources).map_err(|error| broken(error.to_string()))?,
            error: row.error_code.map(|code| RunError { code, detail: row.error_detail.unwrap_or_default() }),
            created_at: Timestamp::from_micros(row.created_at),
            started_at: Timestamp::from_micros(row.started_at),
            updated_at: Timestamp::from_micros(row.updated_at),
            finished_at: row.finished_at.map(Timestamp::from_micros),
            id: row.id,
            pipeline: row.pipeline,
            lake_run: row.lake_run,
        })
    }
}

fn runs(rows: Vec<Row>) -> Result<Vec<Run>, Error> {
    rows.into_iter().map(Run::try_from).collect()
}

impl Store {
    /// Opens the store at a URL, `sqlite:…` or `postgres://…`, and brings its schema up to date.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn open(url: &str) -> Result<Self, sql::Error> {
        Ok(Self { db: Db::open(url, "ingest", schema::STEPS).await?, claim: None })
    }

    /// Keeps other processes from a store in a file until it is closed: its runs are taken for this process's own. One
    /// that can be shared stays shared.
    ///
    /// # Errors
    /// Who has it, and what to do.
    pub fn claim(mut self, url: &str) -> Result<Self, String> {
        self.claim = claim_file(url)?.map(Arc::new);
        Ok(self)
    }

    /// Whether other processes may use it too: then runs that this process does not know may still be alive.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Postgres(_))
    }

    /// Closes it.
    pub async fn close(&self) {
        self.db.close().await;
        if let Some(file) = &self.claim {
            let _ = file.unlock();
        }
    }

    /// One run, by its own id or by its id in the lake; the newest where several went by that.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Internal`] when the store fails.
    pub async fn run(&self, id: &str) -> Result<Run, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM runs WHERE id = $1 OR lake_run = $1 \
             ORDER BY (CASE WHEN id = $1 THEN 0 ELSE 1 END), created_at DESC LIMIT 1"
        );
        let row: Option<Row> = self.optional(&sql, id).await?;
        let missing = || Error::NotFound(format!("there is no run `{id}`; GET /ingest/runs lists those that are kept"));
        row.ok_or_else(missing)?.try_into()
    }

    /// The newest run of a pipeline.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn last_run(&self, pipeline: &str) -> Result<Option<Run>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE pipeline = $1 ORDER BY created_at DESC, id DESC LIMIT 1");
        self.optional(&sql, pipeline).await?.map(Run::try_from).transpose()
    }

    /// The run of a pipeline that is not over.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn active(&self, pipeline: &str) -> Result<Option<Run>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE pipeline = $1 AND status IN ('queued', 'running')");
        self.optional(&sql, pipeline).await?.map(Run::try_from).transpose()
    }

    /// When the last successful run of a pipeline ended.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn last_success(&self, pipeline: &str) -> Result<Option<Timestamp>, Error> {
        const SQL: &str = "SELECT MAX(finished_at) FROM runs WHERE pipeline = $1 AND status = 'succeeded'";
        let at: Option<i64> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(SQL).bind(pipeline).fetch_one(pool).await)
                .map_err(sql::Error::from)?;
        Ok(at.map(Timestamp::from_micros))
    }

    async fn optional(&self, sql: &str, name: &str) -> Result<Option<Row>, Error> {
        // Every such text is a constant of this file.
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let row = each_engine!(&self.db, |pool| sqlx::query_as(sql).bind(name).fetch_optional(pool).await);
        Ok(row.map_err(sql::Error::from)?)
    }

    /// Up to `most` runs after a place: newest first, or in the order of change with `updated_since`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn list(&self, filter: &Filter, after: Option<Place>, most: usize) -> Result<Vec<Run>, Error> {
        let (column, beyond, order) = match filter.updated_since {
            Some(_) => ("updated_at", ">", "ASC"),
            None => ("created_at", "<", "DESC"),
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM runs WHERE (CAST($1 AS TEXT) IS NULL OR pipeline = $1) \
             AND (CAST($2 AS TEXT) IS NULL OR status = $2) AND updated_at >= $3 \
             AND (CAST($4 AS BIGINT) IS NULL OR {column} {beyond} $4 OR ({column} = $4 AND id {beyond} $5)) \
             ORDER BY {column} {order}, id {order} LIMIT $6"
        ));
        let since = filter.updated_since.map_or(i64::MIN, Timestamp::micros);
        let (at, id) = after.map_or((None, String::new()), |(at, id)| (Some(at), id));
        let rows: Vec<Row> = each_engine!(&self.db, |pool| {
            let query = sqlx::query_as(sql).bind(filter.pipeline.as_deref()).bind(filter.status.map(Status::as_str));
            query.bind(since).bind(at).bind(id).bind(most as i64).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        runs(rows)
    }
}
