//! Reading rides: one, a page, those that wait, those that are due.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql;
use tessera_store::{each_engine, rows_sql};

use super::Store;
use super::unreadable::read_ride;
use crate::Error;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// Whose rides are listed.
#[derive(Clone, Copy, Debug)]
pub enum RidesOf<'a> {
    /// This rider's.
    Rider(&'a str),
    /// Those that this driver accepted.
    Driver(DriverId),
    /// All.
    Everyone,
}

/// A page of rides, the one changed the longest ago first.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What changed then or later.
    pub since: Timestamp,
    /// The last one seen.
    pub after: Option<(Timestamp, RideId)>,
    /// At most so many.
    pub limit: u32,
}

/// A row of a list in the order of change.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<I, T> {
    /// Whose it is.
    pub id: I,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// What it says; nothing where it cannot be read, of which there is a line in the log.
    pub read: Option<T>,
}

/// The line of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The H3 cell.
    pub area: u64,
    /// How many wait.
    pub rides: u32,
}

/// A place in a line: when its ride was requested, and which it is.
pub type Behind = (Timestamp, RideId);

/// A stored ride in a list.
#[derive(FromRow)]
struct Row {
    id: Uuid,
    updated_at: i64,
    document: String,
}

/// A stored ride in the line of its area.
#[derive(FromRow)]
struct InLine {
    id: Uuid,
    area: i64,
    requested_at: i64,
    /// Counted from one.
    place: i64,
    /// How long the line is.
    length: i64,
    document: String,
}

