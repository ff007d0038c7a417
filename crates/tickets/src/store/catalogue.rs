//! What is sold, where and by whom: events, plans, venues and performers, one by one.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::{Place, Timestamp};
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql;
use tessera_store::{each_engine, rows_sql};

use super::{Listed, Store};
use crate::Error;
use crate::domain::catalogue::{Performer, PlanInfo, Venue};
use crate::domain::event::{Event, Status};
use crate::domain::ids::{EventId, PerformerId, PlanId, VenueId};
use crate::domain::plan::SeatPlan;

#[derive(FromRow)]
struct EventRow {
    id: Uuid,
    name: String,
    kind: String,
    status: String,
    organiser: String,
    venue_id: Uuid,
    plan_id: Option<Uuid>,
    starts_at: i64,
    currency: String,
    document: String,
    version: i64,
    updated_at: i64,
}

impl EventRow {
    fn read(self, performers: Vec<Uuid>) -> Result<Event, Error> {
        let id = EventId::from(self.id);
        let corrupt = |reason: String| Error::Corrupt { what: format!("event `{id}`"), reason };
        Ok(Event {
            id,
            name: self.name,
            kind: self.kind,
            status: Status::from_stored(&self.status).ok_or_else(|| corrupt(format!("status `{}`", self.status)))?,
            organiser: self.organiser,
            venue: self.venue_id.into(),
            plan: self.plan_id.map(Into::into),
            performers: performers.into_iter().map(Into::into).collect(),
            starts_at: Timestamp::from_micros(self.starts_at),
            currency: self.currency.parse().map_err(corrupt)?,
            details: serde_json::from_str(&self.document).map_err(|error| corrupt(error.to_string()))?,
            version: self.version,
            updated_at: Timestamp::from_micros(self.updated_at),
        })
    }
}

impl Store {
    /// An event that was not deleted, whatever its status.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`]; those of the database.
    pub async fn event(&self, id: EventId) -> Result<Event, Error> {
        const EVENT: &str =
            "SELECT id, name, kind, status, organiser, venue_id, plan_id, starts_at, currency, document,
            version, updated_at FROM events WHERE id = $1 AND deleted_at IS NULL";
        const PERFORMERS: &str = "SELECT performer_id FROM event_performers WHERE event_id = $1 ORDER BY position";
        let row: Option<EventRow> =
            each_engine!(&self.db, |pool| sqlx::query_as(EVENT).bind(id.uuid()).fetch_optional(pool).await)
                .map_err(sql::Error::from)?;
        let row = row.ok_or_else(|| Error::NotFound { what: "event", id: id.to_string() })?;
        let performers: Vec<Uuid> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(PERFORMERS).bind(id.uuid()).fetch_all(pool).await)
                .map_err(sql::Error::from)?;
        row.read(performers)
    }

    /// A seat plan, deleted or not: events keep theirs. It is read once for all that have it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`]; those of the database.
    pub async fn plan(&self, id: PlanId) -> Result<Arc<SeatPlan>, Error> {
        const PLAN: &str = "SELECT document FROM seat_plans WHERE id = $1";
        if let Some(plan) = self.plans().get(&id).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let document: Option<String> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(PLAN).bind(id.uuid()).fetch_optional(pool).await)
                .map_err(sql::Error::from)?;
        let document = document.ok_or_else(|| Error::NotFound { what: "seat plan", id: id.to_string() })?;
        let corrupt = |reason: String| Error::Corrupt { what: format!("seat plan `{id}`"), reason };
        // A stadium is some megabytes: not on the threads that answer requests.
        let read = tokio::task::spawn_blocking(move || serde_json::from_str::<SeatPlan>(&document));
        let plan =
            read.await.map_err(|error| corrupt(error.to_string()))?.map_err(|error| corrupt(error.to_string()))?;
        let plan = Arc::new(plan);
        let mut plans = self.plans();
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(id, Arc::downgrade(&plan));
        Ok(plan)
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<PlanId, Weak<SeatPlan>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a seat plan that was not deleted, without its seats.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn plan_info(&self, id: PlanId) -> Result<PlanInfo, Error> {
        const INFO: &str = "SELECT id, name, seats, organiser, updated_at, deleted_at FROM seat_plans
             WHERE id = $1 AND deleted_at IS NULL";
        let row: Option<PlanRow> =
            each_engine!(&self.db, |pool| sqlx::query_as(INFO).bind(id.uuid()).fetch_optional(pool).await)
                .map_err(sql::Error::from)?;
        row.map(PlanInfo::from).ok_or_else(|| Error::NotFound { what: "seat plan", id: id.to_string() })
    }

    /// The seat plans of an organiser, the one changed the longest ago first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_plans(&self, organiser: &str, listed: Listed) -> Result<Vec<PlanInfo>, Error> {
        const LIST: &str = "SELECT id, name, seats, organiser, updated_at, deleted_at FROM seat_plans
             WHERE organiser = $1 AND (updated_at, id) > ($2, $3) AND updated_at >= $4 AND updated_at <= $5
                AND (deleted_at IS NULL OR $6)
             ORDER BY updated_at, id LIMIT $7";
        let (at, id) = listed.begin();
        let settled = self.db.settled_until().await?;
        let rows: Vec<PlanRow> = each_engine!(&self.db, |pool| {
            let list = sqlx::query_as(LIST).bind(organiser).bind(at).bind(id).bind(listed.since()).bind(settled);
            list.bind(listed.updated_since.is_some()).bind(listed.limit).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        Ok(rows.into_iter().map(PlanInfo::from).collect())
    }

    /// A venue, deleted or not: past events name it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn venue(&self, id: VenueId) -> Result<Venue, Error> {
        let found = self.venues(&[id]).await?.pop();
        found.ok_or_else(|| Error::NotFound { what: "venue", id: id.to_string() })
    }

    /// Those of these venues that are there, deleted or not, in no order.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn venues(&self, ids: &[VenueId]) -> Result<Vec<Venue>, Error> {
        const VENUES: RowsSql = rows_sql!(
            "SELECT v.id, v.name, v.city, v.country, v.address, v.lat_e7, v.lng_e7, v.timezone, v.plan_id, v.organiser,
                v.version, v.updated_at, v.deleted_at
             FROM " rows " JOIN venues v ON v.id = " id(0)
        );
        let rows: Vec<VenueRow> = VENUES.fetch_from(&self.db, wanted(ids.iter().map(|id| id.uuid()))).await?;
        rows.into_iter().map(VenueRow::read).collect()
    }

    /// A performer, deleted or not.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn performer(&self, id: PerformerId) -> Result<Performer, Error> {
        let found = self.performers(&[id]).await?.pop();
        found.ok_or_else(|| Error::NotFound { what: "performer", id: id.to_string() })
    }

    /// Those of these performers that are there, deleted or not, in no order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn performers(&self, ids: &[PerformerId]) -> Result<Vec<Performer>, Error> {
        const PERFORMERS: RowsSql = rows_sql!(
            "SELECT p.id, p.name, p.about, p.organiser, p.version, p.updated_at, p.deleted_at
             FROM " rows " JOIN performers p ON p.id = " id(0)
        );
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<PerformerRow> = PERFORMERS.fetch_from(&self.db, wanted(ids.iter().map(|id| id.uuid()))).await?;
        Ok(rows.into_iter().map(Performer::from).collect())
    }
}

