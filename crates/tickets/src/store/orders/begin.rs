//! From hold to order: the claim is extended, the order and its first attempt are stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::types::Uuid;
use tessera_kernel::{Currency, Timestamp};
use tessera_store::claims;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::super::batch::Changes;
use super::super::holds::{self, Hold, HoldState};
use super::super::promos;
use super::super::seats::{self, PricedSeat};
use super::{OrderRecord, read};
use crate::domain::ids::{AttemptId, HoldId, OrderId, PromoId};
use crate::domain::order::Order;
use crate::seats::{Change, ChangeTo};

/// A wish to pay for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// Made from the subject and the idempotency key.
    pub id: OrderId,
    /// Which hold.
    pub hold: HoldId,
    /// Who pays.
    pub subject: Arc<str>,
    /// What is paid for each seat of the hold, in its order, where that is not what the hold says.
    pub prices: Option<Vec<i64>>,
    /// The promotion code that makes the difference.
    pub promo: Option<PromoId>,
    /// Of the event.
    pub currency: Currency,
    /// The first attempt.
    pub attempt: AttemptId,
    /// The provider's name.
    pub provider: &'static str,
    /// How long the seats are kept from now on, within what the hold may last at the most.
    pub window: Duration,
    /// Of the request: the same key with another one is refused.
    pub request_hash: [u8; 16],
    /// Where claims are kept elsewhere: until when the claim was extended, or that it is over.
    pub extended: Option<Option<Timestamp>>,
}

/// What became of a wish to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It can be paid now.
    Made(OrderRecord),
    /// The same request made this order before.
    Again(OrderRecord),
    /// The same key was used for another request.
    KeyReused,
    /// There is no such hold of this subject.
    NoHold,
    /// The hold was given back or has lapsed.
    Over(Hold),
    /// It is being paid, or was, by this order; or by one that was asked for in the same moment, and may have come to nothing.
    InOrder(Option<OrderId>),
    /// The promotion code is used up, over or not begun.
    PromoSpent,
}

/// An order on its way through a batch.
pub enum Wish {
    Decided(Begun),
    /// The extension of its claim is the n-th of what is asked of claims.
    Asked(Hold, usize),
    /// Its claim was extended elsewhere.
    Extended(Hold, Timestamp),
}

/// The first half: whose hold it is, and the claims to extend. What is given back in the same batch is over.
pub async fn before_claims(
    tx: &mut Tx<'_>,
    new: &[&NewOrder],
    given_back: &HashSet<HoldId>,
    claims: &mut Vec<claims::Command>,
) -> Result<Vec<Wish>, sql::Error> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let known = read(tx, &new.iter().map(|new| new.id).collect::<Vec<_>>()).await?;
    let holds = holds::read_with_orders(tx, new.iter().map(|new| new.hold)).await?;
    // Those that get an order in this batch.
    let mut in_order: HashMap<HoldId, OrderId> = HashMap::new();
    let wish = |new: &&NewOrder| {
        if let Some(order) = known.get(&new.id) {
            let same = order.request_hash == new.request_hash;
            return Wish::Decided(if same { Begun::Again(order.clone()) } else { Begun::KeyReused });
        }
        let Some((hold, order)) = holds.get(&new.hold).filter(|(hold, _)| hold.subject == new.subject) else {
            return Wish::Decided(Begun::NoHold);
        };
        if given_back.contains(&hold.id) {
            return Wish::Decided(Begun::Over(hold.clone()));
        }
        if let Some(order) = order.or_else(|| in_order.get(&hold.id).copied()) {
            return Wish::Decided(Begun::InOrder(Some(order)));
        }
        match hold.state {
            HoldState::Released | HoldState::Lapsed => Wish::Decided(Begun::Over(hold.clone())),
            HoldState::Booked => Wish::Decided(Begun::InOrder(None)),
            HoldState::Active => match new.extended {
                Some(None) => Wish::Decided(Begun::Over(hold.clone())),
                Some(Some(end)) => {
                    in_order.insert(hold.id, new.id);
                    Wish::Extended(hold.clone(), end)
                }
                None => {
                    in_order.insert(hold.id, new.id);
                    claims.push(claims::Command::Extend { claim: hold.claim(), ttl: new.window });
                    Wish::Asked(hold.clone(), claims.len() - 1)
                }
            },
        }
    };
    Ok(new.iter().map(wish).collect())
}

/// The second half: the rows of those whose claim lasts.
pub async fn after_claims(
    tx: &mut Tx<'_>,
    new: &[&NewOrder],
    wishes: Vec<Wish>,
    answers: &[claims::Answer],
    changes: &mut Changes,
) -> Result<Vec<Begun>, sql::Error> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    let mut begun = Vec::with_capacity(new.len());
    for (wish, new) in wishes.into_iter().zip(new) {
        let (hold, end) = match wish {
            Wish::Decided(decided) => {
                begun.push(decided);
                continue;
            }
            Wish::Extended(hold, end) => (hold, Some(end)),
            Wish::Asked(hold, place) => match answers.get(place) {
                Some(claims::Answer::Extended(end)) => (hold, *end),
                _ => return Err(sqlx::Error::Protocol("an extension was answered as something else".into()).into()),
            },
        };
        begun.push(match end {
            Some(end) => Begun::Made(order(new, hold, end, now)),
            None => Begun::Over(hold),
        });
    }
    redeem(tx, &mut begun).await?;
    let made = write(tx, new, &begun).await?;
    let lost = begun.iter().filter_map(|begun| match begun {
        Begun::Made(order) if !made.contains(&order.id) => order.promo,
        _ => None,
    });
    promos::give_back(tx, &lost.collect::<Vec<_>>()).await?;
    for begun in &mut begun {
        let Begun::Made(order) = begun else { continue };
        if made.contains(&order.id) {
            let to = ChangeTo::Held(order.money.book_before);
            let held = order.seats.iter().map(|priced| Change { seat: priced.seat, to });
            changes.entry(order.event).or_default().extend(held);
        } else {
            // Another transaction was faster with an order for this hold.
            *begun = Begun::InOrder(None);
        }
    }
    Ok(begun)
}

