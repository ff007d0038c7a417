//! Lists by the time of the last change, so that anyone can follow along with `updated_since` and a cursor.

use std::collections::HashMap;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::{Currency, Timestamp};
use tessera_store::rows::RowsSql;
use tessera_store::sql;
use tessera_store::{each_engine, rows_sql};

use super::Store;
use super::catalogue::{PerformerRow, VenueRow, wanted};
use crate::Error;
use crate::domain::catalogue::{Performer, Venue};
use crate::domain::event::{Details, Status};
use crate::domain::ids::{EventId, PerformerId, VenueId};

/// Which part of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    /// What changed then or later, deleted things among them; without it only what is there.
    pub updated_since: Option<Timestamp>,
    /// Behind the thing that was changed then and has this id.
    pub after: Option<(i64, Uuid)>,
    /// So many at most.
    pub limit: i64,
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
pub enum Viewer<'a> {
    /// Anyone: what is published.
    Public,
    /// An organiser: own drafts too.
    Organiser(&'a str),
    /// An organiser that asks for the own ones only.
    Owner(&'a str),
    /// An administrator: everything.
    Admin,
}

/// An event as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedEvent {
    /// Its id.
    pub id: EventId,
    /// Its title.
    pub name: String,
    /// What sort of event.
    pub kind: String,
    /// Where it stands.
    pub status: Status,
    /// Where.
    pub venue: VenueId,
    /// The venue's name.
    pub venue_name: String,
    /// The venue's city.
    pub city: String,
    /// The venue's country.
    pub country: String,
    /// Who plays.
    pub performers: Vec<(PerformerId, String)>,
    /// When it begins.
    pub starts_at: Timestamp,
    /// Of its prices.
    pub currency: Currency,
    /// How many tickets it has.
    pub tickets: i64,
    /// The rest.
    pub details: Details,
    /// Goes up with every change.
    pub version: i64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Since when it is deleted.
    pub deleted_at: Option<Timestamp>,
}

#[derive(FromRow)]
struct EventRow {
    id: Uuid,
    name: String,
    kind: String,
    status: String,
    venue_id: Uuid,
    venue_name: String,
    city: String,
    country: String,
    starts_at: i64,
    currency: String,
    tickets: i64,
    document: String,
    version: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl EventRow {
    fn read(self) -> Result<ListedEvent, Error> {
        let id = EventId::from(self.id);
        let corrupt = |reason: String| Error::Corrupt { what: format!("event `{id}`"), reason };
        Ok(ListedEvent {
            id,
            name: self.name,
            kind: self.kind,
            status: Status::from_stored(&self.status).ok_or_else(|| corrupt(format!("status `{}`", self.status)))?,
            venue: self.venue_id.into(),
            venue_name: self.venue_name,
            city: self.city,
            country: self.country,
            performers: Vec::new(),
            starts_at: Timestamp::from_micros(self.starts_at),
            currency: self.currency.parse().map_err(corrupt)?,
            tickets: self.tickets,
            details: serde_json::from_str(&self.document).map_err(|error| corrupt(error.to_string()))?,
            version: self.version,
            updated_at: Timestamp::from_micros(self.updated_at),
            deleted_at: self.deleted_at.map(Timestamp::from_micros),
        })
    }
}

impl Listed {
    pub(super) fn begin(&self) -> (i64, Uuid) {
        self.after.unwrap_or((i64::MIN, Uuid::nil()))
    }