/// Ids as rows.
pub(super) fn wanted(ids: impl Iterator<Item = Uuid>) -> String {
    let mut json = Json::array(8, 36);
    ids.for_each(|id| json.row(|row| row.id(id)));
    json.end()
}

#[derive(FromRow)]
struct PlanRow {
    id: Uuid,
    name: String,
    seats: i64,
    organiser: String,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl From<PlanRow> for PlanInfo {
    fn from(row: PlanRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            // It was written from one.
            seats: row.seats as u32,
            organiser: row.organiser,
            updated_at: Timestamp::from_micros(row.updated_at),
            deleted_at: row.deleted_at.map(Timestamp::from_micros),
        }
    }
}

#[derive(FromRow)]
pub(super) struct VenueRow {
    id: Uuid,
    name: String,
    city: String,
    country: String,
    address: String,
    lat_e7: Option<i64>,
    lng_e7: Option<i64>,
    timezone: String,
    plan_id: Option<Uuid>,
    organiser: String,
    version: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl VenueRow {
    pub(super) fn read(self) -> Result<Venue, Error> {
        let id = VenueId::from(self.id);
        let corrupt = |reason: String| Error::Corrupt { what: format!("venue `{id}`"), reason };
        let place = match (self.lat_e7, self.lng_e7) {
            (Some(lat), Some(lng)) => {
                let e7 = |value: i64| i32::try_from(value).map_err(|_| corrupt(format!("it lies at {lat}, {lng}")));
                Some(Place::from_e7(e7(lat)?, e7(lng)?).map_err(corrupt)?)
            }
            _ => None,
        };
        Ok(Venue {
            id,
            name: self.name,
            city: self.city,
            country: self.country,
            address: self.address,
            lat: place.map(Place::lat),
            lng: place.map(Place::lng),
            timezone: self.timezone,
            plan: self.plan_id.map(Into::into),
            organiser: self.organiser,
            version: self.version,
            updated_at: Timestamp::from_micros(self.updated_at),
            deleted_at: self.deleted_at.map(Timestamp::from_micros),
        })
    }
}

#[derive(FromRow)]
pub(super) struct PerformerRow {
    id: Uuid,
    name: String,
    about: String,
    organiser: String,
    version: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl From<PerformerRow> for Performer {
    fn from(row: PerformerRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            about: row.about,
            organiser: row.organiser,
            version: row.version,
            updated_at: Timestamp::from_micros(row.updated_at),
            deleted_at: row.deleted_at.map(Timestamp::from_micros),
        }
    }
}

impl Store {
    /// Whether an event that is not over is planned at a venue.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn venue_in_use(&self, id: VenueId, now: Timestamp) -> Result<bool, Error> {
        const USED: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM events
             WHERE venue_id = $1 AND starts_at > $2 AND status <> 'cancelled' AND deleted_at IS NULL LIMIT 1) AS used";
        let used: i64 = each_engine!(&self.db, |pool| {
            sqlx::query_scalar(USED).bind(id.uuid()).bind(now.micros()).fetch_one(pool).await
        })
        .map_err(sql::Error::from)?;
        Ok(used > 0)
    }
}
