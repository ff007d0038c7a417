//! What changed, for those who keep copies: rows written in the transaction of the change, read in their order.

use sqlx::types::Uuid;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::indexed::CHANNEL;

/// What sort of thing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An event, or what everyone sees of it.
    Event,
    /// A venue.
    Venue,
    /// A performer.
    Performer,
    /// An order, in rows of before: its event is noted instead, once for all that are booked together.
    Order,
}

impl Kind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Venue => "venue",
            Self::Performer => "performer",
            Self::Order => "order",
        }
    }
}

/// What a batch has changed so far.
#[derive(Debug, Default)]
pub struct Outbox(std::collections::BTreeSet<(Kind, Uuid)>);

impl Outbox {
    /// Notes a change; more of the same in one transaction are one.
    pub fn add(&mut self, kind: Kind, id: Uuid) {
        self.0.insert((kind, id));
    }
}

const ADD: RowsSql = rows_sql!(
    "INSERT INTO outbox (kind, id, at) SELECT " text(0) ", " id(1) ", " int(2) " FROM " rows " WHERE TRUE"
);

/// The same on PostgreSQL, and those who listen are told when it is committed; a lost notice is made up for by polling.
const ADD_AND_TELL: &str = "WITH added AS (
         INSERT INTO outbox (kind, id, at)
         SELECT kind, id, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
         FROM unnest($1::TEXT[], $2::UUID[]) AS changed (kind, id)
     ) SELECT pg_notify($3, '')";

/// Writes what a batch changed. The last that a batch does, so that its transaction has a number by then: on PostgreSQL
/// rows may become visible out of order, and readers go by the numbers of transactions.
pub(super) async fn write(tx: &mut Tx<'_>, Outbox(changed): Outbox) -> Result<(), sql::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    if let Tx::Postgres { transaction } = tx {
        let (kinds, ids): (Vec<&str>, Vec<Uuid>) = changed.into_iter().map(|(kind, id)| (kind.as_str(), id)).unzip();
        sqlx::query(ADD_AND_TELL).bind(kinds).bind(ids).bind(CHANNEL).execute(&mut **transaction).await?;
        return Ok(());
    }
    let now = tx.now().await?.micros();
    let mut json = Json::array(changed.len(), 70);
    for (kind, id) in changed {
        json.row(|row| {
            row.text(kind.as_str());
            row.id(id);
            row.number(now);
        });
    }
    ADD.execute(tx, json.end()).await?;
    Ok(())
}