impl Store {
    /// A ride.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ride(&self, id: RideId) -> Result<Option<Ride>, Error> {
        const READ: &str = "SELECT document FROM rides WHERE id = $1";
        let document: Option<String> = each_engine!(&self.db, |pool| {
            sqlx::query_scalar(READ).bind(id.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        document.map(|document| read_ride(&document, id).map_err(Error::from)).transpose()
    }

    /// What has happened to a ride: kind and ride, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn history(&self, id: RideId) -> Result<Vec<(String, Ride)>, Error> {
        const READ: &str = "SELECT kind, document FROM ride_events WHERE ride_id = $1 ORDER BY version";
        let rows: Vec<(String, String)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(id.uuid()).fetch_all(pool).await.map_err(sql::Error::from)
        })?;
        rows.into_iter().map(|(kind, document)| Ok((kind, read_ride(&document, id)?))).collect()
    }

    /// A page of rides.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rides(&self, of: RidesOf<'_>, page: Page) -> Result<Vec<Listed<RideId, Ride>>, Error> {
        const ALL: &str = "SELECT id, updated_at, document FROM rides
             WHERE updated_at >= $1 AND (updated_at, id) > ($2, $3) AND updated_at <= $4 ORDER BY updated_at, id LIMIT $5";
        const RIDER: &str = "SELECT id, updated_at, document FROM rides WHERE rider = $6
             AND updated_at >= $1 AND (updated_at, id) > ($2, $3) AND updated_at <= $4 ORDER BY updated_at, id LIMIT $5";
        const DRIVER: &str = "SELECT id, updated_at, document FROM rides WHERE driver_id = $6
             AND updated_at >= $1 AND (updated_at, id) > ($2, $3) AND updated_at <= $4 ORDER BY updated_at, id LIMIT $5";
        let (since, limit) = (page.since.micros(), i64::from(page.limit));
        let (at, id) = page.after.map_or((since - 1, Uuid::nil()), |(at, id)| (at.micros(), id.uuid()));
        let settled = self.db.settled_until().await?;
        let rows: Vec<Row> = each_engine!(&self.db, |pool| {
            let page = |sql| sqlx::query_as(sql).bind(since).bind(at).bind(id).bind(settled).bind(limit);
            let read = match of {
                RidesOf::Everyone => page(ALL),
                RidesOf::Rider(rider) => page(RIDER).bind(rider),
                RidesOf::Driver(driver) => page(DRIVER).bind(driver.uuid()),
            };
            read.fetch_all(pool).await.map_err(sql::Error::from)
        })?;
        let listed = |row: Row| Listed {
            id: row.id.into(),
            updated_at: Timestamp::from_micros(row.updated_at),
            read: self.or_left_out(read_ride(&row.document, row.id.into())),
        };
        Ok(rows.into_iter().map(listed).collect())
    }

    /// The lines: areas where somebody waits.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lines(&self) -> Result<Vec<Waiting>, Error> {
        const READ: &str = "SELECT area, COUNT(*) FROM rides WHERE state = 'requested' GROUP BY area ORDER BY area";
        let rows: Vec<(i64, i64)> =
            each_engine!(&self.db, |pool| sqlx::query_as(READ).fetch_all(pool).await.map_err(sql::Error::from))?;
        let waiting = |(area, rides): (i64, i64)| Waiting {
            area: area.cast_unsigned(),
            rides: u32::try_from(rides).unwrap_or(u32::MAX),
        };
        Ok(rows.into_iter().map(waiting).collect())
    }

    /// Who waits in these lines, who has waited longest first: of each line the first `limit`, and as many behind the place that
    /// is given with it. Gives the places behind which to look next; a line that was looked at to its end has none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting(
        &self,
        lines: &[(u64, Option<Behind>)],
        limit: u32,
    ) -> Result<(Vec<Ride>, HashMap<u64, Behind>), Error> {
        const READ: RowsSql = rows_sql!(
            "SELECT w.id, w.area, w.requested_at, w.place, w.length, r.document FROM rides r JOIN (
                 SELECT q.id, q.area, q.requested_at, l.most,
                     ROW_NUMBER() OVER (PARTITION BY q.area ORDER BY q.requested_at, q.id) AS place,
                     COUNT(*) OVER (PARTITION BY q.area) AS length,
                     SUM(CASE WHEN (q.requested_at, q.id) <= (l.since, l.behind) THEN 1 ELSE 0 END)
                         OVER (PARTITION BY q.area) AS passed
                 FROM rides q JOIN (SELECT " int(0) " AS area, " int(1) " AS most, " int(2) " AS since, " id(3) " AS behind
                     FROM " rows ") l ON l.area = q.area
                 WHERE q.state = 'requested'
             ) w ON w.id = r.id WHERE w.place <= w.most OR (w.place > w.passed AND w.place <= w.passed + w.most)
             ORDER BY w.requested_at, w.id"
        );
        let mut json = Json::array(lines.len(), 80);
        for (area, behind) in lines {
            json.row(|row| {
                row.number(area.cast_signed());
                row.number(i64::from(limit));
                match behind {
                    Some((since, ride)) => {
                        row.number(since.micros());
                        row.id(ride.uuid());
                    }
                    None => {
                        row.null();
                        row.null();
                    }
                }
            });
        }
        let rows: Vec<InLine> = READ.fetch_from(&self.db, json.end()).await?;
        let mut next = HashMap::new();
        for row in &rows {
            let area = row.area.cast_unsigned();
            if row.place < row.length {
                next.insert(area, (Timestamp::from_micros(row.requested_at), row.id.into()));
            } else {
                next.remove(&area);
            }
        }
        Ok((self.readable(rows.into_iter().map(|row| (row.id, row.document))), next))
    }

    /// Who was requested before `requested` and waits still.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting_since(&self, requested: Timestamp, limit: u32) -> Result<Vec<Ride>, Error> {
        const READ: &str = "SELECT id, document FROM rides WHERE state = 'requested' AND requested_at <= $1
             ORDER BY requested_at, id LIMIT $2";
        let rows: Vec<(Uuid, String)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ)
                .bind(requested.micros())
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await
                .map_err(sql::Error::from)
        })?;
        Ok(self.readable(rows))
    }

    /// Estimates and offers whose time is over.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Ride>, Error> {
        const READ: &str =
            "SELECT id, document FROM rides WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at LIMIT $2";
        let rows: Vec<(Uuid, String)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ)
                .bind(now.micros())
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await
                .map_err(sql::Error::from)
        })?;
        Ok(self.readable(rows))
    }

    /// Who was asked for these rides already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn asked(&self, rides: &[RideId]) -> Result<HashSet<(RideId, DriverId)>, Error> {
        const READ: RowsSql =
            rows_sql!("SELECT ride_id, driver_id FROM offers WHERE ride_id IN (SELECT " id(0) " FROM " rows ")");
        if rides.is_empty() {
            return Ok(HashSet::new());
        }
        let mut json = Json::array(rides.len(), 36);
        rides.iter().for_each(|ride| json.row(|row| row.id(ride.uuid())));
        let rows: Vec<(Uuid, Uuid)> = READ.fetch_from(&self.db, json.end()).await?;
        Ok(rows.into_iter().map(|(ride, driver)| (ride.into(), driver.into())).collect())
    }

    /// What a driver is asked for or drives.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ride_of_driver(&self, driver: DriverId) -> Result<Option<Ride>, Error> {
        const READ: &str =
            "SELECT r.id, r.document FROM bindings b JOIN rides r ON r.id = b.ride_id WHERE b.driver_id = $1";
        let row: Option<(Uuid, String)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(driver.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        row.map(|(id, document)| read_ride(&document, id.into()).map_err(Error::from)).transpose()
    }

    /// Who was asked for a ride that has changed since then: whoever is bound or free now and was not before is among them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn asked_since(&self, since: Timestamp) -> Result<Vec<DriverId>, Error> {
        const READ: &str = "SELECT DISTINCT o.driver_id FROM rides r JOIN offers o ON o.ride_id = r.id
             WHERE r.updated_at >= $1";
        let ids: Vec<Uuid> = each_engine!(&self.db, |pool| {
            sqlx::query_scalar(READ).bind(since.micros()).fetch_all(pool).await.map_err(sql::Error::from)
        })?;
        Ok(ids.into_iter().map(Into::into).collect())
    }

    /// Up to when all changes are seen by what is read from now on.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn settled(&self) -> Result<Timestamp, Error> {
        // A file has no word for it; there a change is seen within moments of its stamp, which is this process's.
        const MOMENTS: Duration = Duration::from_secs(5);
        let here = self.clock.now().minus(MOMENTS);
        Ok(here.min(Timestamp::from_micros(self.db.settled_until().await?)))
    }

    /// Every driver who is asked or drives.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn bound_drivers(&self) -> Result<Vec<DriverId>, Error> {
        const READ: &str = "SELECT driver_id FROM bindings";
        let ids: Vec<Uuid> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(READ).fetch_all(pool).await.map_err(sql::Error::from))?;
        Ok(ids.into_iter().map(Into::into).collect())
    }
}
