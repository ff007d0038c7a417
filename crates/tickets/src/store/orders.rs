//! Orders, their attempts at moving money, and the bookings that come of them.
//!
//! What becomes of an order is decided by [`domain::order`](crate::domain::order) on the row as it is in the transaction;
//! this room reads and writes around it. An attempt is stored before the provider is called with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::{Currency, Money, Timestamp};
use tessera_store::each_engine;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::answers::Once;
use super::batch::{What, Write};
use super::seats::{self, PricedSeat};
use super::{Listed, Store, unexpected};
use crate::Error;
use crate::domain::ids::{AttemptId, EventId, HoldId, OrderId, PromoId};
use crate::domain::order::{self, Duty, Failure};
use crate::payment::PaymentRef;

mod advance;
mod begin;

pub use advance::{Advance, Advanced, Booked, Return, Unreturnable};
pub(super) use advance::{advance, lock};
pub use begin::{Begun, NewOrder};
pub(super) use begin::{after_claims, before_claims};

/// An order as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// Its id.
    pub id: OrderId,
    /// Of which event.
    pub event: EventId,
    /// Who buys.
    pub subject: Arc<str>,
    /// The hold that it is made from.
    pub hold: HoldId,
    /// The token of that hold's claim.
    pub token: i64,
    /// The seats and what is paid for each, in ascending order.
    pub seats: Vec<PricedSeat>,
    /// Of all its amounts.
    pub currency: Currency,
    /// The promotion code that it was made with.
    pub promo: Option<PromoId>,
    /// Where it stands.
    pub money: order::Order,
    /// The provider's name.
    pub provider: String,
    /// The provider's name of the payment.
    pub payment: Option<PaymentRef>,
    /// How many attempts there were at moving its money.
    pub attempts: u32,
    /// Of the request.
    pub request_hash: [u8; 16],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl OrderRecord {
    /// What it costs.
    pub fn total(&self) -> Money {
        Money::new(self.money.total, self.currency)
    }
}

/// Whose orders are listed.
#[derive(Clone, Copy, Debug)]
pub enum OrdersOf<'a> {
    /// Those that somebody made.
    Buyer(&'a str),
    /// Those for somebody's events.
    Organiser(&'a str),
    /// All.
    Everyone,
}

/// In which order things are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InOrder {
    /// The one changed the longest ago first: for who follows along.
    #[default]
    OfChange,
    /// The newest first: for people.
    NewestFirst,
}

/// An order that has something left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// When it last changed.
    pub since: Timestamp,
    /// Which.
    pub order: OrderId,
}

/// What an attempt is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Setting money aside.
    Authorise,
    /// Taking it.
    Capture,
    /// Letting go of it.
    Void,
    /// Returning some.
    Refund,
}

impl Action {
    const ALL: [Self; 4] = [Self::Authorise, Self::Capture, Self::Void, Self::Refund];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }

    /// The attempt that a duty needs, and its amount.
    fn of(duty: Duty, total: i64) -> Option<(Self, i64)> {
        match duty {
            // An order of nothing moves no money.
            _ if total == 0 => None,
            Duty::Nothing | Duty::LookUp | Duty::Book => None,
            Duty::Capture => Some((Self::Capture, total)),
            Duty::Void => Some((Self::Void, total)),
            Duty::Refund(amount) => Some((Self::Refund, amount)),
        }
    }
}

/// An attempt that is not known to have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id: the idempotency key.
    pub id: AttemptId,
    /// At what.
    pub action: Action,
    /// How much, minor units of the order's currency.
    pub amount: i64,
    /// When it was stored, by the database's clock.
    pub began_at: Timestamp,
}

/// An order with its open attempts, as of one moment of the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    /// The order.
    pub order: OrderRecord,
    /// Its open attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// When it was read: before anything that is asked of the provider after.
    pub read_at: Timestamp,
}

impl OpenOrder {
    /// The open attempt at something.
    pub fn attempt(&self, action: Action) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.action == action)
    }
}

/// What changes of an order.
#[derive(FromRow)]
struct StandingRow {
    id: Uuid,
    state: String,
    keep: i64,
    captured: i64,
    refunded: i64,
    attempt: i64,
    payment_ref: Option<String>,
    failure_code: Option<String>,
    failure_detail: Option<String>,
    updated_at: i64,
}

