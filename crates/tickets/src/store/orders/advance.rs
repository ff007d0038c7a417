//! News of orders: what the domain makes of them, written with all that follows for seats, holds and attempts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::super::answers::Asked;
use super::super::batch::Changes;
use super::super::holds;
use super::super::promos;
use super::super::seats;
use super::{ATTEMPTS, Action, Attempt, AttemptRow, OpenOrder, OrderRecord, ids, read, read_again, read_attempts};
use crate::domain::ids::{AttemptId, OrderId, PromoId, TicketId};
use crate::domain::order::{Event, Refusal, Seen, State};
use crate::payment::PaymentRef;
use crate::seats::{Change, ChangeTo};

/// News of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Which.
    pub order: OrderId,
    /// The order as it was read or written at some time before, where that is at hand: what never changes of it need not
    /// be read.
    pub known: Option<Arc<OrderRecord>>,
    /// What happened, in this order. [`Event::Book`] comes last, and becomes [`Event::SeatsGone`] where a seat has gone.
    pub events: Vec<Event>,
    /// Tickets that go back to sale, their money to the buyer.
    pub returns: Option<Return>,
    /// The payment, where it became known.
    pub payment: Option<PaymentRef>,
    /// An attempt that has ended, and whether it did what it was to do.
    pub ended: Option<(AttemptId, bool)>,
    /// An attempt at a refund that was done, and whose money came back since.
    pub undone: Option<AttemptId>,
    /// The id of the attempt that is stored, if one is due after this and none is open.
    pub fresh: AttemptId,
    /// Whether claims are kept in this database: then a booking needs its claim to be there under its token.
    pub claims_here: bool,
    /// Under which key, where somebody asked for it.
    pub asked: Option<Asked>,
}

/// Tickets that go back to sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// These; all of the order where not set.
    pub tickets: Option<Vec<TicketId>>,
    /// Only if they are this subject's; anybody's where not set.
    pub only_of: Option<Arc<str>>,
    /// Those too that somebody went in with.
    pub used_too: bool,
}

/// What became of the news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The order after it, and its open attempts.
    pub open: OpenOrder,
    /// Whether anything has changed.
    pub changed: bool,
    /// The first event that could not be; those after it were left out.
    pub refused: Option<Refusal>,
    /// A ticket that cannot go back.
    pub unreturnable: Option<(TicketId, Unreturnable)>,
    /// Tickets that are for sale again, but for the claim that they were bought under.
    pub freed: Vec<TicketId>,
    /// Its tickets, where this has booked them.
    pub booked: Option<Booked>,
}

/// Tickets that were booked by a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Which, in the order of their ids, and which of their codes counts.
    pub serials: Vec<(TicketId, u32)>,
}

/// Why a ticket cannot go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreturnable {
    /// It is not, or no longer, of this order.
    NotThere,
    /// Its owner is another.
    NotYours,
    /// Somebody went in with it.
    CheckedIn,
}

/// A booking, as far as a return needs it.
struct Booking {
    ticket: TicketId,
    subject: String,
    price: i64,
    checked_in: bool,
}

/// What a batch writes.
#[derive(Default)]
struct Plan {
    /// To be booked: ticket to order, in the order of ids.
    booked: BTreeMap<Uuid, OrderId>,
    /// The serials of those that were written.
    serials: HashMap<Uuid, i64>,
    /// Orders as they were before they were booked.
    before_booking: HashMap<OrderId, OrderRecord>,
    /// Tickets that go back to sale.
    freed: Vec<TicketId>,
    changed: HashSet<OrderId>,
    /// Those of them of which more changed than where they stand: their payment, or why they came to nothing.
    told: HashSet<OrderId>,
    /// Orders that paid for their holds before.
    paid_holds: HashSet<OrderId>,
    ended: Vec<(AttemptId, bool)>,
    /// Refunds that were taken for done until now, and how much each was of.
    undone: HashMap<AttemptId, i64>,
    added: Vec<(OrderId, u32, Attempt)>,
    /// Promotion codes of orders that came to nothing.
    unused: Vec<PromoId>,
}

impl Plan {
    /// An order that has come to nothing gives its promotion code back.
    fn note_unused(&mut self, before: &OrderRecord, after: &OrderRecord) {
        let nothing = |order: &OrderRecord| matches!(order.money.state, State::Failed | State::Voided);
        if nothing(after) && !nothing(before) {
            self.unused.extend(after.promo);
        }
    }
}

