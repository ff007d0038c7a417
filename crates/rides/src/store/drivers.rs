//! Drivers: their profiles, whether they may drive, and whether they do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql::{self, Changed, Tx};
use tessera_store::{changed_sql, rows_sql};

use super::Store;
use super::lists::Listed;
use super::locked::{Known, Locked};
use super::unreadable::{Unreadable, Whose};
use crate::Error;
use crate::domain::ids::{DriverId, RideId};

/// What a rider sees of a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// As the rider reads it: 1 to 80 characters.
    pub name: String,
    /// Make, model and colour: 1 to 80 characters.
    pub vehicle: String,
    /// The plate: 1 to 16 characters.
    pub plate: String,
    /// For riders: 1 to 8.
    pub seats: u8,
}

impl Profile {
    /// Whether it can be shown to a rider.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn check(&self) -> Result<(), String> {
        for (field, text, most) in
            [("name", &self.name, 80), ("vehicle", &self.vehicle, 80), ("plate", &self.plate, 16)]
        {
            let length = text.trim().chars().count();
            if !(1..=most).contains(&length) {
                return Err(format!("`{field}` has {length} characters; it takes 1 to {most}"));
            }
        }
        match self.seats {
            1..=8 => Ok(()),
            seats => Err(format!("`seats` is {seats}; it takes 1 to 8")),
        }
    }
}

/// A driver as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Driver {
    /// Made from the subject.
    pub id: DriverId,
    /// Of the token.
    pub subject: String,
    /// Empty until the driver fills it in.
    pub profile: Option<Profile>,
    /// By an operator.
    pub approved: bool,
    /// Whether a shift is under way.
    pub on_duty: bool,
    /// How many offers were made.
    pub offered: u32,
    /// How many of them were accepted.
    pub accepted: u32,
    /// Since when there has been nothing to do.
    pub idle_since: Timestamp,
    /// When the row changed last.
    pub updated_at: Timestamp,
}

/// A change of a driver.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverEdit {
    /// Who.
    pub id: DriverId,
    /// Of the token; where an operator edits, nothing.
    pub subject: Option<Arc<str>>,
    /// What changes.
    pub change: DriverChange,
}

/// What changes of a driver.
#[derive(Clone, Debug, PartialEq)]
pub enum DriverChange {
    /// Nothing: the row is made.
    Met,
    /// What riders see. It must be approved again, and ends a shift.
    Profile(Profile),
    /// An operator's word. Without it a shift ends, and with the ride where there is one.
    Approved(bool),
    /// A shift begins, which takes an approval, or ends.
    OnDuty(bool),
}

/// What came of a [`DriverEdit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Edited {
    /// The driver after it.
    Done(Box<Driver>),
    /// It would end a shift, and the driver is asked for this ride or drives it.
    Bound(RideId),
    /// No operator lets the driver drive.
    NotApproved,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    subject: String,
    profile: String,
    approved: i64,
    on_duty: i64,
    offered: i64,
    accepted: i64,
    idle_since: i64,
    updated_at: i64,
}

impl Row {
    fn read(self) -> Result<Driver, Unreadable> {
        let id = self.id.into();
        let profile = serde_json::from_str(&self.profile);
        Ok(Driver {
            id,
            subject: self.subject,
            profile: profile.map_err(|error| Unreadable::new(Whose::Driver(id), &error))?,
            approved: self.approved != 0,
            on_duty: self.on_duty != 0,
            offered: u32::try_from(self.offered).unwrap_or_default(),
            accepted: u32::try_from(self.accepted).unwrap_or_default(),
            idle_since: Timestamp::from_micros(self.idle_since),
            updated_at: Timestamp::from_micros(self.updated_at),
        })
    }
}

/// Makes and changes rows: those of one driver in their order. One that cannot be read afterwards is told so alone.
pub(super) async fn apply(
    tx: &mut Tx<'_>,
    edits: &[&DriverEdit],
    locked: &mut Locked,
) -> Result<Vec<Result<Edited, Unreadable>>, sql::Error> {
    let now = if edits.is_empty() { 0 } else { tx.now().await?.micros() };
    let mut edited: Vec<(usize, Result<Edited, Unreadable>)> = Vec::with_capacity(edits.len());
    // New rows are locked by being made: in the order of their ids, too.
    let mut order: Vec<usize> = (0..edits.len()).collect();
    order.sort_by_key(|place| edits[*place].id);
    // Edits are few, and each must see the one before.
    for place in order {
        let edit = edits[place];
        let known = locked.drivers.entry(edit.id).or_default();
        let done = match flags(&edit.change, known) {
            Ok((approved, on_duty)) => {
                let row = write(tx, edit, approved, on_duty, now).await?;
                (known.approved, known.on_duty) = (row.approved != 0, row.on_duty != 0);
                row.read().map(|driver| Edited::Done(Box::new(driver)))
            }
            Err(refused) => Ok(refused),
        };
        edited.push((place, done));
    }
    edited.sort_by_key(|(place, _)| *place);
    Ok(edited.into_iter().map(|(_, edited)| edited).collect())
}

