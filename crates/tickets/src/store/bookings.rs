//! Booked tickets: who has them, and who has gone in with them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::{Currency, Timestamp};
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, rows_sql};

use super::Store;
use super::answers::{Asked, Once};
use super::batch::{What, Write};
use super::orders::OrderRecord;
use crate::Error;
use crate::domain::ids::{EventId, OrderId, TicketId};

/// A booked ticket, with what stands on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The ticket.
    pub ticket: TicketId,
    /// The purchase that it is from.
    pub order: OrderId,
    /// Whose it is.
    pub subject: String,
    /// What was paid for it, in minor units.
    pub price: i64,
    /// Of which currency.
    pub currency: Currency,
    /// Which of its codes counts.
    pub serial: u32,
    /// When it was booked.
    pub booked_at: Timestamp,
    /// When somebody went in with it.
    pub checked_in_at: Option<Timestamp>,
    /// Where.
    pub gate: Option<String>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How it ended, where it is a ticket no more.
    pub ended: Option<Ended>,
    /// The event's title.
    pub event_name: String,
    /// When it begins.
    pub starts_at: Timestamp,
    /// Who sells it.
    pub organiser: String,
    /// The venue's name.
    pub venue: String,
    /// Its street and number.
    pub address: String,
    /// Its city.
    pub city: String,
    /// The name of its time zone.
    pub timezone: String,
}

/// How a booking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was given back, and its money.
    Refunded,
    /// It was passed on: this is what the owner before had.
    Transferred,
}

impl Ended {
    /// Nothing where it has not.
    fn from_stored(text: &str) -> Option<Self> {
        match text {
            "refunded" => Some(Self::Refunded),
            "transferred" => Some(Self::Transferred),
            _ => None,
        }
    }
}

#[derive(FromRow)]
struct BookingRow {
    ticket_id: Uuid,
    order_id: Uuid,
    subject: String,
    price: i64,
    currency: String,
    serial: i64,
    booked_at: i64,
    checked_in_at: Option<i64>,
    gate: Option<String>,
    updated_at: i64,
    ended: String,
    event_name: String,
    starts_at: i64,
    organiser: String,
    venue: String,
    address: String,
    city: String,
    timezone: String,
}

impl BookingRow {
    fn read(self) -> Result<Booking, Error> {
        let ticket = TicketId::from(self.ticket_id);
        let corrupt = |reason: String| Error::Corrupt { what: format!("the booking of ticket `{ticket}`"), reason };
        Ok(Booking {
            ticket,
            order: self.order_id.into(),
            subject: self.subject,
            price: self.price,
            currency: self.currency.parse().map_err(corrupt)?,
            serial: u32::try_from(self.serial).map_err(|_| corrupt(format!("serial {}", self.serial)))?,
            booked_at: Timestamp::from_micros(self.booked_at),
            checked_in_at: self.checked_in_at.map(Timestamp::from_micros),
            gate: self.gate,
            updated_at: Timestamp::from_micros(self.updated_at),
            ended: Ended::from_stored(&self.ended),
            event_name: self.event_name,
            starts_at: Timestamp::from_micros(self.starts_at),
            organiser: self.organiser,
            venue: self.venue,
            address: self.address,
            city: self.city,
            timezone: self.timezone,
        })
    }
}

/// Whose tickets are listed.
#[derive(Clone, Copy, Debug)]
pub enum TicketsOf<'a> {
    /// This person's.
    Owner(&'a str),
    /// Of this organiser's events.
    Organiser(&'a str),
    /// All.
    Everyone,
}

/// A page of the list of tickets, the one changed the longest ago first. With a moment given, those too that ended since.
#[derive(Clone, Copy, Debug)]
pub struct TicketsPage {
    /// Of this event only.
    pub event: Option<EventId>,
    /// What changed then or later.
    pub updated_since: Option<Timestamp>,
    /// Behind the ticket that was changed then.
    pub after: Option<(i64, TicketId)>,
    /// So many at most.
    pub limit: i64,
}

/// Who is on the list of an event's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorEntry {
    /// The ticket.
    pub ticket: TicketId,
    /// Which of its codes counts.
    pub serial: u32,
    /// When somebody went in with it.
    pub used_at: Option<Timestamp>,
    /// Where.
    pub gate: Option<String>,
}