/// Applies all of the news in their order. `None` where there is no such order.
pub async fn advance(
    tx: &mut Tx<'_>,
    news: &[&Advance],
    changes: &mut Changes,
) -> Result<Vec<Option<Advanced>>, sql::Error> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted: Vec<OrderId> = news.iter().map(|news| news.order).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let now = tx.now().await?;
    let known = news.iter().filter_map(|news| news.known.as_deref().filter(|known| known.id == news.order));
    let known: HashMap<OrderId, OrderRecord> = known.map(|known| (known.id, known.clone())).collect();
    let unknown: Vec<OrderId> = wanted.iter().copied().filter(|id| !known.contains_key(id)).collect();
    let mut orders = read_again(tx, known).await?;
    orders.extend(read(tx, &unknown).await?);
    let rows: Vec<AttemptRow> = ATTEMPTS.fetch(tx, ids(&wanted)).await?;
    let mut attempts = read_attempts(rows);
    let mut gone = gone(tx, news, &orders).await?;
    let mut bookings = bookings(tx, news, &orders).await?;
    let paying = orders.values().filter(|order| order.money.state.pays_hold()).map(|order| order.id);
    let undone = undo(tx, news, now).await?;
    let mut plan = Plan { paid_holds: paying.collect(), undone, ..Plan::default() };
    let mut results = Vec::with_capacity(news.len());
    for news in news {
        let Some(order) = orders.get_mut(&news.order) else {
            results.push(None);
            continue;
        };
        let before = order.clone();
        let of_order = bookings.entry(news.order).or_default();
        let result = apply(order, &before, news, of_order, &mut gone, &mut plan, now);
        let open = attempts.entry(news.order).or_default();
        keep_attempts(order, &before, open, news, &mut plan, now);
        results.push(Some(result));
    }
    let losers = book(tx, &orders, &mut plan, now).await?;
    for id in losers {
        lose_seats(id, &mut orders, &mut attempts, &mut plan, now);
    }
    write(tx, &orders, &plan, changes, now).await?;
    promos::give_back(tx, &plan.unused).await?;
    let booked = booked(&plan, now);
    let advanced = |(news, result): (&&Advance, Option<Outcome>)| {
        let Outcome { changed, refused, unreturnable, freed } = result?;
        let order = orders.get(&news.order)?.clone();
        let attempts = attempts.get(&news.order).cloned().unwrap_or_default();
        let open = OpenOrder { order, attempts, read_at: now };
        Some(Advanced { open, changed, refused, unreturnable, freed, booked: booked.get(&news.order).cloned() })
    };
    Ok(news.iter().zip(results).map(advanced).collect())
}

/// What was booked, by order.
fn booked(plan: &Plan, now: Timestamp) -> HashMap<OrderId, Booked> {
    let mut booked: HashMap<OrderId, Booked> = HashMap::new();
    for (ticket, order) in &plan.booked {
        // It is counted up from 1, and a seat is not sold as often as would not fit.
        let Some(serial) = plan.serials.get(ticket).and_then(|serial| u32::try_from(*serial).ok()) else { continue };
        let of_order = booked.entry(*order).or_insert_with(|| Booked { at: now, serials: Vec::new() });
        of_order.serials.push((TicketId::from(*ticket), serial));
    }
    booked
}

/// What one piece of news has come to; see [`Advanced`].
#[derive(Default)]
struct Outcome {
    changed: bool,
    refused: Option<Refusal>,
    unreturnable: Option<(TicketId, Unreturnable)>,
    freed: Vec<TicketId>,
}

