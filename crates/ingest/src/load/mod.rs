//! Committed rows into databases: after a commit each table is brought to the lake's present.
//!
//! Invariants:
//! - A load is one transaction. What was loaded stands in `_tessera_loads`, changed by the same transaction as the rows:
//!   doing it again changes nothing, a crash loses and doubles nothing, and readers see all tables of a commit or none.
//! - Rows are told apart by their run: what a merge in the lake only wrote anew is not loaded again.
//! - A table that we did not make, and that has rows, is never touched.

mod cells;
mod column;
mod database;
mod duckdb;
mod fault;
mod json;
mod plan;
mod postgres;
mod progress;
mod rows;
mod sqlite;
mod table;
#[cfg(test)]
mod tests;

use futures::future::BoxFuture;

use crate::Error;
use crate::lake::Lake;
use crate::spec::{Load, Pipeline, Secrets};
use fault::Fault;

/// How often a load begins anew because a run replaced the files that it was reading.
const ATTEMPTS: u32 = 3;

/// What a load did to one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOutcome {
    /// The resource, or the child table `resource__list`.
    pub resource: String,
    /// The table, as it is written in a query.
    pub table: String,
    /// Rows inserted or updated; for DuckDB, rows that the view shows.
    pub rows: u64,
    /// The commit that the table was at; 0 when it had none.
    pub from_commit: u64,
    /// The commit that it is at now.
    pub to_commit: u64,
    /// There was nothing to do.
    pub already: bool,
    /// NUL characters taken out of text, which PostgreSQL cannot hold.
    pub nuls_removed: u64,
}

/// Runs after the last change and before the commit.
type BeforeCommit<'a> = &'a (dyn Fn() -> BoxFuture<'a, Result<(), Error>> + Send + Sync);

/// Brings the tables of one target to the lake's present.
///
/// # Errors
/// [`Error::Load`] when the target refuses, [`Error::Lake`] when the files cannot be read. The target is then as before.
pub async fn load(
    target: &Load,
    pipeline: &Pipeline,
    lake: &Lake,
    secrets: &Secrets,
) -> Result<Vec<LoadOutcome>, Error> {
    load_with(target, pipeline, lake, secrets, &|| Box::pin(async { Ok(()) })).await
}

async fn load_with(
    target: &Load,
    pipeline: &Pipeline,
    lake: &Lake,
    secrets: &Secrets,
    before_commit: BeforeCommit<'_>,
) -> Result<Vec<LoadOutcome>, Error> {
    let mut attempt = 1;
    loop {
        let present = lake.present().await?;
        if present.number == 0 {
            return Ok(vec![]);
        }
        let loaded = match target.url.strip_prefix("duckdb:") {
            Some(folder) => duckdb::load(folder, target, pipeline, lake).await,
            None => database::load(target, pipeline, lake, before_commit).await,
        };
        match loaded {
            Ok(outcomes) => {
                tell(target, &outcomes);
                return Ok(outcomes);
            }
            // A merge in the lake deletes the files that it replaced.
            Err(Fault::Ours(Error::Lake { .. }))
                if attempt < ATTEMPTS && lake.present().await?.number > present.number =>
            {
                attempt += 1;
            }
            Err(fault) => return Err(fault.into_error(&target.url, secrets)),
        }
    }
}

fn tell(target: &Load, outcomes: &[LoadOutcome]) {
    let target = fault::without_secrets(&target.url);
    for outcome in outcomes.iter().filter(|outcome| !outcome.already) {
        tracing::info!(
            load.target = %target, load.table = %outcome.table, load.rows = outcome.rows,
            load.from_commit = outcome.from_commit, load.to_commit = outcome.to_commit, "loaded"
        );
        if outcome.nuls_removed > 0 {
            tracing::warn!(
                load.target = %target, load.table = %outcome.table, load.nuls_removed = outcome.nuls_removed,
                "NUL characters were left out, since PostgreSQL cannot hold them"
            );
        }
    }
}
