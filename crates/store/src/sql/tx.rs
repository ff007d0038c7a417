//! The transaction of whichever engine, as handed to what writes in it.

use sqlx::{Postgres, Sqlite, Transaction};
use tessera_kernel::Timestamp;

use super::Error;

/// The moment on a server, in microseconds.
pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT";

/// A transaction that is under way. [`each_tx!`](crate::each_tx) runs one body on either engine.
#[derive(Debug)]
pub enum Tx<'c> {
    /// On the embedded file. It holds the write lock, so `now` is one moment for all that happens in it.
    Sqlite {
        /// The transaction.
        transaction: Transaction<'c, Sqlite>,
        /// When the write lock was had, by the writer's clock.
        now: Timestamp,
    },
    /// On a server.
    Postgres {
        /// The transaction.
        transaction: Transaction<'c, Postgres>,
    },
}

/// Runs one body in the transaction of whichever engine it is:
/// `each_tx!(tx, |connection| sqlx::query(SQL).execute(connection).await.map(drop))`.
///
/// The body is compiled once for each engine and must have the same type for both. Used more than once in the body,
/// the connection is reborrowed: `&mut *connection`.
#[macro_export]
macro_rules! each_tx {
    ($tx:expr, |$connection:ident| $body:expr) => {
        match $tx {
            $crate::sql::Tx::Sqlite { transaction, .. } => {
                let $connection = &mut **transaction;
                $body
            }
            $crate::sql::Tx::Postgres { transaction } => {
                let $connection = &mut **transaction;
                $body
            }
        }
    };
}

impl Tx<'_> {
    /// The present moment by the store's one clock: the writer's on SQLite, the server's on PostgreSQL (one round
    /// trip). Ask after the rows are locked, so that what was waited for lies before it.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn now(&mut self) -> Result<Timestamp, Error> {
        match self {
            Self::Sqlite { now, .. } => Ok(*now),
            Self::Postgres { transaction } => {
                let micros: i64 = sqlx::query_scalar(NOW).fetch_one(&mut **transaction).await?;
                Ok(Timestamp::from_micros(micros))
            }
        }
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite { transaction, .. } => transaction.commit().await,
            Self::Postgres { transaction } => transaction.commit().await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite { transaction, .. } => transaction.rollback().await,
            Self::Postgres { transaction } => transaction.rollback().await,
        }
    }
}