/// What one piece of news makes of its order, in memory.
fn apply(
    order: &mut OrderRecord,
    before: &OrderRecord,
    news: &Advance,
    bookings: &mut Vec<Booking>,
    gone: &mut HashSet<(OrderId, TicketId)>,
    plan: &mut Plan,
    now: Timestamp,
) -> Outcome {
    let mut events = news.events.clone();
    let undone = news.undone.and_then(|attempt| plan.undone.get(&attempt));
    events.extend(undone.map(|amount| Event::RefundFailed { amount: *amount }));
    let mut returned: Vec<TicketId> = Vec::new();
    if let Some(wish) = &news.returns {
        match returnable(wish, bookings) {
            Ok(tickets) => {
                let prices = bookings.iter().filter(|booking| tickets.contains(&booking.ticket));
                // With the last of its tickets goes all that it keeps, which is less where some was given back at the provider.
                let amount = match tickets.len() == bookings.len() {
                    true => order.money.keep,
                    false => prices.map(|booking| booking.price).sum(),
                };
                events.push(Event::Refund { amount });
                returned = tickets;
            }
            Err(unreturnable) => return Outcome { unreturnable: Some(unreturnable), ..Outcome::default() },
        }
    }
    if let Some(payment) = &news.payment {
        order.payment.get_or_insert_with(|| payment.clone());
        order.money.arrived = true;
    }
    let mut refused = None;
    for event in &events {
        let tickets = || order.seats.iter().map(|priced| TicketId::new(order.event, priced.seat));
        let is_gone = || tickets().any(|ticket| gone.contains(&(order.id, ticket)) || taken(plan, order.id, ticket));
        let event = match event {
            Event::Book if order.money.state == State::Authorised && is_gone() => &Event::SeatsGone,
            event => event,
        };
        match order.money.after(event, now) {
            Ok(Some(next)) => {
                if *event == Event::Book {
                    plan.before_booking.insert(order.id, order.clone());
                    plan.booked.extend(tickets().map(|ticket| (ticket.uuid(), order.id)));
                }
                order.money = next;
            }
            Ok(None) => {}
            Err(refusal) => {
                refused = Some(refusal);
                returned.clear();
                break;
            }
        }
    }
    if before.money.has_seats() && !order.money.has_seats() {
        // All that is left of it goes back to sale.
        returned = bookings.iter().map(|booking| booking.ticket).collect();
    }
    bookings.retain(|booking| !returned.contains(&booking.ticket));
    plan.freed.extend(&returned);
    plan.note_unused(before, order);
    if *order != *before {
        order.updated_at = now;
        plan.changed.insert(order.id);
    }
    if order.payment != before.payment || order.money.failure != before.money.failure {
        plan.told.insert(order.id);
    }
    Outcome { changed: *order != *before, refused, unreturnable: None, freed: returned }
}

/// Whether an order of this batch has just taken the ticket.
fn taken(plan: &Plan, order: OrderId, ticket: TicketId) -> bool {
    plan.booked.get(&ticket.uuid()).is_some_and(|taken_by| *taken_by != order)
}

fn returnable(wish: &Return, bookings: &[Booking]) -> Result<Vec<TicketId>, (TicketId, Unreturnable)> {
    let all = || bookings.iter().map(|booking| booking.ticket).collect();
    let mut tickets: Vec<TicketId> = wish.tickets.clone().unwrap_or_else(all);
    tickets.sort_unstable();
    tickets.dedup();
    for ticket in &tickets {
        let booking = bookings.iter().find(|booking| booking.ticket == *ticket);
        let booking = booking.ok_or((*ticket, Unreturnable::NotThere))?;
        if wish.only_of.as_ref().is_some_and(|subject| **subject != *booking.subject) {
            return Err((*ticket, Unreturnable::NotYours));
        }
        if booking.checked_in && !wish.used_too {
            return Err((*ticket, Unreturnable::CheckedIn));
        }
    }
    Ok(tickets)
}

/// Ends what has ended, and stores the attempt that is due next, if none is open.
fn keep_attempts(
    order: &mut OrderRecord,
    before: &OrderRecord,
    open: &mut Vec<Attempt>,
    news: &Advance,
    plan: &mut Plan,
    now: Timestamp,
) {
    if let Some((ended, well)) = news.ended
        && open.iter().any(|attempt| attempt.id == ended)
    {
        open.retain(|attempt| attempt.id != ended);
        plan.ended.push((ended, well));
    }
    let authorised = before.money.state == State::Paying && order.money.state != State::Paying;
    let unneeded = |attempt: &Attempt| match attempt.action {
        // Kept until the provider is known to have it or not: it is what the payment is looked up by.
        Action::Authorise => order.money.state.is_settled() || (authorised && order.payment.is_some()),
        Action::Capture => order.money.state != State::Booked,
        Action::Void | Action::Refund => order.money.state != State::RefundDue,
    };
    for attempt in open.extract_if(.., |attempt| unneeded(attempt)) {
        plan.ended.push((attempt.id, order.money.state != State::Failed));
    }
    let Some((action, amount)) = Action::of(order.money.duty(), order.money.total) else { return };
    if !open.iter().any(|attempt| attempt.action == action) {
        order.attempts += 1;
        let attempt = Attempt { id: news.fresh, action, amount, began_at: now };
        plan.added.push((order.id, order.attempts, attempt.clone()));
        plan.changed.insert(order.id);
        open.push(attempt);
    }
}

