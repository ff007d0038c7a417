//! What the search index is fed with: the outbox in its order, and events with all that is found by.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sqlx::FromRow;
use sqlx::postgres::PgListener;
use sqlx::types::Uuid;
use tessera_kernel::{Place, Timestamp};
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql::{self, Db};
use tessera_store::{each_engine, rows_sql};
use tokio::sync::Notify;

use super::Store;
use crate::Error;
use crate::domain::event::Details;
use crate::domain::ids::{EventId, TicketId};
use crate::search::{Change, Document, Performer, Venue};

/// The channel on which PostgreSQL tells that the outbox has more.
pub const CHANNEL: &str = "tickets_outbox";
/// How long after a lost connection it is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// How many events are loaded by one statement.
const LOADED_AT_ONCE: usize = 500;
/// The row of `outbox_readers` that counts the orders to rebuild.
const REBUILD: &str = "search.rebuild";

/// The database as the search index sees it: read only, but for the order to rebuild. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    db: Db,
}

/// Rows of the outbox behind some position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the order of their numbers. Where transactions run side by side, a lower number may yet come.
    pub rows: Vec<Changed>,
    /// The oldest transaction that was running when they were read.
    pub running_from: i64,
    /// The first transaction that had not begun when they were read.
    pub begun_until: i64,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its number.
    pub seq: i64,
    /// `event`, `venue`, `performer` or `order`.
    pub kind: String,
    /// Which.
    pub id: Uuid,
}

/// Where the outbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxHead {
    /// The last number that can be seen.
    pub seq: i64,
    /// The first number that is still there; one more than `seq` where there is none.
    pub first: i64,
    /// As in [`Changes`].
    pub running_from: i64,
    /// As in [`Changes`].
    pub begun_until: i64,
}

impl Store {
    /// What the search index is fed with.
    pub fn search_source(&self) -> Source {
        Source { db: self.db.clone() }
    }
}

/// The transactions that ran and that had begun, at the moment that the statement sees. SQLite writes one at a time.
macro_rules! running {
    (sqlite) => {
        "0, 0"
    };
    (postgres) => {
        "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT),
         CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT)"
    };
}