/// A ticket shown at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which.
    pub ticket: TicketId,
    /// Of the code that was shown; none where only the ticket was named.
    pub serial: Option<u32>,
    /// The same for a repetition of the same request.
    pub request: Uuid,
    /// Who scanned it.
    pub by: Arc<str>,
    /// Where.
    pub gate: Option<String>,
    /// When it was scanned without a network; now where not set.
    pub at: Option<Timestamp>,
}

/// What the door may say of a ticket. Kept as JSON for who asks again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scanned {
    /// Come in. From now on it is used, since then.
    Valid(Timestamp),
    /// Somebody is in with it.
    AlreadyUsed {
        /// Since when.
        at: Timestamp,
        /// Where.
        gate: Option<String>,
    },
    /// It was given back.
    Refunded,
    /// There is a newer code for it.
    Replaced,
    /// Nobody ever had it.
    Unknown,
}

/// A ticket that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which.
    pub ticket: TicketId,
    /// By whom.
    pub from: Arc<str>,
    /// To whom.
    pub to: Arc<str>,
    /// The same for a repetition of the same request.
    pub request: Uuid,
    /// Under which key.
    pub asked: Option<Asked>,
}

/// What became of a [`Transfer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// It has a new owner, and a new code with this serial.
    Done(u32),
    /// They have no such ticket.
    NotFound,
    /// Somebody is in with it, since then.
    Used(Timestamp),
    /// The same request was made for somebody else.
    KeyReused,
}

/// A booking as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
struct State {
    ticket_id: Uuid,
    subject: String,
    serial: i64,
    checked_in_at: Option<i64>,
    checked_in_by: Option<String>,
    gate: Option<String>,
    check_in_request: Option<Uuid>,
    transfer_request: Option<Uuid>,
}

/// Of many scans at once one is the first.
const STATES: RowsSql = rows_sql!(
    "SELECT b.ticket_id, b.subject, b.serial, b.checked_in_at, b.checked_in_by, b.gate, b.check_in_request,
        b.transfer_request
     FROM " rows " JOIN bookings b ON b.ticket_id = " id(0) " ORDER BY b.ticket_id" locked("b")
);
/// The highest serial that a ticket had with owners who gave it back.
const PAST: RowsSql = rows_sql!(
    "SELECT p.ticket_id, MAX(p.serial) FROM " rows " JOIN past_bookings p ON p.ticket_id = " id(0) "
     WHERE p.reason = 'refunded' GROUP BY p.ticket_id"
);
/// What an owner had who passed it on, for lists by the time of the last change.
const PASSED_ON: RowsSql = rows_sql!(
    "INSERT INTO past_bookings (ticket_id, serial, event_id, order_id, subject, ended_at, reason, price, booked_at)
     SELECT b.ticket_id, b.serial, b.event_id, b.order_id, b.subject, " int(1) ", 'transferred', b.price, b.booked_at
     FROM " rows " JOIN bookings b ON b.ticket_id = " id(0)
);
const CHANGE: RowsSql = rows_sql!(
    "UPDATE bookings SET subject = " text(1) ", serial = " int(2) ", checked_in_at = " int(3) ", checked_in_by = " text(4) ",
        gate = " text(5) ", check_in_request = " id(6) ", transfer_request = " id(7) ", updated_at = " int(8) "
     FROM " rows " WHERE bookings.ticket_id = " id(0) " AND bookings.serial = " int(9)
);

