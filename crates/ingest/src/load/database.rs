//! A load into PostgreSQL or SQLite: one transaction from the lock to the commit.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::column::{Column, Engine, quoted};
use super::fault::{Fault, answer};
use super::plan::{Mode, Table, tables};
use super::progress::{Loaded, Step, commits, step};
use super::rows::Source;
use super::table::{Stages, bring, definitions};
use super::{BeforeCommit, LoadOutcome, postgres, sqlite};
use crate::lake::{Lake, Present};
use crate::spec::{Load, Pipeline};

/// The table that says what was loaded.
const LOADS: &str = "_tessera_loads";

/// A connection.
enum Session {
    Postgres(Box<PgConnection>),
    Sqlite(Box<SqliteConnection>),
}

/// A target.
pub(super) struct Database {
    session: Session,
    schema: String,
    stages: u32,
}

/// A row of `_tessera_loads`: dataset, resource, table, commit, run, and how it was written.
type LoadsRow = (String, String, String, i64, String, String);

/// Runs one body on whichever connection it is.
macro_rules! on_each {
    ($session:expr, |$connection:ident| $body:expr) => {
        match $session {
            Session::Postgres($connection) => $body,
            Session::Sqlite($connection) => $body,
        }
    };
}

/// Loads. On any failure the target is as before.
pub(super) async fn load(
    target: &Load,
    pipeline: &Pipeline,
    lake: &Lake,
    before_commit: BeforeCommit<'_>,
) -> Result<Vec<LoadOutcome>, Fault> {
    let mut database = Database::open(target).await?;
    let loaded = database.load(target, pipeline, lake, before_commit).await;
    // A connection that is closed before its commit rolls back.
    let closed = database.close().await;
    let outcomes = loaded?;
    closed?;
    Ok(outcomes)
}

impl Database {
    async fn open(target: &Load) -> Result<Self, Fault> {
        let session = if target.url.starts_with("sqlite:") {
            Session::Sqlite(Box::new(sqlite::connect(&target.url).await?))
        } else {
            Session::Postgres(Box::new(postgres::connect(&target.url).await?))
        };
        let schema = target.schema.clone().unwrap_or_else(|| "public".into());
        Ok(Self { session, schema, stages: 0 })
    }

    async fn close(self) -> Result<(), Fault> {
        on_each!(self.session, |connection| answer(connection.close()).await)
    }