/// On PostgreSQL, so that news of an order are taken one after the other. Gives the tickets whose claims must stay as they
/// are: those to be booked under them, which nobody else may hold between our look and our commit.
pub async fn lock(tx: &mut Tx<'_>, news: &[&Advance]) -> Result<Vec<Uuid>, sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(Vec::new()) };
    if news.is_empty() {
        return Ok(Vec::new());
    }
    const LOCK: &str = "SELECT id, event_id, seats FROM orders WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let ids: Vec<Uuid> = news.iter().map(|news| news.order.uuid()).collect();
    let rows: Vec<(Uuid, Uuid, Vec<u8>)> = sqlx::query_as(LOCK).bind(ids).fetch_all(&mut **transaction).await?;
    let booking = news.iter().filter(|news| news.claims_here && news.events.contains(&Event::Book));
    let booking: HashSet<Uuid> = booking.map(|news| news.order.uuid()).collect();
    let mut kept = Vec::new();
    for (id, event, seats) in rows.into_iter().filter(|(id, ..)| booking.contains(id)) {
        let seats = seats::decode(&seats, || format!("order `{}`", OrderId::from(id)));
        let seats = seats.map_err(|error| sqlx::Error::Decode(error.into()))?;
        kept.extend(holds::tickets(event.into(), &seats));
    }
    Ok(kept)
}

/// Takes back that refunds were done; gives how much each was of. One that was taken back before is left as it is.
async fn undo(tx: &mut Tx<'_>, news: &[&Advance], now: Timestamp) -> Result<HashMap<AttemptId, i64>, sql::Error> {
    const UNDONE: RowsSql = rows_sql!(
        "UPDATE payment_attempts SET state = 'failed', updated_at = " int(2) " FROM " rows "
         WHERE payment_attempts.id = " id(0) " AND payment_attempts.order_id = " id(1) "
            AND payment_attempts.action = 'refund' AND payment_attempts.state = 'succeeded'
         RETURNING payment_attempts.id, payment_attempts.amount"
    );
    let mut rows = Json::array(0, 0);
    for (attempt, order) in news.iter().filter_map(|news| Some((news.undone?, news.order))) {
        rows.row(|row| {
            row.id(attempt.uuid());
            row.id(order.uuid());
            row.number(now.micros());
        });
    }
    let rows = rows.end();
    if rows == "[]" {
        return Ok(HashMap::new());
    }
    let undone: Vec<(Uuid, i64)> = UNDONE.fetch(tx, rows).await?;
    Ok(undone.into_iter().map(|(attempt, amount)| (attempt.into(), amount)).collect())
}

/// Seats of orders to be booked that somebody has, or whose claim is not theirs any more.
async fn gone(
    tx: &mut Tx<'_>,
    news: &[&Advance],
    orders: &HashMap<OrderId, OrderRecord>,
) -> Result<HashSet<(OrderId, TicketId)>, sql::Error> {
    const GONE: RowsSql = rows_sql!(
        "SELECT " id(1) ", " id(0) " FROM " rows "
         WHERE EXISTS (SELECT 1 FROM bookings b WHERE b.ticket_id = " id(0) " AND b.order_id <> " id(1) ")
            OR (" int(3) " = 1 AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.id = " id(0) " AND c.token = " int(2) "))"
    );
    let booking = news.iter().filter(|news| news.events.contains(&Event::Book));
    let booking = booking.filter_map(|news| Some((orders.get(&news.order)?, news.claims_here)));
    let mut rows = Json::array(news.len(), 90);
    for (order, claims_here) in booking {
        for id in holds::tickets(order.event, &order.seats) {
            rows.row(|row| {
                row.id(id);
                row.id(order.id.uuid());
                row.number(order.token);
                row.number(i64::from(claims_here));
            });
        }
    }
    let rows = rows.end();
    if rows == "[]" {
        return Ok(HashSet::new());
    }
    let gone: Vec<(Uuid, Uuid)> = GONE.fetch(tx, rows).await?;
    Ok(gone.into_iter().map(|(order, ticket)| (order.into(), ticket.into())).collect())
}

