//! Devices that can be reached by push, and every attempt to reach one.

use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::batch::{What, Write};
use super::{Store, unexpected};
use crate::Error;
use crate::domain::ids::{RideId, uuid_of};
use crate::push::{Device, Service, WebKeys};

/// Devices of an owner; registering one more forgets the one that was seen the longest ago.
pub const MOST_DEVICES: u32 = 10;

/// An attempt to reach a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which device; it may be gone.
    pub device: Uuid,
    /// About which ride.
    pub ride: RideId,
    /// Of the change in its history.
    pub version: u32,
    /// Through whom.
    pub service: Service,
    /// 1 for the first.
    pub number: u32,
    /// `sent`, `gone`, `refused`, `later`.
    pub outcome: String,
    /// What the service said.
    pub reason: Option<String>,
    /// How long it took.
    pub took_ms: u32,
}

/// A write about devices.
#[derive(Debug)]
pub enum DeviceEdit {
    /// A device is there; it is nobody else's.
    Register(Box<Device>),
    /// Its owner takes it away.
    Forget(Uuid),
    /// What came of an attempt; and the device, as it was read, where the service does not know it any more.
    Log(Box<Attempt>, Option<(Uuid, Timestamp)>),
    /// Attempts older than this are removed.
    Sweep(Duration),
}

pub(super) async fn apply(tx: &mut Tx<'_>, edits: &[&DeviceEdit]) -> Result<Vec<u64>, sql::Error> {
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let mut changed = Vec::with_capacity(edits.len());
    // They are few beside rides.
    for edit in edits {
        changed.push(match edit {
            DeviceEdit::Register(device) => register(tx, device, now).await?,
            DeviceEdit::Forget(id) => remove(tx, *id, now).await?,
            DeviceEdit::Log(attempt, gone) => {
                if let Some((id, seen_at)) = gone {
                    remove(tx, *id, *seen_at).await?;
                }
                log(tx, attempt, now).await?
            }
            DeviceEdit::Sweep(kept) => sweep(tx, now.minus(*kept)).await?,
        });
    }
    Ok(changed)
}

async fn register(tx: &mut Tx<'_>, device: &Device, now: Timestamp) -> Result<u64, sql::Error> {
    const OTHERS: RowsSql = rows_sql!(
        "DELETE FROM push_devices WHERE EXISTS (SELECT 1 FROM " rows " WHERE push_devices.service = " text(2) "
             AND push_devices.address = " text(3) " AND push_devices.subject <> " text(7) ")"
    );
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO push_devices (id, owner, service, address, p256dh, auth, seen_at, subject)
         SELECT " id(0) ", " id(1) ", " text(2) ", " text(3) ", " bytes(4) ", " bytes(5) ", " int(6) ", " text(7) "
         FROM " rows " WHERE TRUE
         ON CONFLICT (id) DO UPDATE SET p256dh = excluded.p256dh, auth = excluded.auth, seen_at = excluded.seen_at"
    );
    const TOO_MANY: RowsSql = rows_sql!(
        "DELETE FROM push_devices WHERE owner IN (SELECT " id(1) " FROM " rows ") AND id NOT IN (
             SELECT id FROM push_devices WHERE owner IN (SELECT " id(1) " FROM " rows ")
             ORDER BY seen_at DESC, id LIMIT 10)"
    );
    const _: () = assert!(MOST_DEVICES == 10);
    let mut json = Json::array(1, 400 + device.address.len());
    json.row(|row| {
        row.id(device.id);
        row.id(device.owner);
        row.text(device.service.as_str());
        row.text(&device.address);
        match &device.keys {
            Some(keys) => {
                row.bytes(&keys.p256dh);
                row.bytes(&keys.auth);
            }
            None => {
                row.null();
                row.null();
            }
        }
        row.number(now.micros());
        row.text(&device.subject);
    });
    let rows = json.end();
    OTHERS.execute(tx, rows.clone()).await?;
    let written = WRITE.execute(tx, rows.clone()).await?;
    TOO_MANY.execute(tx, rows).await?;
    Ok(written)
}

/// Removes a device, unless it was registered again since it was seen.
async fn remove(tx: &mut Tx<'_>, id: Uuid, seen_at: Timestamp) -> Result<u64, sql::Error> {
    const REMOVE: RowsSql = rows_sql!(
        "DELETE FROM push_devices WHERE EXISTS (SELECT 1 FROM " rows " WHERE push_devices.id = " id(0) "
             AND push_devices.seen_at <= " int(1) ")"
    );
    let mut json = Json::array(1, 60);
    json.row(|row| {
        row.id(id);
        row.number(seen_at.micros());
    });
    REMOVE.execute(tx, json.end()).await
}