impl StandingRow {
    /// The order as it stands, from what it was at some time before.
    fn of(self, before: OrderRecord) -> Result<OrderRecord, Error> {
        let id = before.id;
        let corrupt = |reason: String| Error::Corrupt { what: format!("order `{id}`"), reason };
        let state = order::State::from_stored(&self.state);
        let money = order::Order {
            state: state.ok_or_else(|| corrupt(format!("state `{}`", self.state)))?,
            total: before.money.total,
            keep: self.keep,
            captured: self.captured,
            refunded: self.refunded,
            book_before: before.money.book_before,
            arrived: self.payment_ref.is_some(),
            failure: self.failure_code.map(|code| Failure { code, detail: self.failure_detail.unwrap_or_default() }),
        };
        if !money.is_sound() {
            return Err(corrupt(format!("its money does not add up: {money:?}")));
        }
        Ok(OrderRecord {
            money,
            payment: self.payment_ref.map(PaymentRef::new),
            attempts: u32::try_from(self.attempt).map_err(|_| corrupt("its attempts are negative".into()))?,
            updated_at: Timestamp::from_micros(self.updated_at),
            ..before
        })
    }
}

#[derive(FromRow)]
struct OrderRow {
    #[sqlx(flatten)]
    standing: StandingRow,
    event_id: Uuid,
    subject: String,
    hold_id: Uuid,
    token: i64,
    seats: Vec<u8>,
    currency: String,
    total: i64,
    promo_code_id: Option<Uuid>,
    book_before: i64,
    provider: String,
    request_hash: Vec<u8>,
    created_at: i64,
}

impl OrderRow {
    fn read(self) -> Result<OrderRecord, Error> {
        let id = OrderId::from(self.standing.id);
        let what = || format!("order `{id}`");
        let corrupt = |reason: String| Error::Corrupt { what: what(), reason };
        let begun = OrderRecord {
            id,
            event: self.event_id.into(),
            subject: self.subject.into(),
            hold: self.hold_id.into(),
            token: self.token,
            seats: seats::decode(&self.seats, what)?,
            currency: self.currency.parse().map_err(corrupt)?,
            promo: self.promo_code_id.map(Into::into),
            money: order::Order::begin(self.total, Timestamp::from_micros(self.book_before)),
            provider: self.provider,
            payment: None,
            attempts: 1,
            request_hash: self
                .request_hash
                .try_into()
                .map_err(|_| corrupt("its request hash is not 16 bytes".into()))?,
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.created_at),
        };
        self.standing.of(begun)
    }
}

const BY_ID: RowsSql = rows_sql!("SELECT orders.* FROM " rows " JOIN orders ON orders.id = " id(0));
const STANDING: RowsSql = rows_sql!(
    "SELECT orders.id, orders.state, orders.keep, orders.captured, orders.refunded, orders.attempt, orders.payment_ref,
        orders.failure_code, orders.failure_detail, orders.updated_at
     FROM " rows " JOIN orders ON orders.id = " id(0)
);
const ATTEMPTS: RowsSql = rows_sql!(
    "SELECT order_id, id, action, amount, created_at FROM payment_attempts
     WHERE order_id " among(0) " AND state = 'started' ORDER BY order_id, number"
);

type AttemptRow = (Uuid, Uuid, String, i64, i64);

/// Both of one moment: attempts that belong to a later state are not those of this one.
const WITH_ATTEMPTS: RowsSql = rows_sql!(
    "SELECT orders.*, a.id AS attempt_id, a.action AS attempt_action, a.amount AS attempt_amount, a.created_at AS attempt_began_at
     FROM " rows " JOIN orders ON orders.id = " id(0) "
     LEFT JOIN payment_attempts a ON a.order_id = orders.id AND a.state = 'started' ORDER BY a.number"
);

/// An order, once for each of its open attempts.
#[derive(FromRow)]
struct OrderInAttempt {
    #[sqlx(flatten)]
    order: OrderRow,
    attempt_id: Option<Uuid>,
    attempt_action: Option<String>,
    attempt_amount: Option<i64>,
    attempt_began_at: Option<i64>,
}

impl OrderInAttempt {
    fn attempt(&self) -> Option<AttemptRow> {
        let id = self.order.standing.id;
        let action = self.attempt_action.clone()?;
        Some((id, self.attempt_id?, action, self.attempt_amount?, self.attempt_began_at?))
    }
}

fn read_attempts(rows: Vec<AttemptRow>) -> HashMap<OrderId, Vec<Attempt>> {
    let mut attempts: HashMap<OrderId, Vec<Attempt>> = HashMap::new();
    for (order, id, action, amount, began_at) in rows {
        // What no version of ours has written is nothing that we could do again.
        let Some(action) = Action::ALL.into_iter().find(|known| known.as_str() == action) else { continue };
        let began_at = Timestamp::from_micros(began_at);
        attempts.entry(order.into()).or_default().push(Attempt { id: id.into(), action, amount, began_at });
    }
    attempts
}

fn ids(orders: &[OrderId]) -> String {
    let mut json = Json::array(orders.len(), 36);
    orders.iter().for_each(|id| json.row(|row| row.id(id.uuid())));
    json.end()
}