/// Whether it may take seats that are booked.
fn may_return(news: &Advance) -> bool {
    let takes = |event: &Event| match event {
        Event::Refund { .. } | Event::Seen(Seen::Voided) => true,
        Event::Seen(Seen::Captured { refunded, .. }) => *refunded > 0,
        // What was not booked has no seats; see [`crate::domain::order::Order::after`].
        Event::Book | Event::SeatsGone | Event::GiveUp | Event::RefundFailed { .. } | Event::Seen(_) => false,
    };
    news.returns.is_some() || news.events.iter().any(takes)
}

/// The bookings of orders that may give some back. On PostgreSQL they are locked, in their order: nobody passes on or goes in
/// with a ticket that is just going back.
async fn bookings(
    tx: &mut Tx<'_>,
    news: &[&Advance],
    orders: &HashMap<OrderId, OrderRecord>,
) -> Result<HashMap<OrderId, Vec<Booking>>, sql::Error> {
    const OF_ORDERS: RowsSql = rows_sql!(
        "SELECT b.order_id, b.ticket_id, b.subject, b.price, b.checked_in_at
         FROM " rows " JOIN bookings b ON b.ticket_id = " id(0) " AND b.order_id = " id(1) " ORDER BY b.ticket_id" locked("b")
    );
    type Row = (Uuid, Uuid, String, i64, Option<i64>);
    let returning: HashSet<OrderId> = news.iter().filter(|news| may_return(news)).map(|news| news.order).collect();
    let mut bookings: HashMap<OrderId, Vec<Booking>> = HashMap::new();
    if returning.is_empty() {
        return Ok(bookings);
    }
    let mut sold = Json::array(returning.len(), 80);
    for order in returning.iter().filter_map(|id| orders.get(id)) {
        for ticket in holds::tickets(order.event, &order.seats) {
            sold.row(|row| {
                row.id(ticket);
                row.id(order.id.uuid());
            });
        }
    }
    let rows: Vec<Row> = OF_ORDERS.fetch(tx, sold.end()).await?;
    for (order, ticket, subject, price, checked_in_at) in rows {
        let booking = Booking { ticket: ticket.into(), subject, price, checked_in: checked_in_at.is_some() };
        bookings.entry(order.into()).or_default().push(booking);
    }
    Ok(bookings)
}

