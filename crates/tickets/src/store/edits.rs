//! Changes of the catalogue: rows written only where their version is still the one that was read, what was answered
//! under the key, and the outbox, all in the transaction of the batch.

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::Store;
use super::answers::{Answered, Asked, Once};
use super::batch::{What, Write};
use super::outbox::{Kind, Outbox};
use super::promos;
use crate::Error;
use crate::domain::catalogue::{Performer, Venue};
use crate::domain::event::Event;
use crate::domain::ids::{EventId, PerformerId, PlanId, PromoId, VenueId};
use crate::domain::promo::Promo;

/// A change, and what to answer when it is done.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Under which key; none for what we do ourselves.
    pub asked: Option<Asked>,
    /// What to write.
    pub put: Put,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The answer. Where it has an `updated_at`, the moment of the change is put in.
    pub body: serde_json::Value,
}

/// What to write. A thing of version 1 must not be there yet, one of a higher version must be there in the version
/// before.
#[derive(Clone, Debug)]
pub enum Put {
    /// A venue.
    Venue(Box<Venue>),
    /// A performer.
    Performer(Box<Performer>),
    /// A seat plan; there is only one version of it.
    Plan(NewPlan),
    /// An event, and how many tickets it has.
    Event(Box<Event>, u32),
    /// A promotion code.
    Promo(Promo),
    /// Not shown any more; the row stays.
    Delete(Deleted),
    /// Many at once; those that are there already are left as they are.
    Season(Box<Season>),
}

/// What to delete, and the version that it then has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// A venue.
    Venue(VenueId, i64),
    /// A performer.
    Performer(PerformerId, i64),
    /// An event.
    Event(EventId, i64),
    /// A promotion code.
    Promo(PromoId, i64),
    /// A seat plan; events that have it keep it.
    Plan(PlanId),
}

/// A new seat plan.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// Its id.
    pub id: PlanId,
    /// For people.
    pub name: String,
    /// How many seats it has.
    pub seats: u32,
    /// As JSON.
    pub document: String,
    /// The subject that may use it.
    pub organiser: String,
}

/// Things to be added together, all of version 1.
#[derive(Clone, Debug, Default)]
pub struct Season {
    /// Seat plans.
    pub plans: Vec<NewPlan>,
    /// Venues.
    pub venues: Vec<Venue>,
    /// Performers.
    pub performers: Vec<Performer>,
    /// Events, and how many tickets they have.
    pub events: Vec<(Event, u32)>,
}

/// What became of an [`Edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It is done, or was before under the same key.
    Done(Answered),
    /// It is not in the version that was read.
    Changed,
    /// There is one already.
    Exists,
}

/// Applies changes one after the other.
pub(super) async fn apply(tx: &mut Tx<'_>, edits: &[&Edit], outbox: &mut Outbox) -> Result<Vec<Edited>, sql::Error> {
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let mut edited = Vec::with_capacity(edits.len());
    for edit in edits {
        edited.push(apply_one(tx, edit, now, outbox).await?);
    }
    Ok(edited)
}

async fn apply_one(tx: &mut Tx<'_>, edit: &Edit, now: Timestamp, outbox: &mut Outbox) -> Result<Edited, sql::Error> {
    if let Err(refused) = put(tx, &edit.put, now).await? {
        return Ok(refused);
    }
    note(&edit.put, outbox);
    let mut body = edit.body.clone();
    if let Some(updated_at) = body.get_mut("updated_at") {
        *updated_at = now.to_string().into();
    }
    Ok(Edited::Done(Answered { status: edit.status, body: body.to_string() }))
}

fn note(put: &Put, outbox: &mut Outbox) {
    match put {
        Put::Venue(venue) => outbox.add(Kind::Venue, venue.id.uuid()),
        Put::Performer(performer) => outbox.add(Kind::Performer, performer.id.uuid()),
        Put::Event(event, _) => outbox.add(Kind::Event, event.id.uuid()),
        Put::Delete(Deleted::Venue(id, _)) => outbox.add(Kind::Venue, id.uuid()),
        Put::Delete(Deleted::Performer(id, _)) => outbox.add(Kind::Performer, id.uuid()),
        Put::Delete(Deleted::Event(id, _)) => outbox.add(Kind::Event, id.uuid()),
        Put::Plan(_) | Put::Promo(_) | Put::Delete(Deleted::Promo(..) | Deleted::Plan(_)) => {}
        Put::Season(season) => {
            season.venues.iter().for_each(|venue| outbox.add(Kind::Venue, venue.id.uuid()));
            season.performers.iter().for_each(|performer| outbox.add(Kind::Performer, performer.id.uuid()));
            season.events.iter().for_each(|(event, _)| outbox.add(Kind::Event, event.id.uuid()));
        }
    }
}

