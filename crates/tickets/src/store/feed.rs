//! The feed of committed changes of seats: one row a batch and event, numbered without gaps within the event.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgListener;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::each_engine;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Db, Tx};

use super::Store;
use super::batch::Changes;
use crate::Error;
use crate::domain::ids::{EventId, TicketId};
use crate::seats::{Change, ChangeTo, delta};

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last number of its feed.
    pub seq: i64,
    /// The version of the event.
    pub version: i64,
}

/// What a commit that changes seats is told under, on PostgreSQL.
const CHANNEL: &str = "tickets_seats";

/// Notices of commits that changed seats, from all processes, this one included.
#[derive(Debug)]
pub struct SeatNotices(PgListener);

impl SeatNotices {
    /// Waits for the next one. A connection that broke is made anew, and what was told meanwhile is lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next(&mut self) -> Result<(), Error> {
        self.0.recv().await.map(drop).map_err(|error| sql::Error::from(error).into())
    }
}

/// The row of an event is locked from here to the commit, so numbers become visible in their order. These two are for SQLite.
const NEXT: RowsSql = rows_sql!(
    "INSERT INTO seat_feeds (event_id, seq) SELECT " id(0) ", 1 FROM " rows " WHERE TRUE
     ON CONFLICT (event_id) DO UPDATE SET seq = seat_feeds.seq + 1
     RETURNING event_id, seq"
);
const ADD: RowsSql = rows_sql!(
    "INSERT INTO seat_feed (event_id, seq, at, changes)
     SELECT " id(0) ", " int(1) ", " int(2) ", " bytes(3) " FROM " rows " WHERE TRUE"
);
const HEADS: RowsSql = rows_sql!(
    "SELECT e.id, COALESCE(f.seq, 0), e.version FROM " rows "
     JOIN events e ON e.id = " id(0) " AND e.deleted_at IS NULL LEFT JOIN seat_feeds f ON f.event_id = e.id"
);

/// Both in one on PostgreSQL, and those who listen are told when it is committed: whoever else sells the event waits from
/// here to there. A notice that is lost is made up for by polling.
const NEXT_AND_ADD: &str =
    "WITH changed AS (SELECT event_id, changes FROM unnest($1::UUID[], $2::BYTEA[]) AS c (event_id, changes)),
     numbered AS (
         INSERT INTO seat_feeds (event_id, seq) SELECT event_id, 1 FROM changed ORDER BY event_id
         ON CONFLICT (event_id) DO UPDATE SET seq = seat_feeds.seq + 1 RETURNING event_id, seq
     ),
     added AS (
         INSERT INTO seat_feed (event_id, seq, at, changes)
         SELECT event_id, seq, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT, changes
         FROM numbered JOIN changed USING (event_id) RETURNING event_id, seq
     )
     SELECT event_id, seq, pg_notify($3, '') FROM added";

type Numbered = Vec<(EventId, i64, Arc<[Change]>)>;

/// Writes what a batch changed, and gives each event's number.
pub(super) async fn write(tx: &mut Tx<'_>, changes: Changes) -> Result<Numbered, sql::Error> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    if let Tx::Postgres { transaction } = tx {
        let events: Vec<Uuid> = changes.keys().map(|event| event.uuid()).collect();
        let encoded: Vec<Vec<u8>> = changes.values().map(|changes| delta::encode(changes)).collect();
        let write = sqlx::query(NEXT_AND_ADD).bind(events).bind(encoded).bind(CHANNEL);
        let mut numbered = HashMap::new();
        for row in write.fetch_all(&mut **transaction).await? {
            numbered.insert(EventId::from(row.try_get::<Uuid, _>(0)?), row.try_get::<i64, _>(1)?);
        }
        let fed = |(event, changes): (EventId, Vec<Change>)| {
            (event, numbered.get(&event).copied().unwrap_or_default(), Arc::from(changes))
        };
        return Ok(changes.into_iter().map(fed).collect());
    }
    // In the order of ids, as everywhere.
    let mut events = Json::array(changes.len(), 36);
    changes.keys().for_each(|event| events.row(|row| row.id(event.uuid())));
    let numbered: Vec<(Uuid, i64)> = NEXT.fetch(tx, events.end()).await?;
    let numbered: HashMap<Uuid, i64> = numbered.into_iter().collect();
    let now = tx.now().await?.micros();
    let mut rows = Json::array(changes.len(), 200);
    let mut fed = Vec::with_capacity(changes.len());
    for (event, changes) in changes {
        let seq = numbered.get(&event.uuid()).copied().unwrap_or_default();
        rows.row(|row| {
            row.id(event.uuid());
            row.number(seq);
            row.number(now);
            row.bytes(&delta::encode(&changes));
        });
        fed.push((event, seq, changes.into()));
    }
    ADD.execute(tx, rows.end()).await?;
    Ok(fed)
}