/// Writes the bookings, and gives the orders that did not get all of theirs; those have none of them.
async fn book(
    tx: &mut Tx<'_>,
    orders: &HashMap<OrderId, OrderRecord>,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Vec<OrderId>, sql::Error> {
    // A seat that is sold again has a serial above all that it had before: no old code opens the door.
    const ADD: RowsSql = rows_sql!(
        "INSERT INTO bookings (ticket_id, event_id, order_id, subject, token, price, serial, booked_at, updated_at)
         SELECT " id(0) ", " id(1) ", " id(2) ", " text(3) ", " int(4) ", " int(5) ",
            1 + COALESCE((SELECT MAX(p.serial) FROM past_bookings p WHERE p.ticket_id = " id(0) "), 0), "
            int(6) ", " int(6) "
         FROM " rows " WHERE TRUE ORDER BY " id(0) " ON CONFLICT (ticket_id) DO NOTHING RETURNING ticket_id, serial"
    );
    const REMOVE: RowsSql = rows_sql!("DELETE FROM bookings WHERE ticket_id IN (SELECT " id(0) " FROM " rows ")");
    const BOOKED: RowsSql = rows_sql!(
        "UPDATE holds SET state = 'booked', updated_at = " int(1) " FROM " rows " WHERE holds.id = " id(0)
    );
    if plan.booked.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Json::array(plan.booked.len(), 180);
    for (ticket, id) in &plan.booked {
        let Some(order) = orders.get(id) else { continue };
        let seat = TicketId::from(*ticket).seat();
        let price = order.seats.iter().find(|priced| Some(priced.seat) == seat).map_or(0, |priced| priced.price);
        rows.row(|row| {
            row.id(*ticket);
            row.id(order.event.uuid());
            row.id(id.uuid());
            row.text(&order.subject);
            row.number(order.token);
            row.number(price);
            row.number(now.micros());
        });
    }
    let written: Vec<(Uuid, i64)> = ADD.fetch(tx, rows.end()).await?;
    plan.serials = written.into_iter().collect();
    let missing = plan.booked.iter().filter(|(ticket, _)| !plan.serials.contains_key(*ticket)).map(|(_, order)| *order);
    let losers: HashSet<OrderId> = missing.collect();
    if !losers.is_empty() {
        let theirs = plan.booked.iter().filter(|(_, order)| losers.contains(*order)).map(|(ticket, _)| ticket);
        let written = theirs.filter(|ticket| plan.serials.contains_key(*ticket));
        let mut rows = Json::array(losers.len(), 36);
        written.for_each(|ticket| rows.row(|row| row.id(*ticket)));
        REMOVE.execute(tx, rows.end()).await?;
        plan.booked.retain(|_, order| !losers.contains(order));
    }
    let winners: HashSet<OrderId> = plan.booked.values().copied().collect();
    let mut rows = Json::array(winners.len(), 60);
    for order in winners.iter().filter_map(|id| orders.get(id)) {
        rows.row(|row| {
            row.id(order.hold.uuid());
            row.number(now.micros());
        });
    }
    if !winners.is_empty() {
        BOOKED.execute(tx, rows.end()).await?;
    }
    Ok(losers.into_iter().collect())
}

/// An order that another transaction was faster than: as if it had been told before it was booked.
fn lose_seats(
    id: OrderId,
    orders: &mut HashMap<OrderId, OrderRecord>,
    attempts: &mut HashMap<OrderId, Vec<Attempt>>,
    plan: &mut Plan,
    now: Timestamp,
) {
    let (Some(order), Some(mut before)) = (orders.get_mut(&id), plan.before_booking.remove(&id)) else { return };
    if let Ok(Some(lost)) = before.money.after(&Event::SeatsGone, now) {
        before.money = lost;
        before.updated_at = now;
        before.attempts = order.attempts;
        plan.note_unused(order, &before);
        plan.told.insert(id);
        *order = before;
    }
    // The attempt that was to capture lets go instead.
    let due = Action::of(order.money.duty(), order.money.total);
    let added = plan.added.iter_mut().filter(|(of, _, _)| *of == id).map(|(_, _, attempt)| attempt);
    let open = attempts.get_mut(&id).into_iter().flatten();
    for attempt in added.chain(open).filter(|attempt| attempt.action == Action::Capture) {
        if let Some((action, amount)) = due {
            (attempt.action, attempt.amount) = (action, amount);
        }
    }
}

async fn write(
    tx: &mut Tx<'_>,
    orders: &HashMap<OrderId, OrderRecord>,
    plan: &Plan,
    changes: &mut Changes,
    now: Timestamp,
) -> Result<(), sql::Error> {
    // What an update of SQLite names is written into its indexes again, also where it stays the same.
    const STANDING: RowsSql = rows_sql!(
        "UPDATE orders SET state = " text(1) ", keep = " int(2) ", captured = " int(3) ", refunded = " int(4) ",
            attempt = " int(5) ", updated_at = " int(6) "
         FROM " rows " WHERE orders.id = " id(0)
    );
    const TOLD: RowsSql = rows_sql!(
        "UPDATE orders SET state = " text(1) ", keep = " int(2) ", captured = " int(3) ", refunded = " int(4) ",
            attempt = " int(5) ", updated_at = " int(6) ", payment_ref = " text(7) ", failure_code = " text(8) ",
            failure_detail = " text(9) "
         FROM " rows " WHERE orders.id = " id(0)
    );
    const LEFT_HOLD: RowsSql =
        rows_sql!("UPDATE orders SET left_hold = " int(1) " FROM " rows " WHERE orders.id = " id(0));
    const ENDED: RowsSql = rows_sql!(
        "UPDATE payment_attempts SET state = " text(1) ", updated_at = " int(2) " FROM " rows "
         WHERE payment_attempts.id = " id(0)
    );
    const ADDED: RowsSql = rows_sql!(
        "INSERT INTO payment_attempts (id, order_id, number, action, amount, state, created_at, updated_at)
         SELECT " id(0) ", " id(1) ", " int(2) ", " text(3) ", " int(4) ", 'started', " int(5) ", " int(5) "
         FROM " rows " WHERE TRUE"
    );
    const PAST: RowsSql = rows_sql!(
        "INSERT INTO past_bookings (ticket_id, serial, event_id, order_id, subject, ended_at, reason, price, booked_at,
            checked_in_at, gate)
         SELECT b.ticket_id, b.serial, b.event_id, b.order_id, b.subject, " int(1) ", 'refunded', b.price, b.booked_at,
            b.checked_in_at, b.gate
         FROM " rows " JOIN bookings b ON b.ticket_id = " id(0)
    );
    const FREED: RowsSql = rows_sql!("DELETE FROM bookings WHERE ticket_id IN (SELECT " id(0) " FROM " rows ")");
    let mut rows = [
        (PAST, Json::array(plan.freed.len(), 60)),
        (FREED, Json::array(plan.freed.len(), 36)),
        (STANDING, Json::array(plan.changed.len(), 110)),
        (TOLD, Json::array(plan.told.len(), 200)),
        (LEFT_HOLD, Json::array(0, 0)),
        (ENDED, Json::array(plan.ended.len(), 70)),
        (ADDED, Json::array(plan.added.len(), 120)),
    ];
    // On PostgreSQL a trigger says it, for older processes too.
    let says_left_hold = matches!(tx, Tx::Sqlite { .. });
    let [(_, past), (_, freed), (_, standing), (_, told), (_, left_hold), (_, ended), (_, added)] = &mut rows;
    for ticket in &plan.freed {
        freed.row(|row| row.id(ticket.uuid()));
        past.row(|row| {
            row.id(ticket.uuid());
            row.number(now.micros());
        });
    }
    for order in plan.changed.iter().filter_map(|id| orders.get(id)) {
        if plan.told.contains(&order.id) {
            told.row(|row| fill_told(row, order));
        } else {
            standing.row(|row| fill(row, order));
        }
        let pays_hold = order.money.state.pays_hold();
        if says_left_hold && pays_hold != plan.paid_holds.contains(&order.id) {
            left_hold.row(|row| {
                row.id(order.id.uuid());
                if pays_hold { row.null() } else { row.number(1) }
            });
        }
    }
    for (id, well) in &plan.ended {
        ended.row(|row| {
            row.id(id.uuid());
            row.text(if *well { "succeeded" } else { "failed" });
            row.number(now.micros());
        });
    }
    for (order, number, attempt) in &plan.added {
        added.row(|row| {
            row.id(attempt.id.uuid());
            row.id(order.uuid());
            row.number(i64::from(*number));
            row.text(attempt.action.as_str());
            row.number(attempt.amount);
            row.number(now.micros());
        });
    }
    for (sql, rows) in rows {
        let rows = rows.end();
        if rows != "[]" {
            sql.execute(tx, rows).await?;
        }
    }
    let freed = plan.freed.iter().map(|ticket| (*ticket, ChangeTo::Free));
    let booked = plan.booked.keys().map(|ticket| (TicketId::from(*ticket), ChangeTo::Booked));
    for (ticket, to) in freed.chain(booked) {
        let seat = ticket.seat().map(|seat| Change { seat, to });
        changes.entry(ticket.event()).or_default().extend(seat);
    }
    Ok(())
}

fn fill(row: &mut Json, order: &OrderRecord) {
    row.id(order.id.uuid());
    row.text(order.money.state.as_str());
    [order.money.keep, order.money.captured, order.money.refunded].into_iter().for_each(|amount| row.number(amount));
    row.number(i64::from(order.attempts));
    row.number(order.updated_at.micros());
}

fn fill_told(row: &mut Json, order: &OrderRecord) {
    let text = |row: &mut Json, text: Option<&str>| match text {
        Some(text) => row.text(text),
        None => row.null(),
    };
    fill(row, order);
    text(row, order.payment.as_ref().map(PaymentRef::as_str));
    text(row, order.money.failure.as_ref().map(|failure| failure.code.as_str()));
    text(row, order.money.failure.as_ref().map(|failure| failure.detail.as_str()));
}