async fn log(tx: &mut Tx<'_>, attempt: &Attempt, now: Timestamp) -> Result<u64, sql::Error> {
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO push_attempts (id, device_id, ride_id, version, service, number, outcome, reason, took_ms, at)
         SELECT " id(0) ", " id(1) ", " id(2) ", " int(3) ", " text(4) ", " int(5) ", " text(6) ", " text(7) ", " int(8) "
             , " int(9) " FROM " rows " WHERE TRUE ON CONFLICT (id) DO NOTHING"
    );
    let ride = attempt.ride.uuid();
    let (version, number) = (attempt.version.to_be_bytes(), attempt.number.to_be_bytes());
    let parts: [&[u8]; 5] = [b"tessera-attempt:", attempt.device.as_bytes(), ride.as_bytes(), &version, &number];
    // The same attempt again is the same row.
    let id = uuid_of(&parts);
    let mut json = Json::array(1, 300);
    json.row(|row| {
        row.id(id);
        row.id(attempt.device);
        row.id(attempt.ride.uuid());
        row.number(i64::from(attempt.version));
        row.text(attempt.service.as_str());
        row.number(i64::from(attempt.number));
        row.text(&attempt.outcome);
        match &attempt.reason {
            Some(reason) => row.text(reason),
            None => row.null(),
        }
        row.number(i64::from(attempt.took_ms));
        row.number(now.micros());
    });
    WRITE.execute(tx, json.end()).await
}

async fn sweep(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, sql::Error> {
    const SWEEP: RowsSql = rows_sql!("DELETE FROM push_attempts WHERE at < (SELECT MAX(" int(0) ") FROM " rows ")");
    let mut json = Json::array(1, 24);
    json.row(|row| row.number(before.micros()));
    SWEEP.execute(tx, json.end()).await
}

#[derive(FromRow)]
struct DeviceRow {
    id: Uuid,
    owner: Uuid,
    service: String,
    address: String,
    p256dh: Option<Vec<u8>>,
    auth: Option<Vec<u8>>,
    seen_at: i64,
    subject: String,
}

impl DeviceRow {
    fn read(self) -> Option<Device> {
        let keys = match (self.p256dh, self.auth) {
            (Some(p256dh), Some(auth)) => {
                Some(WebKeys { p256dh: p256dh.try_into().ok()?, auth: auth.try_into().ok()? })
            }
            _ => None,
        };
        Some(Device {
            id: self.id,
            owner: self.owner,
            service: Service::ALL.into_iter().find(|service| service.as_str() == self.service)?,
            address: self.address,
            keys,
            seen_at: Timestamp::from_micros(self.seen_at),
            subject: self.subject,
        })
    }
}

#[derive(FromRow)]
struct AttemptRow {
    device_id: Uuid,
    ride_id: Uuid,
    version: i64,
    service: String,
    number: i64,
    outcome: String,
    reason: Option<String>,
    took_ms: i64,
}

impl Store {
    /// Keeps a device; whoever had its address before has it no more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn register_device(&self, device: Device) -> Result<(), Error> {
        self.edit_device(DeviceEdit::Register(Box::new(device))).await.map(drop)
    }

    /// Forgets a device. Whether it was there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_device(&self, id: Uuid) -> Result<bool, Error> {
        Ok(self.edit_device(DeviceEdit::Forget(id)).await? > 0)
    }

    /// Writes an attempt down, and forgets the device where the service does not know it any more, unless it was registered anew.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_attempt(&self, attempt: Attempt, gone: Option<&Device>) -> Result<(), Error> {
        let gone = gone.map(|device| (device.id, device.seen_at));
        self.edit_device(DeviceEdit::Log(Box::new(attempt), gone)).await.map(drop)
    }

    /// Removes attempts that are older.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep_attempts(&self, kept: Duration) -> Result<u64, Error> {
        self.edit_device(DeviceEdit::Sweep(kept)).await
    }

    /// The devices of an owner.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn devices(&self, owner: Uuid) -> Result<Vec<Device>, Error> {
        self.devices_of(&[owner]).await
    }

    /// The devices of all of these owners.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn devices_of(&self, owners: &[Uuid]) -> Result<Vec<Device>, Error> {
        const READ: RowsSql = rows_sql!(
            "SELECT id, owner, service, address, p256dh, auth, seen_at, subject FROM push_devices WHERE owner " among(0)
        );
        let mut json = Json::array(owners.len(), 36);
        owners.iter().for_each(|owner| json.row(|row| row.id(*owner)));
        let rows: Vec<DeviceRow> = READ.fetch_from(&self.db, json.end()).await?;
        Ok(rows.into_iter().filter_map(DeviceRow::read).collect())
    }

    /// Every attempt to tell of a ride, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn attempts(&self, ride: RideId) -> Result<Vec<Attempt>, Error> {
        const READ: RowsSql = rows_sql!(
            "SELECT device_id, ride_id, version, service, number, outcome, reason, took_ms FROM push_attempts
             WHERE ride_id IN (SELECT " id(0) " FROM " rows ") ORDER BY at, number, id"
        );
        let mut json = Json::array(1, 36);
        json.row(|row| row.id(ride.uuid()));
        let rows: Vec<AttemptRow> = READ.fetch_from(&self.db, json.end()).await?;
        let attempt = |row: AttemptRow| {
            Some(Attempt {
                device: row.device_id,
                ride: row.ride_id.into(),
                version: u32::try_from(row.version).ok()?,
                service: Service::ALL.into_iter().find(|service| service.as_str() == row.service)?,
                number: u32::try_from(row.number).ok()?,
                outcome: row.outcome,
                reason: row.reason,
                took_ms: u32::try_from(row.took_ms).ok()?,
            })
        };
        Ok(rows.into_iter().filter_map(attempt).collect())
    }

    async fn edit_device(&self, edit: DeviceEdit) -> Result<u64, Error> {
        match self.writer.submit(Write::Device(Box::new(edit))).await? {
            What::Device(changed) => Ok(changed),
            _ => Err(unexpected()),
        }
    }
}