/// Orders by id, in a transaction.
async fn read(tx: &mut Tx<'_>, orders: &[OrderId]) -> Result<HashMap<OrderId, OrderRecord>, sql::Error> {
    if orders.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<OrderRow> = BY_ID.fetch(tx, ids(orders)).await?;
    let orders = rows.into_iter().map(|row| row.read().map(|order| (order.id, order)));
    orders.collect::<Result<_, Error>>().map_err(undecodable)
}

/// The same of orders that were read before, at whatever time: only what may have changed since is read.
async fn read_again(
    tx: &mut Tx<'_>,
    mut before: HashMap<OrderId, OrderRecord>,
) -> Result<HashMap<OrderId, OrderRecord>, sql::Error> {
    if before.is_empty() {
        return Ok(before);
    }
    let rows: Vec<StandingRow> = STANDING.fetch(tx, ids(&before.keys().copied().collect::<Vec<_>>())).await?;
    let rows = rows.into_iter().filter_map(|row| Some((before.remove(&OrderId::from(row.id))?, row)));
    let orders = rows.map(|(before, row)| row.of(before).map(|order| (order.id, order)));
    orders.collect::<Result<_, Error>>().map_err(undecodable)
}

fn undecodable(error: Error) -> sql::Error {
    sqlx::Error::Decode(error.into()).into()
}

impl Store {
    /// Begins to pay for a hold: from here on its seats cannot lapse before [`order::Order::book_before`].
    ///
    /// # Errors
    /// Those of the database. Refusals are part of the answer.
    pub async fn begin_order(&self, new: NewOrder) -> Result<Begun, Error> {
        match self.submit(Write::Begin(Box::new(new))).await? {
            What::Begun(begun) => Ok(*begun),
            _ => Err(unexpected()),
        }
    }

    /// Applies news to an order, with all that follows from it for seats and attempts, in one commit.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database. Refusals are part of the answer.
    pub async fn advance_order(&self, advance: Advance) -> Result<Advanced, Error> {
        let id = advance.order;
        match self.submit(Write::Advance(Box::new(advance))).await? {
            What::Advanced(Some(advanced)) => Ok(*advanced),
            What::Advanced(None) => Err(Error::NotFound { what: "order", id: id.to_string() }),
            _ => Err(unexpected()),
        }
    }

    /// The same where somebody asked for it under a key: once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::KeyReused`]; those of the database. Refusals are part of the answer.
    pub async fn advance_order_once(&self, advance: Advance) -> Result<Once<Advanced>, Error> {
        let id = advance.order;
        let advanced = |what| if let What::Advanced(advanced) = what { Some(advanced) } else { None };
        match self.submit_once(Write::Advance(Box::new(advance)), advanced).await? {
            Once::Now(Some(advanced)) => Ok(Once::Now(*advanced)),
            Once::Now(None) => Err(Error::NotFound { what: "order", id: id.to_string() }),
            Once::Before(answered) => Ok(Once::Before(answered)),
        }
    }