const ADD_PLANS: RowsSql = rows_sql!(
    "INSERT INTO seat_plans (id, name, seats, document, organiser, created_at, updated_at)
     SELECT " id(0) ", " text(1) ", " int(2) ", " text(3) ", " text(4) ", " int(5) ", " int(5) " FROM " rows "
     WHERE TRUE ON CONFLICT DO NOTHING"
);
const ADD_VENUES: RowsSql = rows_sql!(
    "INSERT INTO venues (id, name, city, country, address, lat_e7, lng_e7, timezone, plan_id, organiser, version,
        updated_at)
     SELECT " id(0) ", " text(1) ", " text(2) ", " text(3) ", " text(4) ", " int(5) ", " int(6) ", " text(7) ", "
        id(8) ", " text(9) ", " int(10) ", " int(11) " FROM " rows " WHERE TRUE ON CONFLICT DO NOTHING"
);
const CHANGE_VENUE: RowsSql = rows_sql!(
    "UPDATE venues SET name = " text(1) ", city = " text(2) ", country = " text(3) ", address = " text(4) ",
        lat_e7 = " int(5) ", lng_e7 = " int(6) ", timezone = " text(7) ", plan_id = " id(8) ", version = " int(10) ",
        updated_at = " int(11) " FROM " rows "
     WHERE venues.id = " id(0) " AND version = " int(10) " - 1 AND deleted_at IS NULL"
);
const ADD_PERFORMERS: RowsSql = rows_sql!(
    "INSERT INTO performers (id, name, about, organiser, version, updated_at)
     SELECT " id(0) ", " text(1) ", " text(2) ", " text(3) ", " int(4) ", " int(5) " FROM " rows "
     WHERE TRUE ON CONFLICT DO NOTHING"
);
const CHANGE_PERFORMER: RowsSql = rows_sql!(
    "UPDATE performers SET name = " text(1) ", about = " text(2) ", version = " int(4) ", updated_at = " int(5) "
     FROM " rows " WHERE performers.id = " id(0) " AND version = " int(4) " - 1 AND deleted_at IS NULL"
);
const ADD_EVENTS: RowsSql = rows_sql!(
    "INSERT INTO events (id, name, kind, status, organiser, venue_id, plan_id, starts_at, currency, tickets, document,
        version, updated_at)
     SELECT " id(0) ", " text(1) ", " text(2) ", " text(3) ", " text(4) ", " id(5) ", " id(6) ", " int(7) ", "
        text(8) ", " int(9) ", " text(10) ", " int(11) ", " int(12) " FROM " rows " WHERE TRUE ON CONFLICT DO NOTHING"
);
const CHANGE_EVENT: RowsSql = rows_sql!(
    "UPDATE events SET name = " text(1) ", kind = " text(2) ", status = " text(3) ", venue_id = " id(5) ",
        plan_id = " id(6) ", starts_at = " int(7) ", currency = " text(8) ", tickets = " int(9) ",
        document = " text(10) ", version = " int(11) ", updated_at = " int(12) " FROM " rows "
     WHERE events.id = " id(0) " AND version = " int(11) " - 1 AND deleted_at IS NULL"
);
const ADD_BILLS: RowsSql = rows_sql!(
    "INSERT INTO event_performers (event_id, position, performer_id)
     SELECT " id(0) ", " int(1) ", " id(2) " FROM " rows " WHERE TRUE ON CONFLICT DO NOTHING"
);
const REMOVE_BILL: RowsSql =
    rows_sql!("DELETE FROM event_performers WHERE event_id IN (SELECT " id(0) " FROM " rows ")");