/// Counts the uses of promotion codes; an order whose code is spent is not made. Its claim lasts longer for it, at the most
/// until the hold's last end.
async fn redeem(tx: &mut Tx<'_>, begun: &mut [Begun]) -> Result<(), sql::Error> {
    let with_code = begun.iter_mut().filter_map(|begun| match begun {
        Begun::Made(OrderRecord { promo: Some(code), .. }) => Some((*code, begun)),
        _ => None,
    });
    let (codes, orders): (Vec<PromoId>, Vec<&mut Begun>) = with_code.unzip();
    let redeemed = promos::redeem(tx, &codes).await?;
    for (order, redeemed) in orders.into_iter().zip(redeemed) {
        if !redeemed {
            *order = Begun::PromoSpent;
        }
    }
    Ok(())
}

fn order(new: &NewOrder, hold: Hold, end: Timestamp, now: Timestamp) -> OrderRecord {
    let mut seats: Vec<PricedSeat> = hold.seats;
    if let Some(prices) = &new.prices {
        seats.iter_mut().zip(prices).for_each(|(priced, price)| priced.price = *price);
    }
    let total = seats.iter().map(|priced| priced.price).sum();
    OrderRecord {
        id: new.id,
        event: hold.event,
        subject: Arc::clone(&new.subject),
        hold: hold.id,
        token: hold.token,
        seats,
        currency: new.currency,
        promo: new.promo,
        money: Order::begin(total, end),
        provider: new.provider.to_owned(),
        payment: None,
        attempts: 1,
        request_hash: new.request_hash,
        created_at: now,
        updated_at: now,
    }
}

/// Writes those that were made, and says which of them are there.
async fn write(tx: &mut Tx<'_>, new: &[&NewOrder], begun: &[Begun]) -> Result<HashSet<OrderId>, sql::Error> {
    // On a conflict there is an order for the hold already, made by a transaction that was not visible before.
    const ADD: RowsSql = rows_sql!(
        "INSERT INTO orders
            (id, event_id, subject, hold_id, token, seats, count, state, currency, total, keep, captured, refunded,
             promo_code_id, book_before, attempt, provider, request_hash, created_at, updated_at)
         SELECT " id(0) ", " id(1) ", " text(2) ", " id(3) ", " int(4) ", " bytes(5) ", " int(6) ", 'paying', " text(7) ", "
            int(8) ", " int(8) ", 0, 0, " id(9) ", " int(10) ", 1, " text(11) ", " bytes(12) ", " int(13) ", " int(13) "
         FROM " rows " WHERE TRUE ON CONFLICT DO NOTHING RETURNING id"
    );
    const ATTEMPT: RowsSql = rows_sql!(
        "INSERT INTO payment_attempts (id, order_id, number, action, amount, state, created_at, updated_at)
         SELECT " id(0) ", " id(1) ", 1, 'authorise', " int(2) ", 'started', " int(3) ", " int(3) "
         FROM " rows " WHERE TRUE"
    );
    const EXTEND: RowsSql = rows_sql!(
        "UPDATE holds SET expires_at = " int(1) ", updated_at = " int(2) " FROM " rows " WHERE holds.id = " id(0)
    );
    let mut orders = Json::array(new.len(), 300);
    for begun in begun {
        let Begun::Made(order) = begun else { continue };
        orders.row(|row| {
            row.id(order.id.uuid());
            row.id(order.event.uuid());
            row.text(&order.subject);
            row.id(order.hold.uuid());
            row.number(order.token);
            row.bytes(&seats::encode(&order.seats));
            row.number(order.seats.len() as i64);
            row.text(order.currency.as_str());
            row.number(order.money.total);
            match order.promo {
                Some(promo) => row.id(promo.uuid()),
                None => row.null(),
            }
            row.number(order.money.book_before.micros());
            row.text(&order.provider);
            row.bytes(&order.request_hash);
            row.number(order.created_at.micros());
        });
    }
    let orders = orders.end();
    if orders == "[]" {
        return Ok(HashSet::new());
    }
    let made: Vec<(Uuid,)> = ADD.fetch(tx, orders).await?;
    let made: HashSet<OrderId> = made.into_iter().map(|(id,)| id.into()).collect();
    let (mut attempts, mut ends) = (Json::array(new.len(), 100), Json::array(new.len(), 80));
    for (new, begun) in new.iter().zip(begun) {
        let Begun::Made(order) = begun else { continue };
        if !made.contains(&order.id) {
            continue;
        }
        attempts.row(|row| {
            row.id(new.attempt.uuid());
            row.id(order.id.uuid());
            row.number(order.money.total);
            row.number(order.created_at.micros());
        });
        ends.row(|row| {
            row.id(order.hold.uuid());
            row.number(order.money.book_before.micros());
            row.number(order.created_at.micros());
        });
    }
    if !made.is_empty() {
        ATTEMPT.execute(tx, attempts.end()).await?;
        EXTEND.execute(tx, ends.end()).await?;
    }
    Ok(made)
}