    /// Orders of cancelled events that still have seats or money of their buyers, in the order of their ids after one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn orders_of_cancelled(&self, after: Option<OrderId>, limit: i64) -> Result<Vec<OrderId>, Error> {
        const ORDERS: &str = "SELECT o.id FROM events e JOIN orders o ON o.event_id = e.id
             WHERE e.status = 'cancelled' AND o.left_hold IS NULL AND o.state IN ('booked', 'captured') AND o.id > $1
             ORDER BY o.id LIMIT $2";
        let after = after.map_or(Uuid::nil(), OrderId::uuid);
        let rows: Vec<Uuid> =
            each_engine!(&self.db, |pool| sqlx::query_scalar(ORDERS).bind(after).bind(limit).fetch_all(pool).await)
                .map_err(sql::Error::from)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// An order.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn find_order(&self, id: OrderId) -> Result<Option<OrderRecord>, Error> {
        let rows: Vec<OrderRow> = BY_ID.fetch_from(&self.db, ids(&[id])).await?;
        rows.into_iter().next().map(OrderRow::read).transpose()
    }

    /// An order with its open attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`]; those of the database.
    pub async fn open_order(&self, id: OrderId) -> Result<OpenOrder, Error> {
        // The clock first: what is asked after this read is asked after it.
        let read_at = self.now().await?;
        let missing = || Error::NotFound { what: "order", id: id.to_string() };
        let rows: Vec<OrderInAttempt> = WITH_ATTEMPTS.fetch_from(&self.db, ids(&[id])).await?;
        let attempts = rows.iter().filter_map(OrderInAttempt::attempt).collect();
        let attempts = read_attempts(attempts).remove(&id).unwrap_or_default();
        let order = rows.into_iter().next().ok_or_else(missing)?.order.read()?;
        Ok(OpenOrder { order, attempts, read_at })
    }

    /// Orders that have something left to do and have not changed for so long, the stalest first, behind one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unsettled_orders(
        &self,
        unchanged_for: Duration,
        behind: Option<Unsettled>,
        limit: u32,
    ) -> Result<Vec<Unsettled>, Error> {
        let before = self.now().await?.minus(unchanged_for);
        const OPEN: &str = "SELECT updated_at, id FROM orders
             WHERE state IN ('paying', 'authorised', 'booked', 'refund_due') AND updated_at <= $1
                AND (updated_at, id) > ($2, $3)
             ORDER BY updated_at, id LIMIT $4";
        let (at, id) = behind.map_or((i64::MIN, Uuid::nil()), |last| (last.since.micros(), last.order.uuid()));
        let rows: Vec<(i64, Uuid)> = each_engine!(&self.db, |pool| {
            let open = sqlx::query_as(OPEN).bind(before.micros()).bind(at).bind(id);
            open.bind(i64::from(limit)).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        let unsettled = |(at, id): (i64, Uuid)| Unsettled { since: Timestamp::from_micros(at), order: id.into() };
        Ok(rows.into_iter().map(unsettled).collect())
    }

    /// Orders of a buyer, of the events of an organiser, or all; by default the one changed the longest ago first.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn list_orders(
        &self,
        whose: OrdersOf<'_>,
        order: InOrder,
        listed: &Listed,
    ) -> Result<Vec<OrderRecord>, Error> {
        macro_rules! page_of {
            (changed, $whose:literal) => {
                concat!(
                    "SELECT o.* FROM orders o JOIN events e ON e.id = o.event_id
                     WHERE o.updated_at >= $1 AND (o.updated_at, o.id) > ($2, $3) AND o.updated_at <= $6 AND ",
                    $whose,
                    " ORDER BY o.updated_at, o.id LIMIT $5"
                )
            };
            (newest, $whose:literal) => {
                concat!(
                    "SELECT o.* FROM orders o JOIN events e ON e.id = o.event_id
                     WHERE o.updated_at >= $1 AND (o.created_at, o.id) < ($2, $3) AND o.created_at <= $6 AND ",
                    $whose,
                    " ORDER BY o.created_at DESC, o.id DESC LIMIT $5"
                )
            };
        }
        let (list, subject) = match (whose, order) {
            (OrdersOf::Buyer(subject), InOrder::OfChange) => (page_of!(changed, "o.subject = $4"), subject),
            (OrdersOf::Buyer(subject), InOrder::NewestFirst) => (page_of!(newest, "o.subject = $4"), subject),
            (OrdersOf::Organiser(subject), InOrder::OfChange) => (page_of!(changed, "e.organiser = $4"), subject),
            (OrdersOf::Organiser(subject), InOrder::NewestFirst) => (page_of!(newest, "e.organiser = $4"), subject),
            (OrdersOf::Everyone, InOrder::OfChange) => (page_of!(changed, "$4 = ''"), ""),
            (OrdersOf::Everyone, InOrder::NewestFirst) => (page_of!(newest, "$4 = ''"), ""),
        };
        let (at, id) = match order {
            InOrder::OfChange => listed.begin(),
            InOrder::NewestFirst => listed.after.unwrap_or((i64::MAX, Uuid::max())),
        };
        let settled = match order {
            InOrder::OfChange => self.db.settled_until().await?,
            // For people, who want to see what they did just now.
            InOrder::NewestFirst => i64::MAX,
        };
        let rows: Vec<OrderRow> = each_engine!(&self.db, |pool| {
            let list = sqlx::query_as(list).bind(listed.since()).bind(at).bind(id).bind(subject);
            list.bind(listed.limit).bind(settled).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        rows.into_iter().map(OrderRow::read).collect()
    }

    /// Which of these orders are for events of this organiser.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn orders_sold_by(&self, orders: &[OrderId], organiser: &str) -> Result<HashSet<OrderId>, Error> {
        const OF: RowsSql = rows_sql!(
            "SELECT o.id, e.organiser FROM " rows " JOIN orders o ON o.id = " id(0) " JOIN events e ON e.id = o.event_id"
        );
        let rows: Vec<(Uuid, String)> = OF.fetch_from(&self.db, ids(orders)).await?;
        Ok(rows.into_iter().filter(|(_, of)| of == organiser).map(|(id, _)| id.into()).collect())
    }

    /// The order of a payment, by the provider's name of it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn order_of_payment(&self, payment: &PaymentRef) -> Result<Option<OrderId>, Error> {
        const OF: &str = "SELECT id FROM orders WHERE payment_ref = $1";
        let id: Option<Uuid> =
            each_engine!(&self.db, |pool| { sqlx::query_scalar(OF).bind(payment.as_str()).fetch_optional(pool).await })
                .map_err(sql::Error::from)?;
        Ok(id.map(Into::into))
    }
}