/// Passes tickets on and lets them in, as if one after the other; first the transfers.
pub(super) async fn apply(
    tx: &mut Tx<'_>,
    transfers: &[&Transfer],
    scans: &[&Vec<Scan>],
) -> Result<(Vec<Transferred>, Vec<Vec<Scanned>>), sql::Error> {
    if transfers.is_empty() && scans.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let scanned = scans.iter().flat_map(|scans| scans.iter().map(|scan| scan.ticket));
    let ids = ids(transfers.iter().map(|transfer| transfer.ticket).chain(scanned));
    let before: Vec<State> = STATES.fetch(tx, ids.clone()).await?;
    let past: Vec<(Uuid, i64)> = if scans.is_empty() { Vec::new() } else { PAST.fetch(tx, ids).await? };
    let past: HashMap<Uuid, i64> = past.into_iter().collect();
    let now = tx.now().await?;
    let mut states: HashMap<Uuid, State> = before.iter().map(|state| (state.ticket_id, state.clone())).collect();

    let transferred = transfers.iter().map(|wish| transfer(states.get_mut(&wish.ticket.uuid()), wish)).collect();
    let mut look = |scan: &Scan| {
        let id = scan.ticket.uuid();
        check_in(states.get_mut(&id), past.get(&id).copied(), scan, now)
    };
    let scanned = scans.iter().map(|scans| scans.iter().map(&mut look).collect()).collect();

    let changed: Vec<(&State, i64)> = before
        .iter()
        .filter_map(|before| Some((states.get(&before.ticket_id)?, before)))
        .filter(|(after, before)| after != before)
        .map(|(after, before)| (after, before.serial))
        .collect();
    let mut passed_on = Json::array(transfers.len(), 60);
    for (before, after) in before.iter().filter_map(|before| Some((before, states.get(&before.ticket_id)?))) {
        if before.subject != after.subject {
            passed_on.row(|row| {
                row.id(before.ticket_id);
                row.number(now.micros());
            });
        }
    }
    let passed_on = passed_on.end();
    if passed_on != "[]" {
        PASSED_ON.execute(tx, passed_on).await?;
    }
    if !changed.is_empty() && CHANGE.execute(tx, rows(&changed, now)).await? != changed.len() as u64 {
        // The rows were locked. Whoever got in between did not go through here.
        return Err(sqlx::Error::Protocol("bookings changed under their lock".to_owned()).into());
    }
    Ok((transferred, scanned))
}

fn ids(tickets: impl Iterator<Item = TicketId>) -> String {
    let mut tickets: Vec<TicketId> = tickets.collect();
    tickets.sort_unstable();
    tickets.dedup();
    let mut json = Json::array(tickets.len(), 36);
    tickets.iter().for_each(|ticket| json.row(|row| row.id(ticket.uuid())));
    json.end()
}

fn rows(changed: &[(&State, i64)], now: Timestamp) -> String {
    let mut json = Json::array(changed.len(), 200);
    for (state, serial_before) in changed {
        json.row(|row| {
            row.id(state.ticket_id);
            row.text(&state.subject);
            row.number(state.serial);
            or_null(row, state.checked_in_at, Json::number);
            or_null(row, state.checked_in_by.as_deref(), Json::text);
            or_null(row, state.gate.as_deref(), Json::text);
            or_null(row, state.check_in_request, Json::id);
            or_null(row, state.transfer_request, Json::id);
            row.number(now.micros());
            row.number(*serial_before);
        });
    }
    json.end()
}

fn or_null<T>(row: &mut Json, value: Option<T>, write: impl FnOnce(&mut Json, T)) {
    match value {
        Some(value) => write(row, value),
        None => row.null(),
    }
}

fn transfer(state: Option<&mut State>, wish: &Transfer) -> Transferred {
    let Some(state) = state else { return Transferred::NotFound };
    if state.transfer_request == Some(wish.request) {
        let same = state.subject == *wish.to;
        return if same { Transferred::Done(state.serial as u32) } else { Transferred::KeyReused };
    }
    if state.subject != *wish.from {
        return Transferred::NotFound;
    }
    if let Some(at) = state.checked_in_at {
        return Transferred::Used(Timestamp::from_micros(at));
    }
    state.subject = wish.to.to_string();
    state.serial += 1;
    state.transfer_request = Some(wish.request);
    Transferred::Done(state.serial as u32)
}

