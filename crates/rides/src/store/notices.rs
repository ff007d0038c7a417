//! Changes of rides told across processes: on PostgreSQL a notice comes with each commit. One that is lost is made up for by
//! looking ([`Store::versions`]).

use sqlx::postgres::PgListener;
use sqlx::types::Uuid;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Db, Tx};

use super::Store;
use super::steps::Stepped;
use super::unreadable::Unreadable;
use crate::Error;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::{Ride, State};

/// What commits are told under.
const CHANNEL: &str = "rides_changes";
/// The longest text of a notice; PostgreSQL takes less than 8,000 bytes.
const MAX_NOTICE_BYTES: usize = 7_800;

/// That a ride has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub ride: RideId,
    /// Up to which version.
    pub version: u32,
    /// Whether there may be something to match: the ride waits, or a driver was freed.
    pub wakes: bool,
    /// Drivers whom it concerns: who is bound to it, and who was.
    pub drivers: Vec<DriverId>,
}

impl Change {
    /// What a change of a ride tells; `freed` has nothing to do with it any more.
    pub fn of(ride: &Ride, freed: Option<DriverId>) -> Self {
        let drivers = ride.bound_driver().into_iter().chain(freed).collect();
        let wakes = ride.state == State::Requested || freed.is_some();
        Self { ride: ride.id, version: ride.version, wakes, drivers }
    }

    /// A line: ride, version, `w` where it wakes, drivers.
    fn write(&self) -> String {
        let mark = if self.wakes { "w" } else { "-" };
        let mut line = format!("{} {} {mark}", self.ride.uuid().simple(), self.version);
        for driver in &self.drivers {
            line.push(' ');
            line.push_str(&driver.uuid().simple().to_string());
        }
        line
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let ride = Uuid::try_parse(words.next()?).ok()?.into();
        let version = words.next()?.parse().ok()?;
        let wakes = words.next()? == "w";
        let drivers = words.filter_map(|word| Uuid::try_parse(word).ok()).map(DriverId::from).collect();
        Some(Self { ride, version, wakes, drivers })
    }
}

/// Tells what a batch changed, when it is committed. On SQLite there is nobody to tell.
pub(super) async fn tell(tx: &mut Tx<'_>, stepped: &[Result<Stepped, Unreadable>]) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    let mut notices: Vec<String> = Vec::new();
    for stepped in stepped {
        let Ok(Stepped::Done(ride, freed)) = stepped else { continue };
        let line = Change::of(ride, *freed).write();
        match notices.last_mut().filter(|notice| notice.len() + 1 + line.len() <= MAX_NOTICE_BYTES) {
            Some(notice) => {
                notice.push('\n');
                notice.push_str(&line);
            }
            None => notices.push(line),
        }
    }
    if !notices.is_empty() {
        let tell = sqlx::query("SELECT pg_notify($1, notice) FROM unnest($2::TEXT[]) AS notice");
        tell.bind(CHANNEL).bind(notices).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Notices of commits of all processes, this one included.
#[derive(Debug)]
pub struct Notices(PgListener);

impl Notices {
    /// Waits for the next ones. `None` where the connection broke: it is made anew, and what was told meanwhile is lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next(&mut self) -> Result<Option<Vec<Change>>, Error> {
        let notice = self.0.try_recv().await.map_err(sql::Error::from)?;
        Ok(notice.map(|notice| notice.payload().lines().filter_map(Change::read).collect()))
    }
}

impl Store {
    /// Notices of commits; none on SQLite, which tells nobody. They take one of the connections.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn notices(&self) -> Result<Option<Notices>, Error> {
        let Db::Postgres(pool) = &self.db else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await.map_err(sql::Error::from)?;
        listener.listen(CHANNEL).await.map_err(sql::Error::from)?;
        Ok(Some(Notices(listener)))
    }

    /// How far each of these is: rides by their ids, and those that a driver is asked for or drives by the driver's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn versions(&self, ids: &[Uuid]) -> Result<Vec<Change>, Error> {
        const RIDES: RowsSql = rows_sql!(
            "SELECT r.id, r.version, b.driver_id FROM rides r LEFT JOIN bindings b ON b.ride_id = r.id WHERE r.id " among(0)
        );
        const DRIVERS: RowsSql = rows_sql!(
            "SELECT r.id, r.version, b.driver_id FROM bindings b JOIN rides r ON r.id = b.ride_id WHERE b.driver_id " among(0)
        );
        let mut json = Json::array(ids.len(), 36);
        ids.iter().for_each(|id| json.row(|row| row.id(*id)));
        let rows = json.end();
        let mut found: Vec<(Uuid, i64, Option<Uuid>)> = RIDES.fetch_from(&self.db, rows.clone()).await?;
        let of_drivers: Vec<(Uuid, i64, Option<Uuid>)> = DRIVERS.fetch_from(&self.db, rows).await?;
        found.extend(of_drivers);
        let change = |(ride, version, driver): (Uuid, i64, Option<Uuid>)| Change {
            ride: ride.into(),
            version: u32::try_from(version).unwrap_or(u32::MAX),
            wakes: false,
            drivers: driver.into_iter().map(DriverId::from).collect(),
        };
        Ok(found.into_iter().map(change).collect())
    }

    /// These rides, in no order; unknown ones are left out, and those that cannot be read.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rides_by_id(&self, ids: &[RideId]) -> Result<Vec<Ride>, Error> {
        const READ: RowsSql = rows_sql!("SELECT id, document FROM rides WHERE id " among(0));
        let mut json = Json::array(ids.len(), 36);
        ids.iter().for_each(|id| json.row(|row| row.id(id.uuid())));
        let rows: Vec<(Uuid, String)> = READ.fetch_from(&self.db, json.end()).await?;
        Ok(self.readable(rows))
    }

    /// Which of these drivers are on duty, and whether they are asked or drive.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn shifts(&self, drivers: &[DriverId]) -> Result<Vec<(DriverId, bool)>, Error> {
        const READ: RowsSql = rows_sql!(
            "SELECT d.id, b.ride_id FROM drivers d LEFT JOIN bindings b ON b.driver_id = d.id
             WHERE d.on_duty = 1 AND d.id " among(0)
        );
        let mut json = Json::array(drivers.len(), 36);
        drivers.iter().for_each(|id| json.row(|row| row.id(id.uuid())));
        let rows: Vec<(Uuid, Option<Uuid>)> = READ.fetch_from(&self.db, json.end()).await?;
        Ok(rows.into_iter().map(|(id, ride)| (id.into(), ride.is_some())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_as_it_was_written() {
        let change = |drivers: &[u128], wakes| Change {
            ride: Uuid::from_u128(7).into(),
            version: 3,
            wakes,
            drivers: drivers.iter().map(|id| Uuid::from_u128(*id).into()).collect(),
        };
        for change in [change(&[], true), change(&[1], false), change(&[1, 2], true)] {
            assert_eq!(Change::read(&change.write()), Some(change));
        }
        assert_eq!(Change::read("what another version says"), None);
    }
}
