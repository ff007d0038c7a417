//! Lists in the order of change: whoever goes on from the end of one misses nothing and sees nothing twice.

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;

use super::{Db, Error};
use crate::each_engine;

/// A page of such a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What changed then or later.
    pub since: Timestamp,
    /// The last one seen: when it changed, and its id.
    pub after: Option<(Timestamp, Uuid)>,
    /// The most that are read.
    pub limit: u32,
}

/// The text for [`Db::changed`] out of what is selected, without a condition; the table has `updated_at` and `id` and an index over both.
#[macro_export]
macro_rules! changed_sql {
    ($select:literal) => {
        concat!(
            $select,
            " WHERE updated_at >= $1 AND (updated_at, id) > ($2, $3) AND updated_at <= $4 ORDER BY updated_at, id LIMIT $5"
        )
    };
}

impl Db {
    /// A page of the rows of a text by [`changed_sql!`](crate::changed_sql), the one changed the longest ago first. It ends where something
    /// may still come between ([`Db::settled_until`]).
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn changed<R>(&self, sql: &'static str, page: Changed) -> Result<Vec<R>, Error>
    where
        R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let Changed { since, after, limit } = page;
        let (at, id) = after.map_or((since.micros().saturating_sub(1), Uuid::nil()), |(at, id)| (at.micros(), id));
        let settled = self.settled_until().await?;
        each_engine!(self, |pool| {
            let query = sqlx::query_as(sql).bind(since.micros()).bind(at).bind(id).bind(settled).bind(i64::from(limit));
            Ok(query.fetch_all(pool).await?)
        })
    }
}