/// `past` is the highest serial that owners had who gave the ticket back.
fn check_in(state: Option<&mut State>, past: Option<i64>, scan: &Scan, now: Timestamp) -> Scanned {
    let shown = scan.serial.map(i64::from);
    let Some(state) = state else {
        // A code that we signed was somebody's.
        return if shown.is_some() || past.is_some() { Scanned::Refunded } else { Scanned::Unknown };
    };
    if shown.is_some_and(|serial| serial != state.serial) {
        let given_back = shown <= past;
        return if given_back { Scanned::Refunded } else { Scanned::Replaced };
    }
    // A door's clock that runs ahead does not let anybody in tomorrow.
    let at = scan.at.map_or(now, |at| at.min(now));
    if let Some(used) = state.checked_in_at.map(Timestamp::from_micros) {
        // A door that has not heard our answer hands its scan in again, under another key.
        let handed_in = scan.at.is_some() && at == used && state.gate == scan.gate;
        let again = state.check_in_request == Some(scan.request)
            || (handed_in && state.checked_in_by.as_deref() == Some(&*scan.by));
        if again {
            return Scanned::Valid(used);
        }
        if at >= used {
            return Scanned::AlreadyUsed { at: used, gate: state.gate.clone() };
        }
    }
    state.checked_in_at = Some(at.micros());
    state.checked_in_by = Some(scan.by.to_string());
    state.gate.clone_from(&scan.gate);
    state.check_in_request = Some(scan.request);
    Scanned::Valid(at)
}

/// A `SELECT` of bookings with what stands on them.
macro_rules! bookings {
    ($rest:literal) => {
        concat!(
            "SELECT b.ticket_id, b.order_id, b.subject, b.price, e.currency, b.serial, b.booked_at, b.checked_in_at, b.gate,
                b.updated_at, '' AS ended, e.name AS event_name, e.starts_at, e.organiser, v.name AS venue, v.address, v.city, v.timezone
             FROM bookings b JOIN events e ON e.id = b.event_id JOIN venues v ON v.id = e.venue_id ",
            $rest
        )
    };
}

/// A page of a list of whose tickets these are. Those that ended are in lists since a moment only: the index of each of
/// the two tables gives no more than a page.
macro_rules! page_of {
    ($whose:literal, $past:literal) => {
        concat!(
            "SELECT * FROM (",
            bookings!(
                "WHERE (b.updated_at, b.ticket_id) > ($1, $2) AND b.updated_at >= $3 AND b.updated_at <= $8
                    AND b.ticket_id > $4 AND b.ticket_id <= $5 AND "
            ),
            $whose,
            " ORDER BY b.updated_at, b.ticket_id LIMIT $7) AS here UNION ALL SELECT * FROM (
             SELECT b.ticket_id, b.order_id, b.subject, b.price, e.currency, b.serial, b.booked_at, b.checked_in_at, b.gate,
                b.ended_at AS updated_at, b.reason AS ended, e.name AS event_name, e.starts_at, e.organiser,
                v.name AS venue, v.address, v.city, v.timezone
             FROM past_bookings b JOIN events e ON e.id = b.event_id JOIN venues v ON v.id = e.venue_id
             WHERE $9 AND (b.ended_at, b.ticket_id) > ($1, $2) AND b.ended_at >= $3 AND b.ended_at <= $8
                AND b.ticket_id > $4 AND b.ticket_id <= $5 AND ",
            $past,
            " ORDER BY b.ended_at, b.ticket_id LIMIT $7) AS past ORDER BY updated_at, ticket_id LIMIT $7"
        )
    };
}

