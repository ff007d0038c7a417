//! Rides and the steps that they take: each under the lock of its ride and of the drivers that it names.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::locked::{Known, Locked};
use super::unreadable::Unreadable;
use crate::domain::fare::Tariff;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::{Command, Refused, Ride, State};

/// A step of a ride.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which.
    pub ride: RideId,
    /// What happens.
    pub command: Command,
    /// The rider whose it must be, where a rider asks.
    pub rider: Option<Arc<str>>,
}

/// What came of a [`Step`].
#[derive(Clone, Debug, PartialEq)]
pub enum Stepped {
    /// The ride after it, and the driver who has nothing to do with it any more.
    Done(Ride, Option<DriverId>),
    /// Why not, and the ride as it is.
    Refused(Refused, Ride),
    /// The driver has an offer or a ride already, was asked for this one before, or under a later claim; or is off duty.
    DriverBound(Ride),
    /// No operator lets this driver drive any more.
    NotApproved(DriverId),
    /// There is no such ride, or it is another's.
    Missing,
}

/// Keeps new estimates, made now by the store's clock.
pub(super) async fn insert(tx: &mut Tx<'_>, new: &[&Ride]) -> Result<Vec<Ride>, sql::Error> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let made: Vec<Ride> = new.iter().map(|ride| (*ride).clone().made_at(now)).collect();
    write_rides(tx, made.iter()).await?;
    write_events(tx, made.iter().map(|ride| (ride, "estimated"))).await?;
    Ok(made)
}

/// Takes the steps, in their order. One of a ride that cannot be read fails alone.
pub(super) async fn apply(
    tx: &mut Tx<'_>,
    tariff: &Tariff,
    steps: &[&Step],
    locked: &mut Locked,
) -> Result<Vec<Result<Stepped, Unreadable>>, sql::Error> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<(RideId, DriverId)> =
        steps.iter().filter_map(|step| Some((step.ride, wanted(&step.command)?))).collect();
    let mut asked = asked_before(tx, &wanted).await?;
    let now = tx.now().await?;
    let Locked { rides, drivers } = locked;
    let mut stepped = Vec::with_capacity(steps.len());
    let (mut events, mut freed, mut bound, mut offers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut touched: BTreeSet<DriverId> = BTreeSet::new();
    for step in steps {
        let known = match rides.get(&step.ride) {
            Some(Err(unreadable)) => {
                stepped.push(Err(unreadable.clone()));
                continue;
            }
            Some(Ok(ride)) => Some(ride),
            None => None,
        };
        let is_theirs = |ride: &&Ride| step.rider.as_ref().is_none_or(|rider| *ride.rider == **rider);
        let Some(ride) = known.filter(is_theirs) else {
            stepped.push(Ok(Stepped::Missing));
            continue;
        };
        let next = match ride.after(&step.command, tariff, now) {
            Ok(next) => next,
            Err(refused) => {
                stepped.push(Ok(Stepped::Refused(refused, ride.clone())));
                continue;
            }
        };
        match &step.command {
            Command::Offer(offer) => {
                let free = |known: &&mut Known| {
                    known.approved && known.on_duty && known.ride.is_none() && known.token < offer.token
                };
                let driver = drivers.get_mut(&offer.driver).filter(free);
                let Some(driver) = driver.filter(|_| asked.insert((ride.id, offer.driver))) else {
                    stepped.push(Ok(Stepped::DriverBound(ride.clone())));
                    continue;
                };
                driver.ride = Some(ride.id);
                driver.token = offer.token;
                driver.offered += 1;
                touched.insert(offer.driver);
                bound.push((offer.driver, ride.id, offer.id.uuid(), offer.token));
                offers.extend(next.offer.clone().map(|offer| (ride.id, offer)));
            }
            Command::Accept { driver, .. } => {
                let Some(known) = drivers.get_mut(driver).filter(|known| known.approved) else {
                    stepped.push(Ok(Stepped::NotApproved(*driver)));
                    continue;
                };
                known.accepted += 1;
                touched.insert(*driver);
            }
            _ => {}
        }
        let let_go = ride.bound_driver().filter(|_| next.bound_driver().is_none());
        if let Some(driver) = let_go {
            if let Some(known) = drivers.get_mut(&driver) {
                known.let_go(now);
            }
            touched.insert(driver);
            bound.retain(|(bound, ..)| *bound != driver);
            freed.push(driver);
        }
        events.push((next.clone(), step.command.event(&next)));
        rides.insert(next.id, Ok(next.clone()));
        stepped.push(Ok(Stepped::Done(next, let_go)));
    }
    let changed: BTreeSet<RideId> = events.iter().map(|(ride, _)| ride.id).collect();
    unbind(tx, &freed).await?;
    write_rides(tx, changed.iter().filter_map(|id| rides.get(id)?.as_ref().ok())).await?;
    bind(tx, &bound).await?;
    locked.write_drivers(tx, &touched, now).await?;
    write_offers(tx, &offers, now).await?;
    write_events(tx, events.iter().map(|(ride, kind)| (ride, *kind))).await?;
    Ok(stepped)
}

/// Whom a command wants to ask.
pub(super) fn wanted(command: &Command) -> Option<DriverId> {
    match command {
        Command::Offer(offer) => Some(offer.driver),
        _ => None,
    }
}

