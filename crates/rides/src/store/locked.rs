//! Rides and drivers under lock: as they were read, and then as what is done in the transaction leaves them.

use std::collections::{BTreeSet, HashMap};

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::drivers::DriverEdit;
use super::steps::{Step, wanted};
use super::unreadable::{Unreadable, read_ride};
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// What a transaction has locked: rides first, then drivers, each in the order of their ids.
pub(super) struct Locked {
    /// With why one cannot be read.
    pub rides: HashMap<RideId, Result<Ride, Unreadable>>,
    pub drivers: HashMap<DriverId, Known>,
}

/// A driver's row, as far as steps and edits need it.
#[derive(Default)]
pub(super) struct Known {
    /// Which ride the driver is asked for or drives.
    pub ride: Option<RideId>,
    pub approved: bool,
    pub on_duty: bool,
    pub token: i64,
    pub offered: i64,
    pub accepted: i64,
    pub idle_since: Timestamp,
}

impl Known {
    /// Nothing is to be done any more. Who is approved no longer was let finish, and is off duty now.
    pub fn let_go(&mut self, now: Timestamp) {
        self.ride = None;
        self.idle_since = now;
        self.on_duty &= self.approved;
    }
}

impl Locked {
    /// Locks what these steps and edits are about, and who is bound to the rides.
    pub async fn lock(tx: &mut Tx<'_>, steps: &[&Step], edits: &[&DriverEdit]) -> Result<Self, sql::Error> {
        let rides = lock_rides(tx, steps.iter().map(|step| step.ride).collect()).await?;
        let asked = steps.iter().filter_map(|step| wanted(&step.command));
        let bound = rides.values().flatten().filter_map(Ride::bound_driver);
        let edited = edits.iter().map(|edit| edit.id);
        let drivers = lock_drivers(tx, asked.chain(bound).chain(edited).collect()).await?;
        Ok(Self { rides, drivers })
    }

    /// Writes what steps change of these drivers.
    pub async fn write_drivers(
        &self,
        tx: &mut Tx<'_>,
        drivers: &BTreeSet<DriverId>,
        now: Timestamp,
    ) -> Result<(), sql::Error> {
        const WRITE: RowsSql = rows_sql!(
            "UPDATE drivers SET on_duty = r.on_duty, token = r.token, offered = r.offered, accepted = r.accepted,
                 idle_since = r.idle_since, updated_at = r.now
             FROM (SELECT " id(0) " AS id, " int(1) " AS on_duty, " int(2) " AS token, " int(3) " AS offered,
                 " int(4) " AS accepted, " int(5) " AS idle_since, " int(6) " AS now FROM " rows ") r
             WHERE drivers.id = r.id"
        );
        if drivers.is_empty() {
            return Ok(());
        }
        let mut json = Json::array(drivers.len(), 120);
        for (id, known) in drivers.iter().filter_map(|id| Some((id, self.drivers.get(id)?))) {
            json.row(|row| {
                row.id(id.uuid());
                row.number(i64::from(known.on_duty));
                row.number(known.token);
                row.number(known.offered);
                row.number(known.accepted);
                row.number(known.idle_since.micros());
                row.number(now.micros());
            });
        }
        WRITE.execute(tx, json.end()).await?;
        Ok(())
    }
}

async fn lock_rides(
    tx: &mut Tx<'_>,
    ids: BTreeSet<RideId>,
) -> Result<HashMap<RideId, Result<Ride, Unreadable>>, sql::Error> {
    const READ: &str = "SELECT id, document FROM rides WHERE id IN (SELECT unhex(value) FROM json_each($1))";
    const LOCK: &str = "SELECT id, document FROM rides WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let ids: Vec<Uuid> = ids.into_iter().map(RideId::uuid).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, String)> = match tx {
        Tx::Sqlite { transaction, .. } => {
            sqlx::query_as(READ).bind(Json::ids(&ids)).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => sqlx::query_as(LOCK).bind(&ids).fetch_all(&mut **transaction).await?,
    };
    let read = |(id, document): (Uuid, String)| (id.into(), read_ride(&document, id.into()));
    Ok(rows.into_iter().map(read).collect())
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    ride_id: Option<Uuid>,
    approved: i64,
    on_duty: i64,
    token: i64,
    offered: i64,
    accepted: i64,
    idle_since: i64,
}

async fn lock_drivers(tx: &mut Tx<'_>, ids: BTreeSet<DriverId>) -> Result<HashMap<DriverId, Known>, sql::Error> {
    const READ: &str =
        "SELECT d.id, b.ride_id, d.approved, d.on_duty, d.token, d.offered, d.accepted, d.idle_since
         FROM drivers d LEFT JOIN bindings b ON b.driver_id = d.id WHERE d.id IN (SELECT unhex(value) FROM json_each($1))";
    const LOCK: &str = "SELECT id FROM drivers WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    const LOCKED: &str = "SELECT d.id, b.ride_id, d.approved, d.on_duty, d.token, d.offered, d.accepted, d.idle_since
         FROM drivers d LEFT JOIN bindings b ON b.driver_id = d.id WHERE d.id = ANY($1)";
    let ids: Vec<Uuid> = ids.into_iter().map(DriverId::uuid).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = match tx {
        Tx::Sqlite { transaction, .. } => {
            sqlx::query_as(READ).bind(Json::ids(&ids)).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            // What is bound is read after the lock, by a statement of its own.
            sqlx::query(LOCK).bind(&ids).execute(&mut **transaction).await?;
            sqlx::query_as(LOCKED).bind(&ids).fetch_all(&mut **transaction).await?
        }
    };
    let known = |row: Row| Known {
        ride: row.ride_id.map(Into::into),
        approved: row.approved != 0,
        on_duty: row.on_duty != 0,
        token: row.token,
        offered: row.offered,
        accepted: row.accepted,
        idle_since: Timestamp::from_micros(row.idle_since),
    };
    Ok(rows.into_iter().map(|row| (row.id.into(), known(row))).collect())
}
