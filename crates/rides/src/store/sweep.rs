//! Estimates that were never requested do not stay for good.

use std::time::Duration;

use sqlx::types::Uuid;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

/// Removes estimates that are over, with their histories.
#[derive(Debug)]
pub struct Sweep {
    /// Those that ended longer ago.
    pub kept: Duration,
    /// So many at the most.
    pub limit: u32,
}

pub(super) async fn apply(tx: &mut Tx<'_>, sweep: &Sweep) -> Result<usize, sql::Error> {
    const READ: &str = "SELECT id FROM rides WHERE requested_at IS NULL AND due_at IS NULL AND updated_at < $1
         ORDER BY updated_at LIMIT $2";
    // Whoever is at one of them goes first; the next sweep finds it.
    const LOCK: &str = "SELECT id FROM rides WHERE requested_at IS NULL AND due_at IS NULL AND updated_at < $1
         ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    const EVENTS: RowsSql = rows_sql!("DELETE FROM ride_events WHERE ride_id " among(0));
    const RIDES: RowsSql = rows_sql!("DELETE FROM rides WHERE id " among(0));
    let before = tx.now().await?.minus(sweep.kept).micros();
    let limit = i64::from(sweep.limit);
    let ids: Vec<Uuid> = match tx {
        Tx::Sqlite { transaction, .. } => {
            sqlx::query_scalar(READ).bind(before).bind(limit).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            sqlx::query_scalar(LOCK).bind(before).bind(limit).fetch_all(&mut **transaction).await?
        }
    };
    if ids.is_empty() {
        return Ok(0);
    }
    let mut json = Json::array(ids.len(), 36);
    ids.iter().for_each(|id| json.row(|row| row.id(*id)));
    let rows = json.end();
    EVENTS.execute(tx, rows.clone()).await?;
    RIDES.execute(tx, rows).await?;
    Ok(ids.len())
}