/// Which of these drivers were asked for these rides already.
async fn asked_before(
    tx: &mut Tx<'_>,
    wanted: &[(RideId, DriverId)],
) -> Result<HashSet<(RideId, DriverId)>, sql::Error> {
    const ASKED: RowsSql = rows_sql!(
        "SELECT o.ride_id, o.driver_id FROM " rows " JOIN offers o ON o.ride_id = " id(0) " AND o.driver_id = " id(1)
    );
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let mut json = Json::array(wanted.len(), 72);
    for (ride, driver) in wanted {
        json.row(|row| {
            row.id(ride.uuid());
            row.id(driver.uuid());
        });
    }
    let rows: Vec<(Uuid, Uuid)> = ASKED.fetch(tx, json.end()).await?;
    Ok(rows.into_iter().map(|(ride, driver)| (ride.into(), driver.into())).collect())
}

async fn write_rides<'a>(tx: &mut Tx<'_>, rides: impl Iterator<Item = &'a Ride>) -> Result<(), sql::Error> {
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO rides (id, rider, state, version, area, driver_id, requested_at, due_at, document, updated_at)
         SELECT " id(0) ", " text(1) ", " text(2) ", " int(3) ", " int(4) ", " id(5) ", " int(6) ", " int(7) ", " text(8)
         ", " int(9) " FROM " rows " WHERE TRUE
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, version = excluded.version,
             driver_id = excluded.driver_id, requested_at = excluded.requested_at, due_at = excluded.due_at,
             document = excluded.document, updated_at = excluded.updated_at"
    );
    let mut json = Json::array(4, 1_000);
    let mut any = false;
    for ride in rides {
        any = true;
        json.row(|row| {
            row.id(ride.id.uuid());
            row.text(&ride.rider);
            row.text(ride.state.as_str());
            row.number(i64::from(ride.version));
            row.number(ride.area.cast_signed());
            match ride.driver {
                Some(driver) => row.id(driver.uuid()),
                None => row.null(),
            }
            match ride.requested_at {
                Some(at) => row.number(at.micros()),
                None => row.null(),
            }
            match due_at(ride) {
                Some(at) => row.number(at.micros()),
                None => row.null(),
            }
            // A ride is plain data, which always serialises.
            row.text(&serde_json::to_string(ride).unwrap_or_default());
            row.number(ride.updated_at.micros());
        });
    }
    if any {
        WRITE.execute(tx, json.end()).await?;
    }
    Ok(())
}

/// When something happens to the ride without anybody's doing.
fn due_at(ride: &Ride) -> Option<Timestamp> {
    match ride.state {
        State::Estimated => Some(ride.estimate.expires_at),
        State::Offered => ride.offer.as_ref().map(|offer| offer.expires_at),
        _ => None,
    }
}

async fn write_events<'a>(
    tx: &mut Tx<'_>,
    events: impl Iterator<Item = (&'a Ride, &'static str)>,
) -> Result<(), sql::Error> {
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO ride_events (ride_id, version, kind, at, document)
         SELECT " id(0) ", " int(1) ", " text(2) ", " int(3) ", " text(4) " FROM " rows " WHERE TRUE"
    );
    let mut json = Json::array(4, 1_000);
    let mut any = false;
    for (ride, kind) in events {
        any = true;
        json.row(|row| {
            row.id(ride.id.uuid());
            row.number(i64::from(ride.version));
            row.text(kind);
            row.number(ride.updated_at.micros());
            row.text(&serde_json::to_string(ride).unwrap_or_default());
        });
    }
    if any {
        WRITE.execute(tx, json.end()).await?;
    }
    Ok(())
}

async fn unbind(tx: &mut Tx<'_>, drivers: &[DriverId]) -> Result<(), sql::Error> {
    const UNBIND: RowsSql = rows_sql!("DELETE FROM bindings WHERE driver_id IN (SELECT " id(0) " FROM " rows ")");
    if drivers.is_empty() {
        return Ok(());
    }
    let mut json = Json::array(drivers.len(), 36);
    drivers.iter().for_each(|driver| json.row(|row| row.id(driver.uuid())));
    UNBIND.execute(tx, json.end()).await?;
    Ok(())
}

async fn bind(tx: &mut Tx<'_>, bound: &[(DriverId, RideId, Uuid, i64)]) -> Result<(), sql::Error> {
    const BIND: RowsSql = rows_sql!(
        "INSERT INTO bindings (driver_id, ride_id, offer_id, token)
         SELECT " id(0) ", " id(1) ", " id(2) ", " int(3) " FROM " rows " WHERE TRUE"
    );
    if bound.is_empty() {
        return Ok(());
    }
    let mut json = Json::array(bound.len(), 130);
    for (driver, ride, offer, token) in bound {
        json.row(|row| {
            row.id(driver.uuid());
            row.id(ride.uuid());
            row.id(*offer);
            row.number(*token);
        });
    }
    BIND.execute(tx, json.end()).await?;
    Ok(())
}

async fn write_offers(
    tx: &mut Tx<'_>,
    offers: &[(RideId, crate::domain::ride::Offer)],
    now: Timestamp,
) -> Result<(), sql::Error> {
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO offers (id, ride_id, number, driver_id, token, made_at, expires_at)
         SELECT " id(0) ", " id(1) ", " int(2) ", " id(3) ", " int(4) ", " int(5) ", " int(6) " FROM " rows " WHERE TRUE"
    );
    if offers.is_empty() {
        return Ok(());
    }
    let mut json = Json::array(offers.len(), 190);
    for (ride, offer) in offers {
        json.row(|row| {
            row.id(offer.id.uuid());
            row.id(ride.uuid());
            row.number(i64::from(offer.number));
            row.id(offer.driver.uuid());
            row.number(offer.token);
            row.number(now.micros());
            row.number(offer.expires_at.micros());
        });
    }
    WRITE.execute(tx, json.end()).await?;
    Ok(())
}