    /// Which SQL it speaks.
    pub(super) fn engine(&self) -> Engine {
        match self.session {
            Session::Postgres(_) => Engine::Postgres,
            Session::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// A table or an index as statements name it.
    pub(super) fn place(&self, name: &str) -> String {
        match self.engine() {
            Engine::Postgres => format!("{}.{}", quoted(&self.schema), quoted(name)),
            Engine::Sqlite => quoted(name),
        }
    }

    async fn load(
        &mut self,
        target: &Load,
        pipeline: &Pipeline,
        lake: &Lake,
        before_commit: BeforeCommit<'_>,
    ) -> Result<Vec<LoadOutcome>, Fault> {
        self.begin().await?;
        let dataset = pipeline.destination.dataset.as_deref().unwrap_or(&pipeline.name);
        let all = self.loaded().await?;
        // Not before the lock: another load may have brought the tables further than an older present.
        let present = lake.present().await?;
        let tables = tables(target, pipeline, &present, self.engine());
        let known: HashMap<&str, Loaded> = tables
            .iter()
            .filter_map(|table| Some((table.resource.as_str(), known(&all, dataset, table).transpose()?)))
            .map(|(name, found)| found.map(|loaded| (name, loaded)))
            .collect::<Result<_, Fault>>()?;
        let commits = commits(lake, known.values(), present.number).await?;
        let mut stages = Stages::new();
        let mut outcomes = Vec::new();
        for table in &tables {
            let loaded = known.get(table.resource.as_str());
            let touching: Vec<&str> =
                [Some(table.resource.as_str()), table.parent.as_deref()].into_iter().flatten().collect();
            let there = self.columns(&table.name).await.map_err(|fault| fault.at(&table.name))?.is_some();
            let step = match step(loaded.filter(|_| there), &table.mode.words(), &touching, &commits) {
                Step::Runs(_) if table.mode == Mode::Replace => Step::Full,
                step => step,
            };
            let source =
                Source { objects: lake.objects().clone(), files: vec![], shape: table.shape.clone(), runs: None };
            let done = bring(self, table, &step, loaded.is_some(), source, &mut stages).await;
            let done = done.map_err(|fault| fault.at(&self.place(&table.name)))?;
            let from_commit = loaded.map_or(0, |loaded| loaded.commit);
            if from_commit != present.number || step != Step::Nothing {
                self.note(dataset, table, &present, &commits[&present.number].run_id).await?;
            }
            outcomes.push(LoadOutcome {
                resource: table.resource.clone(),
                table: self.place(&table.name),
                rows: done.rows,
                from_commit,
                to_commit: present.number,
                already: step == Step::Nothing,
                nuls_removed: done.nuls,
            });
        }
        before_commit().await?;
        self.execute("COMMIT".into()).await?;
        Ok(outcomes)
    }

    /// Begins the transaction, alone, and makes what it needs.
    async fn begin(&mut self) -> Result<(), Fault> {
        match &mut self.session {
            Session::Sqlite(connection) => {
                answer(sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut **connection)).await?;
            }
            Session::Postgres(connection) => {
                let begin = AssertSqlSafe(postgres::begin(&self.schema));
                answer(sqlx::raw_sql(begin).execute(&mut **connection)).await?;
                postgres::make_schema(connection, &self.schema).await?;
            }
        }
        if self.columns(LOADS).await?.is_none() {
            let now = match self.engine() {
                Engine::Postgres => "timestamptz NOT NULL DEFAULT now()",
                Engine::Sqlite => "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
            };
            self.execute(format!(
                "CREATE TABLE {} (dataset TEXT NOT NULL, resource TEXT NOT NULL, table_name TEXT NOT NULL, \
                 commit_number BIGINT NOT NULL, run_id TEXT NOT NULL, written_as TEXT NOT NULL, \
                 row_count BIGINT NOT NULL, loaded_at {now}, PRIMARY KEY (dataset, resource, table_name))",
                self.place(LOADS)
            ))
            .await?;
        }
        Ok(())
    }

    async fn loaded(&mut self) -> Result<Vec<LoadsRow>, Fault> {
        let statement = format!(
            "SELECT dataset, resource, table_name, commit_number, run_id, written_as FROM {}",
            self.place(LOADS)
        );
        on_each!(&mut self.session, |connection| {
            let rows = sqlx::query_as::<_, LoadsRow>(AssertSqlSafe(statement)).persistent(false);
            answer(rows.fetch_all(&mut **connection)).await
        })
    }

    /// Notes, in the same transaction as the rows, what the table is at.
    async fn note(&mut self, dataset: &str, table: &Table, present: &Present, run_id: &str) -> Result<(), Fault> {
        let now = match self.engine() {
            Engine::Postgres => "now()",
            Engine::Sqlite => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        };
        let statement = format!(
            "INSERT INTO {} (dataset, resource, table_name, commit_number, run_id, written_as, row_count, loaded_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, {now}) ON CONFLICT (dataset, resource, table_name) DO UPDATE SET \
             commit_number = excluded.commit_number, run_id = excluded.run_id, written_as = excluded.written_as, \
             row_count = excluded.row_count, loaded_at = excluded.loaded_at",
            self.place(LOADS)
        );
        let (number, rows) = (present.number as i64, table.rows as i64);
        on_each!(&mut self.session, |connection| {
            let note = sqlx::query(AssertSqlSafe(statement)).bind(dataset).bind(&table.resource).bind(&table.name);
            let note = note.bind(number).bind(run_id).bind(table.mode.words()).bind(rows).persistent(false);
            answer(note.execute(&mut **connection)).await.map(drop)
        })
    }

    /// Runs a statement; gives the number of rows that it changed.
    pub(super) async fn execute(&mut self, statement: String) -> Result<u64, Fault> {
        let statement = AssertSqlSafe(statement);
        on_each!(&mut self.session, |connection| {
            answer(sqlx::raw_sql(statement).execute(&mut **connection)).await.map(|done| done.rows_affected())
        })
    }

    /// Names and types of a table's columns; none where there is no such table.
    pub(super) async fn columns(&mut self, table: &str) -> Result<Option<Vec<(String, String)>>, Fault> {
        match &mut self.session {
            Session::Postgres(connection) => postgres::columns(connection, &self.schema, table).await,
            Session::Sqlite(connection) => sqlite::columns(connection, table).await,
        }
    }

    /// The indexes that we made on a table.
    pub(super) async fn indexes(&mut self, table: &str) -> Result<Vec<String>, Fault> {
        match &mut self.session {
            Session::Postgres(connection) => postgres::indexes(connection, &self.schema, table).await,
            Session::Sqlite(connection) => sqlite::indexes(connection, table).await,
        }
    }

    /// Whether a table has rows.
    pub(super) async fn has_rows(&mut self, place: &str) -> Result<bool, Fault> {
        let statement = AssertSqlSafe(format!("SELECT COUNT(*) FROM (SELECT 1 FROM {place} LIMIT 1) AS first"));
        let count = on_each!(&mut self.session, |connection| {
            let count = sqlx::query_scalar::<_, i64>(statement).persistent(false);
            answer(count.fetch_one(&mut **connection)).await
        });
        Ok(count? > 0)
    }

    /// Makes a temporary table, which goes with the transaction or the connection.
    pub(super) async fn new_stage(&mut self, columns: &[Column]) -> Result<String, Fault> {
        self.stages += 1;
        let name = format!("tessera_stage_{}", self.stages);
        let columns = definitions(columns, self.engine());
        let (place, end) = match self.engine() {
            Engine::Postgres => (format!("pg_temp.{}", quoted(&name)), " ON COMMIT DROP"),
            Engine::Sqlite => (format!("temp.{}", quoted(&name)), ""),
        };
        self.execute(format!("CREATE TEMP TABLE {} ({columns}){end}", quoted(&name))).await?;
        Ok(place)
    }

    /// Streams rows into a table; gives their number, and that of the NUL characters left out.
    pub(super) async fn fill(&mut self, place: &str, columns: &[Column], source: &Source) -> Result<(u64, u64), Fault> {
        match &mut self.session {
            Session::Postgres(connection) => postgres::fill(connection, place, columns, source).await,
            Session::Sqlite(connection) => sqlite::fill(connection, place, columns, source).await,
        }
    }

    /// What makes a column of whole numbers one of fractions.
    pub(super) fn widen(&self, place: &str, column: &str) -> Vec<String> {
        match self.engine() {
            Engine::Postgres => postgres::widen(place, column),
            Engine::Sqlite => sqlite::widen(place, column),
        }
    }
}

/// What is known of a table. Two datasets in one table would take each other's rows away.
fn known(all: &[LoadsRow], dataset: &str, table: &Table) -> Result<Option<Loaded>, Fault> {
    let mut found = None;
    for (of, resource, name, commit, run_id, written_as) in all {
        if *name != table.name {
            continue;
        }
        if of != dataset || *resource != table.resource {
            return Err(Fault::Refused(format!(
                "resource `{resource}` of dataset `{of}` is loaded into it; set another `schema` for this load, \
                 or delete that row of {LOADS} and the table"
            ))
            .at(name));
        }
        let commit = u64::try_from(*commit).unwrap_or_default();
        found = Some(Loaded { commit, run_id: run_id.clone(), written_as: written_as.clone() });
    }
    Ok(found)
}