impl Store {
    /// Notices of commits; none on SQLite, which tells nobody. They take one of the connections.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seat_notices(&self) -> Result<Option<SeatNotices>, Error> {
        let Db::Postgres(pool) = &self.db else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await.map_err(sql::Error::from)?;
        listener.listen(CHANNEL).await.map_err(sql::Error::from)?;
        Ok(Some(SeatNotices(listener)))
    }

    /// Where these events stand; those that are gone are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heads(&self, events: &[EventId]) -> Result<HashMap<EventId, Head>, Error> {
        let mut ids = Json::array(events.len(), 36);
        events.iter().for_each(|event| ids.row(|row| row.id(event.uuid())));
        let rows: Vec<(Uuid, i64, i64)> = HEADS.fetch_from(&self.db, ids.end()).await?;
        Ok(rows.into_iter().map(|(id, seq, version)| (id.into(), Head { seq, version })).collect())
    }

    /// An event's feed after a number, oldest first.
    ///
    /// # Errors
    /// Those of the database; [`Error::Corrupt`].
    pub async fn feed_after(&self, event: EventId, seq: i64, limit: i64) -> Result<Vec<(i64, Vec<Change>)>, Error> {
        const READ: &str = "SELECT seq, changes FROM seat_feed WHERE event_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let rows: Vec<(i64, Vec<u8>)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(event.uuid()).bind(seq).bind(limit).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        let decode = |(seq, bytes): (i64, Vec<u8>)| match delta::decode(&bytes) {
            Ok(changes) => Ok((seq, changes)),
            Err(reason) => Err(Error::Corrupt { what: format!("the feed of event `{event}` at {seq}"), reason }),
        };
        rows.into_iter().map(decode).collect()
    }

    /// How an event's seats stand that are not free, and up to which number of its feed at the least.
    ///
    /// # Errors
    /// Those of the database; [`Error::Corrupt`].
    pub async fn seats_of(&self, event: EventId) -> Result<(i64, Vec<Change>), Error> {
        const SEQ: &str = "SELECT seq FROM seat_feeds WHERE event_id = $1";
        const HOLDS: &str = "SELECT seats, expires_at FROM holds WHERE event_id = $1 AND state = 'active'
             ORDER BY token";
        const BOOKED: &str = "SELECT ticket_id FROM bookings WHERE ticket_id > $1 AND ticket_id <= $2";
        let last = TicketId::last_of(event).uuid();
        // The number first: what is committed in between is in the rows and comes again from the feed.
        let seq: Option<i64> =
            each_engine!(&self.db, |pool| { sqlx::query_scalar(SEQ).bind(event.uuid()).fetch_optional(pool).await })
                .map_err(sql::Error::from)?;
        let holds: Vec<(Vec<u8>, i64)> =
            each_engine!(&self.db, |pool| { sqlx::query_as(HOLDS).bind(event.uuid()).fetch_all(pool).await })
                .map_err(sql::Error::from)?;
        let booked: Vec<Uuid> = each_engine!(&self.db, |pool| {
            sqlx::query_scalar(BOOKED).bind(event.uuid()).bind(last).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        let mut changes = Vec::new();
        for (seats, expires_at) in holds {
            let to = ChangeTo::Held(Timestamp::from_micros(expires_at));
            let seats = super::seats::decode(&seats, || format!("a hold of event `{event}`"))?;
            changes.extend(seats.into_iter().map(|priced| Change { seat: priced.seat, to }));
        }
        let booked = booked.into_iter().filter_map(|id| TicketId::from(id).seat());
        changes.extend(booked.map(|seat| Change { seat, to: ChangeTo::Booked }));
        Ok((seq.unwrap_or(0), changes))
    }
}