    pub(super) fn since(&self) -> i64 {
        self.updated_since.map_or(i64::MIN, Timestamp::micros)
    }
}

impl Store {
    /// Events, the one changed the longest ago first.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn list_events(&self, viewer: Viewer<'_>, listed: Listed) -> Result<Vec<ListedEvent>, Error> {
        const EVENTS: &str =
            "SELECT e.id, e.name, e.kind, e.status, e.venue_id, v.name AS venue_name, v.city, v.country,
                e.starts_at, e.currency, e.tickets, e.document, e.version, e.updated_at, e.deleted_at
             FROM events e JOIN venues v ON v.id = e.venue_id
             WHERE (e.updated_at, e.id) > ($1, $2) AND e.updated_at >= $3 AND (e.deleted_at IS NULL OR $4)
                AND ((e.status <> 'draft' AND $5) OR e.organiser = $6 OR $7) AND e.updated_at <= $9
             ORDER BY e.updated_at, e.id LIMIT $8";
        const BILLS: RowsSql = rows_sql!(
            "SELECT b.event_id, p.id, p.name FROM " rows " JOIN event_performers b ON b.event_id = " id(0) "
             JOIN performers p ON p.id = b.performer_id ORDER BY b.event_id, b.position"
        );
        let (at, id) = listed.begin();
        let settled = self.db.settled_until().await?;
        let (others, organiser, all) = match viewer {
            Viewer::Public => (true, "", false),
            Viewer::Organiser(subject) => (true, subject, false),
            Viewer::Owner(subject) => (false, subject, false),
            Viewer::Admin => (true, "", true),
        };
        let rows: Vec<EventRow> = each_engine!(&self.db, |pool| {
            let list =
                sqlx::query_as(EVENTS).bind(at).bind(id).bind(listed.since()).bind(listed.updated_since.is_some());
            let list = list.bind(others).bind(organiser).bind(all).bind(listed.limit);
            list.bind(settled).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        let mut events = rows.into_iter().map(EventRow::read).collect::<Result<Vec<_>, Error>>()?;
        if events.is_empty() {
            return Ok(events);
        }
        let ids = wanted(events.iter().map(|event| event.id.uuid()));
        let bills: Vec<(Uuid, Uuid, String)> = BILLS.fetch_from(&self.db, ids).await?;
        let mut by_event: HashMap<Uuid, Vec<(PerformerId, String)>> = HashMap::new();
        for (event, performer, name) in bills {
            by_event.entry(event).or_default().push((performer.into(), name));
        }
        for event in &mut events {
            event.performers = by_event.remove(&event.id.uuid()).unwrap_or_default();
        }
        Ok(events)
    }

    /// Venues, the one changed the longest ago first; of one organiser where that is given.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn list_venues(&self, owner: Option<&str>, listed: Listed) -> Result<Vec<Venue>, Error> {
        const VENUES: &str = "SELECT id, name, city, country, address, lat_e7, lng_e7, timezone, plan_id, organiser,
                version, updated_at, deleted_at
             FROM venues
             WHERE (updated_at, id) > ($1, $2) AND updated_at >= $3 AND (deleted_at IS NULL OR $4)
                AND ($5 OR organiser = $6) AND updated_at <= $8
             ORDER BY updated_at, id LIMIT $7";
        let (at, id) = listed.begin();
        let settled = self.db.settled_until().await?;
        let rows: Vec<VenueRow> = each_engine!(&self.db, |pool| {
            let list =
                sqlx::query_as(VENUES).bind(at).bind(id).bind(listed.since()).bind(listed.updated_since.is_some());
            let list = list.bind(owner.is_none()).bind(owner.unwrap_or_default()).bind(listed.limit);
            list.bind(settled).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        rows.into_iter().map(VenueRow::read).collect()
    }

    /// Performers, the one changed the longest ago first; of one organiser where that is given.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_performers(&self, owner: Option<&str>, listed: Listed) -> Result<Vec<Performer>, Error> {
        const PERFORMERS: &str = "SELECT id, name, about, organiser, version, updated_at, deleted_at FROM performers
             WHERE (updated_at, id) > ($1, $2) AND updated_at >= $3 AND (deleted_at IS NULL OR $4)
                AND ($5 OR organiser = $6) AND updated_at <= $8
             ORDER BY updated_at, id LIMIT $7";
        let (at, id) = listed.begin();
        let settled = self.db.settled_until().await?;
        let rows: Vec<PerformerRow> = each_engine!(&self.db, |pool| {
            let list = sqlx::query_as(PERFORMERS).bind(at).bind(id).bind(listed.since());
            let list = list.bind(listed.updated_since.is_some()).bind(owner.is_none()).bind(owner.unwrap_or_default());
            list.bind(listed.limit).bind(settled).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        Ok(rows.into_iter().map(Performer::from).collect())
    }
}