impl Source {
    /// The rows of the outbox behind `after`, at most `limit`.
    ///
    /// A transaction of PostgreSQL takes the numbers of its rows before it is committed, so numbers may become visible
    /// out of order. It has its own number by then, as rows of the outbox are never the first that a transaction
    /// writes: what is missing below a row that is seen belongs to a transaction before `begun_until`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn changes(&self, after: i64, limit: i64) -> Result<Changes, Error> {
        const SQLITE: &str =
            concat!("SELECT seq, kind, id, ", running!(sqlite), " FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2");
        const POSTGRES: &str =
            concat!("SELECT seq, kind, id, ", running!(postgres), " FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2");
        let rows: Vec<(i64, String, Uuid, i64, i64)> = match &self.db {
            Db::Sqlite(pool) => sqlx::query_as(SQLITE).bind(after).bind(limit).fetch_all(pool).await,
            Db::Postgres(pool) => sqlx::query_as(POSTGRES).bind(after).bind(limit).fetch_all(pool).await,
        }
        .map_err(sql::Error::from)?;
        let (running_from, begun_until) = rows.first().map_or((0, 0), |row| (row.3, row.4));
        let rows = rows.into_iter().map(|(seq, kind, id, ..)| Changed { seq, kind, id }).collect();
        Ok(Changes { rows, running_from, begun_until })
    }

    /// Where the outbox stands.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn head(&self) -> Result<OutboxHead, Error> {
        const SQLITE: &str = concat!("SELECT max(seq), min(seq), ", running!(sqlite), " FROM outbox");
        const POSTGRES: &str = concat!("SELECT max(seq), min(seq), ", running!(postgres), " FROM outbox");
        let row: (Option<i64>, Option<i64>, i64, i64) = match &self.db {
            Db::Sqlite(pool) => sqlx::query_as(SQLITE).fetch_one(pool).await,
            Db::Postgres(pool) => sqlx::query_as(POSTGRES).fetch_one(pool).await,
        }
        .map_err(sql::Error::from)?;
        let seq = row.0.unwrap_or(0);
        Ok(OutboxHead { seq, first: row.1.unwrap_or(seq + 1), running_from: row.2, begun_until: row.3 })
    }

    /// The events that rows of the outbox are about: those of a venue, of a performer, of an order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events_of(&self, rows: &[Changed]) -> Result<BTreeSet<EventId>, Error> {
        const OF_VENUES: RowsSql = rows_sql!(
            "SELECT e.id FROM " rows " JOIN events e ON e.venue_id = " id(0) " WHERE e.status = 'published'"
        );
        const OF_PERFORMERS: RowsSql =
            rows_sql!("SELECT ep.event_id FROM " rows " JOIN event_performers ep ON ep.performer_id = " id(0));
        const OF_ORDERS: RowsSql = rows_sql!("SELECT DISTINCT o.event_id FROM " rows " JOIN orders o ON o.id = " id(0));
        let of_kind =
            |kind: &str| -> HashSet<Uuid> { rows.iter().filter(|row| row.kind == kind).map(|row| row.id).collect() };
        let mut events: BTreeSet<EventId> = of_kind("event").into_iter().map(EventId::from).collect();
        for (kind, sql) in [("venue", OF_VENUES), ("performer", OF_PERFORMERS), ("order", OF_ORDERS)] {
            let ids = of_kind(kind);
            if !ids.is_empty() {
                let found: Vec<(Uuid,)> = sql.fetch_from(&self.db, as_rows(ids)).await?;
                events.extend(found.into_iter().map(|(id,)| EventId::from(id)));
            }
        }
        Ok(events)
    }

    /// Public events behind `after` in the order of their ids, at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn scan(&self, after: Option<EventId>, limit: i64) -> Result<Vec<EventId>, Error> {
        const SCAN: &str = "SELECT id FROM events
            WHERE id > $1 AND status = 'published' AND deleted_at IS NULL ORDER BY id LIMIT $2";
        let after = after.map_or(Uuid::nil(), EventId::uuid);
        let ids: Vec<Uuid> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(SCAN).bind(after).bind(limit).fetch_all(pool).await)
                .map_err(sql::Error::from)?;
        Ok(ids.into_iter().map(EventId::from).collect())
    }

    /// What the index should hold of these events: a document, or nothing where the event is not public.
    ///
    /// # Errors
    /// Those of the database. An event whose row cannot be read is left out of the index and logged.
    pub async fn load(&self, events: &[EventId]) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::with_capacity(events.len());
        for events in events.chunks(LOADED_AT_ONCE) {
            let mut documents = self.documents(events).await?;
            changes.extend(events.iter().map(|event| match documents.remove(event) {
                Some(document) => Change::Put(Box::new(document)),
                None => Change::Remove(*event),
            }));
        }
        Ok(changes)
    }

    async fn documents(&self, events: &[EventId]) -> Result<HashMap<EventId, Document>, Error> {
        const EVENTS: RowsSql = rows_sql!(
            "SELECT e.id, e.name, e.kind, e.starts_at, e.currency, e.tickets, e.document,
                v.id AS venue_id, v.name AS venue_name, v.city, v.country, v.lat_e7, v.lng_e7, v.timezone,
                (SELECT count(*) FROM bookings b WHERE b.ticket_id > " id(0) " AND b.ticket_id <= " id(1) ") AS booked
            FROM " rows " JOIN events e ON e.id = " id(0) " JOIN venues v ON v.id = e.venue_id
            WHERE e.status = 'published' AND e.deleted_at IS NULL"
        );
        const PERFORMERS: RowsSql = rows_sql!(
            "SELECT ep.event_id, p.id, p.name FROM " rows " JOIN event_performers ep ON ep.event_id = " id(0)
            " JOIN performers p ON p.id = ep.performer_id ORDER BY ep.event_id, ep.position"
        );
        let mut spans = Json::array(events.len(), 80);
        for event in events {
            spans.row(|row| {
                row.id(event.uuid());
                row.id(TicketId::last_of(*event).uuid());
            });
        }
        let ids = as_rows(events.iter().map(|event| event.uuid()));
        let found: Vec<Row> = EVENTS.fetch_from(&self.db, spans.end()).await?;
        let playing: Vec<(Uuid, Uuid, String)> = PERFORMERS.fetch_from(&self.db, ids).await?;
        let mut performers: HashMap<Uuid, Vec<Performer>> = HashMap::new();
        for (event, id, name) in playing {
            performers.entry(event).or_default().push(Performer { id: id.into(), name });
        }
        let mut documents = HashMap::with_capacity(found.len());
        for row in found {
            let id = EventId::from(row.id);
            let performers = performers.remove(&row.id).unwrap_or_default();
            match row.read(performers) {
                Ok(document) => {
                    documents.insert(id, document);
                }
                // The rest of the events must be found all the same.
                Err(error) => tracing::error!(event.id = %id, %error, "event left out of the search index"),
            }
        }
        Ok(documents)
    }

    /// How many times a rebuild was ordered; an index that has carried out fewer is to be rebuilt.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rebuilds_ordered(&self) -> Result<i64, Error> {
        const COUNT: &str = "SELECT seq FROM outbox_readers WHERE name = $1";
        let count: Option<i64> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(COUNT).bind(REBUILD).fetch_optional(pool).await)
                .map_err(sql::Error::from)?;
        Ok(count.unwrap_or(0))
    }

    /// Orders every index of this database to be rebuilt: those that run do it within a second, the others when they
    /// start. They answer from what they have until it is done. Gives the number of the order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn order_rebuild(&self) -> Result<i64, Error> {
        const ORDER: &str = "INSERT INTO outbox_readers (name, seq) VALUES ($1, 1)
            ON CONFLICT (name) DO UPDATE SET seq = outbox_readers.seq + 1 RETURNING seq";
        let order = each_engine!(&self.db, |pool| sqlx::query_scalar(ORDER).bind(REBUILD).fetch_one(pool).await);
        Ok(order.map_err(sql::Error::from)?)
    }

    /// Wakes `wake` whenever PostgreSQL tells of more in the outbox; on SQLite it never does. It does not end.
    pub async fn listen(&self, wake: &Notify) {
        let Db::Postgres(pool) = &self.db else { return std::future::pending().await };
        loop {
            if let Ok(mut listener) = PgListener::connect_with(pool).await
                && listener.listen(CHANNEL).await.is_ok()
            {
                // What came while nobody listened.
                wake.notify_one();
                while let Ok(Some(_)) = listener.try_recv().await {
                    wake.notify_one();
                }
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    kind: String,
    starts_at: i64,
    currency: String,
    tickets: i64,
    document: String,
    venue_id: Uuid,
    venue_name: String,
    city: String,
    country: String,
    lat_e7: Option<i64>,
    lng_e7: Option<i64>,
    timezone: String,
    booked: i64,
}

impl Row {
    fn read(self, performers: Vec<Performer>) -> Result<Document, Error> {
        /// A seat that waits for a buyer counts a tenth of one that has one.
        const TICKETS_PER_BOOKING: i64 = 10;
        let id = EventId::from(self.id);
        let corrupt = |reason: String| Error::Corrupt { what: format!("event `{id}`"), reason };
        let details: Details = serde_json::from_str(&self.document).map_err(|error| corrupt(error.to_string()))?;
        let e7 = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
        let place = match e7(self.lat_e7).zip(e7(self.lng_e7)) {
            Some((lat, lng)) => Some(Place::from_e7(lat, lng).map_err(corrupt)?),
            None => None,
        };
        let blocked: i64 = details.blocked.iter().map(|(_, count)| i64::from(*count)).sum();
        let prices = || details.price_levels.iter().map(|level| level.price);
        let interest = self.booked.saturating_add(self.tickets / TICKETS_PER_BOOKING);
        Ok(Document {
            id,
            name: self.name,
            kind: self.kind,
            performers,
            venue: Venue {
                id: self.venue_id.into(),
                name: self.venue_name,
                city: self.city,
                country: self.country,
                place,
                timezone: self.timezone,
            },
            starts_at: Timestamp::from_micros(self.starts_at),
            currency: self.currency.parse().map_err(corrupt)?,
            price_from: prices().min(),
            price_to: prices().max(),
            available: self.booked < self.tickets - blocked,
            popularity: u64::try_from(interest).unwrap_or(0),
        })
    }
}

fn as_rows(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut json = Json::array(0, 0);
    for id in ids {
        json.row(|row| row.id(id));
    }
    json.end()
}