async fn put(tx: &mut Tx<'_>, put: &Put, now: Timestamp) -> Result<Result<(), Edited>, sql::Error> {
    match put {
        Put::Venue(venue) => {
            let rows = venues(std::slice::from_ref(venue), now);
            write(tx, venue.version, &ADD_VENUES, &CHANGE_VENUE, rows).await
        }
        Put::Performer(performer) => {
            let rows = performers(std::slice::from_ref(performer), now);
            write(tx, performer.version, &ADD_PERFORMERS, &CHANGE_PERFORMER, rows).await
        }
        Put::Event(event, tickets) => {
            let rows = events([(&**event, *tickets)], now);
            let written = write(tx, event.version, &ADD_EVENTS, &CHANGE_EVENT, rows).await?;
            if written.is_ok() {
                bill(tx, event).await?;
            }
            Ok(written)
        }
        Put::Plan(plan) => write(tx, 1, &ADD_PLANS, &ADD_PLANS, plans(std::slice::from_ref(plan), now)).await,
        Put::Promo(promo) => {
            let rows = promos::rows(promo, now);
            write(tx, promo.version, &promos::ADD, &promos::CHANGE, rows).await
        }
        Put::Delete(deleted) => delete(tx, *deleted, now).await,
        Put::Season(season) => {
            add_season(tx, season, now).await?;
            Ok(Ok(()))
        }
    }
}

async fn write(
    tx: &mut Tx<'_>,
    version: i64,
    add: &RowsSql,
    change: &RowsSql,
    rows: String,
) -> Result<Result<(), Edited>, sql::Error> {
    let (statement, refusal) = if version == 1 { (add, Edited::Exists) } else { (change, Edited::Changed) };
    Ok(if statement.execute(tx, rows).await? == 1 { Ok(()) } else { Err(refusal) })
}

async fn bill(tx: &mut Tx<'_>, event: &Event) -> Result<(), sql::Error> {
    if event.version > 1 {
        let mut json = Json::array(1, 36);
        json.row(|row| row.id(event.id.uuid()));
        REMOVE_BILL.execute(tx, json.end()).await?;
    }
    execute(tx, &ADD_BILLS, bills([event])).await
}

async fn delete(tx: &mut Tx<'_>, deleted: Deleted, now: Timestamp) -> Result<Result<(), Edited>, sql::Error> {
    const VENUE: RowsSql = rows_sql!(
        "UPDATE venues SET deleted_at = " int(2) ", updated_at = " int(2) ", version = " int(1) " FROM " rows "
         WHERE venues.id = " id(0) " AND version = " int(1) " - 1 AND deleted_at IS NULL"
    );
    const PERFORMER: RowsSql = rows_sql!(
        "UPDATE performers SET deleted_at = " int(2) ", updated_at = " int(2) ", version = " int(1) " FROM " rows "
         WHERE performers.id = " id(0) " AND version = " int(1) " - 1 AND deleted_at IS NULL"
    );
    const EVENT: RowsSql = rows_sql!(
        "UPDATE events SET deleted_at = " int(2) ", updated_at = " int(2) ", version = " int(1) " FROM " rows "
         WHERE events.id = " id(0) " AND version = " int(1) " - 1 AND deleted_at IS NULL"
    );
    const PROMO: RowsSql = rows_sql!(
        "UPDATE promo_codes SET deleted_at = " int(2) ", updated_at = " int(2) ", version = " int(1) " FROM " rows "
         WHERE promo_codes.id = " id(0) " AND version = " int(1) " - 1 AND deleted_at IS NULL"
    );
    const PLAN: RowsSql = rows_sql!(
        "UPDATE seat_plans SET deleted_at = " int(2) ", updated_at = " int(2) " FROM " rows "
         WHERE seat_plans.id = " id(0) " AND deleted_at IS NULL"
    );
    let (statement, id, version): (_, Uuid, i64) = match deleted {
        Deleted::Venue(id, version) => (VENUE, id.uuid(), version),
        Deleted::Performer(id, version) => (PERFORMER, id.uuid(), version),
        Deleted::Event(id, version) => (EVENT, id.uuid(), version),
        Deleted::Promo(id, version) => (PROMO, id.uuid(), version),
        Deleted::Plan(id) => (PLAN, id.uuid(), 1),
    };
    let mut json = Json::array(1, 70);
    json.row(|row| {
        row.id(id);
        row.number(version);
        row.number(now.micros());
    });
    Ok(if statement.execute(tx, json.end()).await? == 1 { Ok(()) } else { Err(Edited::Changed) })
}