impl Store {
    /// A booked ticket.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn find_booking(&self, ticket: TicketId) -> Result<Option<Booking>, Error> {
        const ONE: &str = bookings!("WHERE b.ticket_id = $1");
        let row: Option<BookingRow> =
            each_engine!(&self.db, |pool| { sqlx::query_as(ONE).bind(ticket.uuid()).fetch_optional(pool).await })
                .map_err(sql::Error::from)?;
        row.map(BookingRow::read).transpose()
    }

    /// The tickets that somebody has of an order, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn bookings_of(&self, order: &OrderRecord, owner: &str) -> Result<Vec<Booking>, Error> {
        const OF: &str = bookings!("WHERE b.order_id = $1 AND b.subject = $2 AND b.event_id = $3 ORDER BY b.ticket_id");
        let (id, event) = (order.id.uuid(), order.event.uuid());
        let rows: Vec<BookingRow> = each_engine!(&self.db, |pool| {
            sqlx::query_as(OF).bind(id).bind(owner).bind(event).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        rows.into_iter().map(BookingRow::read).collect()
    }

    /// A page of a list of tickets.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn list_bookings(&self, whose: TicketsOf<'_>, page: TicketsPage) -> Result<Vec<Booking>, Error> {
        const OWNED: &str = page_of!("b.subject = $6", "b.subject = $6");
        // To who sells it, a ticket that was passed on is the same one.
        const ORGANISED: &str = page_of!("e.organiser = $6", "e.organiser = $6 AND b.reason = 'refunded'");
        const ALL: &str = page_of!("$6 = ''", "$6 = '' AND b.reason = 'refunded'");
        let (list, subject) = match whose {
            TicketsOf::Owner(subject) => (OWNED, subject),
            TicketsOf::Organiser(subject) => (ORGANISED, subject),
            TicketsOf::Everyone => (ALL, ""),
        };
        let (at, id) = page.after.map_or((i64::MIN, Uuid::nil()), |(at, ticket)| (at, ticket.uuid()));
        let since = page.updated_since.map_or(i64::MIN, Timestamp::micros);
        let settled = self.db.settled_until().await?;
        let (above, up_to) = page.event.map_or((Uuid::nil(), Uuid::max()), tickets_of);
        let rows: Vec<BookingRow> = each_engine!(&self.db, |pool| {
            let list = sqlx::query_as(list).bind(at).bind(id).bind(since).bind(above).bind(up_to);
            let list = list.bind(subject).bind(page.limit).bind(settled).bind(page.updated_since.is_some());
            list.fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        rows.into_iter().map(BookingRow::read).collect()
    }

    /// Every booked ticket of an event, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn door_list(&self, event: EventId) -> Result<Vec<DoorEntry>, Error> {
        const LIST: &str = "SELECT ticket_id, serial, checked_in_at, gate FROM bookings
             WHERE ticket_id > $1 AND ticket_id <= $2 ORDER BY ticket_id";
        let (above, up_to) = tickets_of(event);
        let rows: Vec<(Uuid, i64, Option<i64>, Option<String>)> =
            each_engine!(&self.db, |pool| { sqlx::query_as(LIST).bind(above).bind(up_to).fetch_all(pool).await })
                .map_err(sql::Error::from)?;
        let entry = |(ticket, serial, used_at, gate): (Uuid, i64, Option<i64>, Option<String>)| {
            let ticket = TicketId::from(ticket);
            let corrupt = |_| Error::Corrupt {
                what: format!("the booking of ticket `{ticket}`"),
                reason: format!("serial {serial}"),
            };
            let serial = u32::try_from(serial).map_err(corrupt)?;
            Ok(DoorEntry { ticket, serial, used_at: used_at.map(Timestamp::from_micros), gate })
        };
        rows.into_iter().map(entry).collect()
    }

    /// Passes a ticket on.
    ///
    /// # Errors
    /// Those of the database. Refusals are part of the answer.
    pub async fn transfer(&self, transfer: Transfer) -> Result<Once<Transferred>, Error> {
        let transferred = |what| if let What::Transferred(transferred) = what { Some(transferred) } else { None };
        self.submit_once(Write::Transfer(transfer), transferred).await
    }

    /// Lets tickets in that are good for it: of many scans of a ticket, the earliest one. One answer each, in order.
    ///
    /// # Errors
    /// Those of the database. Refusals are part of the answer.
    pub async fn check_in(&self, asked: Option<Asked>, scans: Vec<Scan>) -> Result<Vec<Scanned>, Error> {
        let scanned = |what| if let What::CheckedIn(scanned) = what { Some(scanned) } else { None };
        match self.submit_once(Write::CheckIn(asked, scans), scanned).await? {
            Once::Now(scanned) => Ok(scanned),
            Once::Before(answered) => answered.read(),
        }
    }
}

/// Ids of an event's tickets lie above the first and up to the second.
fn tickets_of(event: EventId) -> (Uuid, Uuid) {
    (event.uuid(), Uuid::from_u128(event.uuid().as_u128() | u128::from(u32::MAX)))
}