/// What becomes of `approved` and `on_duty`, where it changes; or why nothing does.
fn flags(change: &DriverChange, known: &Known) -> Result<(Option<bool>, Option<bool>), Edited> {
    match (change, known.ride) {
        (DriverChange::Met, _) => Ok((None, None)),
        (DriverChange::Approved(true), _) => Ok((Some(true), None)),
        // Whoever drives goes off duty with the ride.
        (DriverChange::Approved(false), Some(_)) => Ok((Some(false), None)),
        (DriverChange::Approved(false) | DriverChange::Profile(_), None) => Ok((Some(false), Some(false))),
        (DriverChange::OnDuty(true), _) if !known.approved => Err(Edited::NotApproved),
        (DriverChange::OnDuty(true), _) => Ok((None, Some(true))),
        (DriverChange::OnDuty(false), None) => Ok((None, Some(false))),
        (DriverChange::OnDuty(false) | DriverChange::Profile(_), Some(ride)) => Err(Edited::Bound(ride)),
    }
}

async fn write(
    tx: &mut Tx<'_>,
    edit: &DriverEdit,
    approved: Option<bool>,
    on_duty: Option<bool>,
    now: i64,
) -> Result<Row, sql::Error> {
    const WRITE: RowsSql = rows_sql!(
        "INSERT INTO drivers (id, subject, profile, approved, on_duty, token, offered, accepted, idle_since, updated_at)
         SELECT " id(0) ", COALESCE(" text(1) ", ''), COALESCE(" text(2) ", 'null'), COALESCE(" int(3) ", 0),
             COALESCE(" int(4) ", 0), 0, 0, 0, " int(5) ", " int(5) " FROM " rows " WHERE TRUE
         ON CONFLICT (id) DO UPDATE SET
             profile = COALESCE((SELECT " text(2) " FROM " rows "), drivers.profile),
             approved = COALESCE((SELECT " int(3) " FROM " rows "), drivers.approved),
             on_duty = COALESCE((SELECT " int(4) " FROM " rows "), drivers.on_duty),
             idle_since = CASE WHEN (SELECT " int(4) " FROM " rows ") = 1 AND drivers.on_duty = 0
                 THEN excluded.idle_since ELSE drivers.idle_since END,
             updated_at = excluded.updated_at
         RETURNING id, subject, profile, approved, on_duty, offered, accepted, idle_since, updated_at"
    );
    let number = |row: &mut Json, flag: Option<bool>| match flag {
        Some(flag) => row.number(i64::from(flag)),
        None => row.null(),
    };
    let mut json = Json::array(1, 300);
    json.row(|row| {
        row.id(edit.id.uuid());
        match &edit.subject {
            Some(subject) => row.text(subject),
            None => row.null(),
        }
        match &edit.change {
            DriverChange::Profile(profile) => row.text(&serde_json::to_string(profile).unwrap_or_default()),
            _ => row.null(),
        }
        number(row, approved);
        number(row, on_duty);
        row.number(now);
    });
    WRITE.fetch(tx, json.end()).await?.pop().ok_or_else(|| sqlx::Error::RowNotFound.into())
}

impl Store {
    /// A driver.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn driver(&self, id: DriverId) -> Result<Option<Driver>, Error> {
        Ok(self.driver_rows(&[id]).await?.pop().map(Row::read).transpose()?)
    }

    /// These drivers, in no order; unknown ones are left out, and those that cannot be read.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, Error> {
        let rows = self.driver_rows(ids).await?.into_iter();
        Ok(rows.filter_map(|row| self.or_left_out(row.read())).collect())
    }

    async fn driver_rows(&self, ids: &[DriverId]) -> Result<Vec<Row>, Error> {
        const READ: RowsSql = rows_sql!(
            "SELECT id, subject, profile, approved, on_duty, offered, accepted, idle_since, updated_at FROM drivers
             WHERE id IN (SELECT " id(0) " FROM " rows ")"
        );
        let mut json = Json::array(ids.len(), 36);
        ids.iter().for_each(|id| json.row(|row| row.id(id.uuid())));
        Ok(READ.fetch_from(&self.db, json.end()).await?)
    }

    /// A page of the drivers in the order of change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn drivers_since(&self, page: Changed) -> Result<Vec<Listed<DriverId, Driver>>, Error> {
        const READ: &str = changed_sql!(
            "SELECT id, subject, profile, approved, on_duty, offered, accepted, idle_since, updated_at FROM drivers"
        );
        let rows: Vec<Row> = self.db.changed(READ, page).await?;
        let listed = |row: Row| Listed {
            id: row.id.into(),
            updated_at: Timestamp::from_micros(row.updated_at),
            read: self.or_left_out(row.read()),
        };
        Ok(rows.into_iter().map(listed).collect())
    }
}