async fn add_season(tx: &mut Tx<'_>, season: &Season, now: Timestamp) -> Result<(), sql::Error> {
    execute(tx, &ADD_PLANS, plans(&season.plans, now)).await?;
    execute(tx, &ADD_VENUES, venues(&season.venues, now)).await?;
    execute(tx, &ADD_PERFORMERS, performers(&season.performers, now)).await?;
    execute(tx, &ADD_EVENTS, events(season.events.iter().map(|(event, tickets)| (event, *tickets)), now)).await?;
    execute(tx, &ADD_BILLS, bills(season.events.iter().map(|(event, _)| event))).await
}

async fn execute(tx: &mut Tx<'_>, statement: &RowsSql, rows: String) -> Result<(), sql::Error> {
    if rows != "[]" {
        statement.execute(tx, rows).await?;
    }
    Ok(())
}

fn plans(plans: &[NewPlan], now: Timestamp) -> String {
    let mut json = Json::array(plans.len(), plans.first().map_or(0, |plan| plan.document.len() * 5 / 4));
    for plan in plans {
        json.row(|row| {
            row.id(plan.id.uuid());
            row.text(&plan.name);
            row.number(i64::from(plan.seats));
            row.text(&plan.document);
            row.text(&plan.organiser);
            row.number(now.micros());
        });
    }
    json.end()
}

fn venues(venues: &[impl std::borrow::Borrow<Venue>], now: Timestamp) -> String {
    let mut json = Json::array(venues.len(), 300);
    for venue in venues.iter().map(std::borrow::Borrow::borrow) {
        json.row(|row| {
            row.id(venue.id.uuid());
            [&venue.name, &venue.city, &venue.country, &venue.address].into_iter().for_each(|text| row.text(text));
            match venue.place() {
                Some(place) => {
                    row.number(place.lat_e7().into());
                    row.number(place.lng_e7().into());
                }
                None => {
                    row.null();
                    row.null();
                }
            }
            row.text(&venue.timezone);
            match venue.plan {
                Some(plan) => row.id(plan.uuid()),
                None => row.null(),
            }
            row.text(&venue.organiser);
            row.number(venue.version);
            row.number(now.micros());
        });
    }
    json.end()
}

fn performers(performers: &[impl std::borrow::Borrow<Performer>], now: Timestamp) -> String {
    let mut json = Json::array(performers.len(), 200);
    for performer in performers.iter().map(std::borrow::Borrow::borrow) {
        json.row(|row| {
            row.id(performer.id.uuid());
            row.text(&performer.name);
            row.text(&performer.about);
            row.text(&performer.organiser);
            row.number(performer.version);
            row.number(now.micros());
        });
    }
    json.end()
}

fn events<'a>(events: impl IntoIterator<Item = (&'a Event, u32)>, now: Timestamp) -> String {
    let mut json = Json::array(8, 1_000);
    for (event, tickets) in events {
        json.row(|row| {
            row.id(event.id.uuid());
            let texts = [&*event.name, &event.kind, event.status.as_str(), &event.organiser];
            texts.into_iter().for_each(|text| row.text(text));
            row.id(event.venue.uuid());
            match event.plan {
                Some(plan) => row.id(plan.uuid()),
                None => row.null(),
            }
            row.number(event.starts_at.micros());
            row.text(event.currency.as_str());
            row.number(i64::from(tickets));
            // Plain structs always serialise.
            row.text(&serde_json::to_string(&event.details).unwrap_or_default());
            row.number(event.version);
            row.number(now.micros());
        });
    }
    json.end()
}

fn bills<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut json = Json::array(8, 80);
    for event in events {
        for (position, performer) in event.performers.iter().enumerate() {
            json.row(|row| {
                row.id(event.id.uuid());
                row.number(position as i64);
                row.id(performer.uuid());
            });
        }
    }
    json.end()
}

impl Store {
    /// Changes the catalogue.
    ///
    /// # Errors
    /// [`Error::KeyReused`]; those of the database. Refusals are part of the answer.
    pub async fn edit(&self, edit: Edit) -> Result<Edited, Error> {
        let edited = |what| if let What::Edited(edited) = what { Some(edited) } else { None };
        match self.submit_once(Write::Edit(Box::new(edit)), edited).await? {
            Once::Now(edited) => Ok(edited),
            Once::Before(answered) => Ok(Edited::Done(answered)),
        }
    }
}
