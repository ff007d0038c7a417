//! Holds: seats kept for a buyer. A hold is a claim on its tickets and a row that says whose it is and what it costs, made
//! in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::claims::{self, Acquire, Acquired, Claim};
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, rows_sql};

use super::answers::{Asked, Once};
use super::batch::{Changes, What, Write};
use super::seats::{self, PricedSeat};
use super::{Store, unexpected};
use crate::Error;
use crate::domain::ids::{EventId, HoldId, OrderId, SeatNumber, TicketId};
use crate::seats::{Change, ChangeTo};

/// Locks of customers are spread over so many numbers: two customers seldom share one, and a batch never takes more.
const CUSTOMER_LOCKS: u32 = 4_096;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHold {
    /// Made from the subject and the idempotency key.
    pub id: HoldId,
    /// Of which event.
    pub event: EventId,
    /// For whom.
    pub subject: Arc<str>,
    /// Which seats at what price, in ascending order.
    pub seats: Vec<PricedSeat>,
    /// How long.
    pub ttl: Duration,
    /// How long at the most, when it is extended while it is paid.
    pub longest: Duration,
    /// How many tickets of the event the customer may have.
    pub limit: u32,
    /// Of the request: the same key with another one is refused.
    pub request_hash: [u8; 16],
    /// Where the claim was made elsewhere already.
    pub claim: Option<Claim>,
}

/// A hold as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// Of which event.
    pub event: EventId,
    /// Whose.
    pub subject: Arc<str>,
    /// Which seats at what price, in ascending order.
    pub seats: Vec<PricedSeat>,
    /// The token of its claim.
    pub token: i64,
    /// When it lapses, or lapsed.
    pub expires_at: Timestamp,
    /// Where it stands.
    pub state: HoldState,
    /// Of the request.
    pub request_hash: [u8; 16],
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Until its end.
    Active,
    /// Given back.
    Released,
    /// Became a booking.
    Booked,
    /// Its end was noticed.
    Lapsed,
}

/// What became of a wish for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is held.
    Made(Hold),
    /// The same request was answered before with this hold.
    Again(Hold),
    /// The same key was used for another request.
    KeyReused,
    /// Others hold these, until then at the latest.
    Taken(Vec<SeatNumber>, Timestamp),
    /// These are sold.
    Booked(Vec<SeatNumber>),
    /// The customer has so many already.
    OverLimit(u32),
}

/// Seats to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseHold {
    /// Which hold.
    pub hold: HoldId,
    /// Who asks.
    pub subject: Arc<str>,
    /// Where claims are kept elsewhere: whether the seats were freed there.
    pub freed: Option<bool>,
    /// Under which key.
    pub asked: Option<Asked>,
}

/// What became of giving seats back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// So many seats are free again; none where the hold had lapsed.
    Done(Hold, u32),
    /// There is no such hold of this subject.
    NotFound,
    /// It is being paid, or is.
    InOrder,
}

impl Hold {
    /// Its claim.
    pub fn claim(&self) -> Claim {
        Claim {
            partition: self.event.uuid(),
            resources: tickets(self.event, &self.seats),
            holder: self.id.uuid(),
            token: self.token,
            expires_at: self.expires_at,
        }
    }
}

pub(super) fn tickets(event: EventId, seats: &[PricedSeat]) -> Vec<Uuid> {
    seats.iter().map(|priced| TicketId::new(event, priced.seat).uuid()).collect()
}

impl NewHold {
    /// Whether one of its tickets is among these.
    fn is_any_of(&self, tickets: &HashSet<TicketId>) -> bool {
        self.seats.iter().any(|priced| tickets.contains(&TicketId::new(self.event, priced.seat)))
    }

    /// Those of its seats whose tickets are among these.
    fn those_of(&self, tickets: &HashSet<TicketId>) -> Vec<SeatNumber> {
        let seats = self.seats.iter().map(|priced| priced.seat);
        seats.filter(|seat| tickets.contains(&TicketId::new(self.event, *seat))).collect()
    }

    /// The wish for its claim.
    pub fn acquire(&self) -> Acquire {
        Acquire {
            partition: self.event.uuid(),
            resources: tickets(self.event, &self.seats),
            holder: self.id.uuid(),
            ttl: self.ttl,
            longest: self.longest,
        }
    }
}

/// A hold on its way through a batch.
enum Wish {
    /// Decided before any claim was made.
    Decided(Held),
    /// Its claim is the n-th of those asked for.
    Asked(usize),
    /// Its claim was made elsewhere.
    Claimed(Claim),
    /// The same request is in this batch, at that place.
    Same(usize),
}

/// What a batch of holds waits for between its two halves.
pub(super) struct Wishes(Vec<Wish>);

/// The first half: who may hold at all, and the claims to ask for.
pub(super) async fn before_claims(
    tx: &mut Tx<'_>,
    new: &[&NewHold],
    claims: &mut Vec<claims::Command>,
) -> Result<Wishes, sql::Error> {
    if new.is_empty() {
        return Ok(Wishes(Vec::new()));
    }
    lock_customers(tx, new).await?;
    let known = known(tx, new).await?;
    let mut has = owned(tx, new).await?;
    let mut first: HashMap<HoldId, usize> = HashMap::new();
    let mut wishes = Vec::with_capacity(new.len());
    for (place, wish) in new.iter().enumerate() {
        wishes.push(if let Some(hold) = known.get(&wish.id) {
            let same = hold.request_hash == wish.request_hash;
            Wish::Decided(if same { Held::Again(hold.clone()) } else { Held::KeyReused })
        } else if let Some(place) = first.get(&wish.id) {
            let same = new[*place].request_hash == wish.request_hash;
            if same { Wish::Same(*place) } else { Wish::Decided(Held::KeyReused) }
        } else {
            first.insert(wish.id, place);
            decide(wish, &mut has, claims)
        });
    }
    Ok(Wishes(wishes))
}

fn decide(wish: &NewHold, has: &mut HashMap<(EventId, Arc<str>), u32>, claims: &mut Vec<claims::Command>) -> Wish {
    // What the same customer asks for in the same moment counts, whatever becomes of it.
    let has = has.entry((wish.event, Arc::clone(&wish.subject))).or_default();
    let count = wish.seats.len() as u32;
    if has.saturating_add(count) > wish.limit {
        return Wish::Decided(Held::OverLimit(*has));
    }
    *has += count;
    match &wish.claim {
        Some(claim) => Wish::Claimed(claim.clone()),
        None => {
            claims.push(claims::Command::Acquire(wish.acquire()));
            Wish::Asked(claims.len() - 1)
        }
    }
}

/// The second half: the rows of those that have their claim.
pub(super) async fn after_claims(
    tx: &mut Tx<'_>,
    new: &[&NewHold],
    Wishes(wishes): Wishes,
    answers: &[claims::Answer],
    changes: &mut Changes,
) -> Result<Vec<Held>, sql::Error> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?;
    // Looked up under the claims: who books under one keeps it to the end of its transaction.
    let booked = booked(tx, new.iter().map(|new| (new.event, new.seats.as_slice()))).await?;
    let mut let_go: Vec<claims::Command> = Vec::new();
    let mut rows = Json::array(new.len(), 200);
    let mut held: Vec<Held> = Vec::with_capacity(new.len());
    for (wish, new) in wishes.into_iter().zip(new) {
        let claim = match wish {
            Wish::Decided(decided) => {
                held.push(decided);
                continue;
            }
            Wish::Same(place) => {
                held.push(match &held[place] {
                    Held::Made(hold) => Held::Again(hold.clone()),
                    other => other.clone(),
                });
                continue;
            }
            Wish::Claimed(_) | Wish::Asked(_) if new.is_any_of(&booked) => {
                if let Wish::Asked(place) = wish
                    && let claims::Answer::Acquired(Acquired::Claim(claim)) = &answers[place]
                {
                    let_go.push(claims::Command::Release { claim: claim.clone() });
                }
                held.push(Held::Booked(new.those_of(&booked)));
                continue;
            }
            Wish::Claimed(claim) => claim,
            Wish::Asked(place) => match &answers[place] {
                claims::Answer::Acquired(Acquired::Claim(claim)) => claim.clone(),
                claims::Answer::Acquired(Acquired::Taken { resources, until }) => {
                    let seats = resources.iter().filter_map(|id| TicketId::from(*id).seat()).collect();
                    held.push(Held::Taken(seats, *until));
                    continue;
                }
                _ => return Err(sqlx::Error::Protocol("a claim was answered as something else".into()).into()),
            },
        };
        let hold = Hold {
            id: new.id,
            event: new.event,
            subject: Arc::clone(&new.subject),
            seats: new.seats.clone(),
            token: claim.token,
            expires_at: claim.expires_at,
            state: HoldState::Active,
            request_hash: new.request_hash,
            created_at: now,
        };
        add(&mut rows, &hold);
        let to = ChangeTo::Held(hold.expires_at);
        let changed = hold.seats.iter().map(|priced| Change { seat: priced.seat, to });
        changes.entry(hold.event).or_default().extend(changed);
        held.push(Held::Made(hold));
    }
    const ADD: RowsSql = rows_sql!(
        "INSERT INTO holds
            (id, event_id, subject, seats, count, total, token, expires_at, state, request_hash, created_at, updated_at)
         SELECT " id(0) ", " id(1) ", " text(2) ", " bytes(3) ", " int(4) ", " int(5) ", " int(6) ", " int(7) ", 'active', "
            bytes(8) ", " int(9) ", " int(9) " FROM " rows " WHERE TRUE"
    );
    claims::apply(tx, &let_go.iter().collect::<Vec<_>>()).await?;
    let rows = rows.end();
    if rows != "[]" {
        ADD.execute(tx, rows).await?;
    }
    Ok(held)
}

fn add(rows: &mut Json, hold: &Hold) {
    rows.row(|row| {
        row.id(hold.id.uuid());
        row.id(hold.event.uuid());
        row.text(&hold.subject);
        row.bytes(&seats::encode(&hold.seats));
        row.number(hold.seats.len() as i64);
        row.number(hold.seats.iter().map(|priced| priced.price).sum());
        row.number(hold.token);
        row.number(hold.expires_at.micros());
        row.bytes(&hold.request_hash);
        row.number(hold.created_at.micros());
    });
}

/// On PostgreSQL, so that the tickets of a customer are counted by one transaction at a time.
async fn lock_customers(tx: &mut Tx<'_>, new: &[&NewHold]) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    let lock = |new: &&NewHold| {
        let subject = new.subject.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        // Below 2^31, and the first number of the pair keeps them apart from others' locks.
        (subject ^ new.event.uuid().as_fields().0) as i32 & (CUSTOMER_LOCKS as i32 - 1)
    };
    let locks: BTreeSet<i32> = new.iter().map(lock).collect();
    let locks: Vec<i32> = locks.into_iter().collect();
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7469636, lock) FROM unnest($1::INTEGER[]) AS lock";
    sqlx::query(LOCK).bind(locks).execute(&mut **transaction).await?;
    Ok(())
}

#[derive(FromRow)]
struct HoldRow {
    id: Uuid,
    event_id: Uuid,
    subject: String,
    seats: Vec<u8>,
    token: i64,
    expires_at: i64,
    state: String,
    request_hash: Vec<u8>,
    created_at: i64,
}

impl HoldRow {
    fn read(self) -> Result<Hold, Error> {
        let id = HoldId::from(self.id);
        let what = || format!("hold `{id}`");
        let corrupt = |reason: &str| Error::Corrupt { what: what(), reason: reason.into() };
        let state = match self.state.as_str() {
            "active" => HoldState::Active,
            "released" => HoldState::Released,
            "booked" => HoldState::Booked,
            "lapsed" => HoldState::Lapsed,
            _ => return Err(corrupt("its state is unknown")),
        };
        Ok(Hold {
            id,
            event: self.event_id.into(),
            subject: self.subject.into(),
            seats: seats::decode(&self.seats, what)?,
            token: self.token,
            expires_at: Timestamp::from_micros(self.expires_at),
            state,
            request_hash: self.request_hash.try_into().map_err(|_| corrupt("its request hash is not 16 bytes"))?,
            created_at: Timestamp::from_micros(self.created_at),
        })
    }
}

#[derive(FromRow)]
struct HoldInOrder {
    #[sqlx(flatten)]
    hold: HoldRow,
    in_order: Option<Uuid>,
}

const BY_ID: RowsSql = rows_sql!(
    "SELECT h.id, h.event_id, h.subject, h.seats, h.token, h.expires_at, h.state, h.request_hash, h.created_at
     FROM " rows " JOIN holds h ON h.id = " id(0)
);

pub(super) async fn read(
    tx: &mut Tx<'_>,
    ids: impl ExactSizeIterator<Item = HoldId>,
) -> Result<HashMap<HoldId, Hold>, sql::Error> {
    let mut json = Json::array(ids.len(), 36);
    ids.for_each(|id| json.row(|row| row.id(id.uuid())));
    let rows: Vec<HoldRow> = BY_ID.fetch(tx, json.end()).await?;
    let holds = rows.into_iter().map(|row| row.read().map(|hold| (hold.id, hold)));
    holds.collect::<Result<_, Error>>().map_err(|error| sqlx::Error::Decode(error.into()).into())
}

/// The same, each with the order that pays for it or has.
pub(super) async fn read_with_orders(
    tx: &mut Tx<'_>,
    ids: impl ExactSizeIterator<Item = HoldId>,
) -> Result<HashMap<HoldId, (Hold, Option<OrderId>)>, sql::Error> {
    const WITH_ORDERS: RowsSql = rows_sql!(
        "SELECT h.id, h.event_id, h.subject, h.seats, h.token, h.expires_at, h.state, h.request_hash, h.created_at,
            (SELECT o.id FROM orders o WHERE o.hold_id = h.id AND o.left_hold IS NULL) AS in_order
         FROM " rows " JOIN holds h ON h.id = " id(0)
    );
    let mut json = Json::array(ids.len(), 36);
    ids.for_each(|id| json.row(|row| row.id(id.uuid())));
    let rows: Vec<HoldInOrder> = WITH_ORDERS.fetch(tx, json.end()).await?;
    let holds = rows
        .into_iter()
        .map(|HoldInOrder { hold, in_order }| hold.read().map(|hold| (hold.id, (hold, in_order.map(OrderId::from)))));
    holds.collect::<Result<_, Error>>().map_err(|error| sqlx::Error::Decode(error.into()).into())
}

async fn known(tx: &mut Tx<'_>, new: &[&NewHold]) -> Result<HashMap<HoldId, Hold>, sql::Error> {
    read(tx, new.iter().map(|new| new.id)).await
}

/// Which of the seats are booked.
async fn booked(
    tx: &mut Tx<'_>,
    seats: impl ExactSizeIterator<Item = (EventId, &[PricedSeat])>,
) -> Result<HashSet<TicketId>, sql::Error> {
    const BOOKED: RowsSql = rows_sql!("SELECT ticket_id FROM " rows " JOIN bookings ON ticket_id = " id(0));
    let mut json = Json::array(seats.len(), 36);
    for (event, seats) in seats {
        tickets(event, seats).into_iter().for_each(|id| json.row(|row| row.id(id)));
    }
    let json = json.end();
    if json == "[]" {
        return Ok(HashSet::new());
    }
    let booked: Vec<(Uuid,)> = BOOKED.fetch(tx, json).await?;
    Ok(booked.into_iter().map(|(id,)| id.into()).collect())
}

/// How many tickets each of the customers holds and owns.
async fn owned(tx: &mut Tx<'_>, new: &[&NewHold]) -> Result<HashMap<(EventId, Arc<str>), u32>, sql::Error> {
    macro_rules! owned_at {
        ($($now:tt)+) => {
            rows_sql!(
                "SELECT " int(0) ",
                    CAST((SELECT COALESCE(SUM(h.count), 0) FROM holds h
                      WHERE h.event_id = " id(1) " AND h.subject = " text(2) " AND h.state = 'active' AND h.expires_at > "
                      $($now)+ ")
                    + (SELECT COUNT(*) FROM bookings b WHERE b.event_id = " id(1) " AND b.subject = " text(2) ") AS BIGINT)
                 FROM " rows
            )
        };
    }
    // The statement begins after the customers were locked.
    const OWNED: RowsSql = RowsSql {
        sqlite: owned_at!(int(3)).sqlite,
        postgres: owned_at!("(extract(epoch FROM statement_timestamp()) * 1000000)::BIGINT").postgres,
    };
    let now = match tx {
        Tx::Sqlite { now, .. } => now.micros(),
        Tx::Postgres { .. } => 0,
    };
    let customers: BTreeMap<(EventId, Arc<str>), ()> =
        new.iter().map(|new| ((new.event, Arc::clone(&new.subject)), ())).collect();
    let mut json = Json::array(customers.len(), 80);
    for (place, (event, subject)) in customers.keys().enumerate() {
        json.row(|row| {
            row.number(place as i64);
            row.id(event.uuid());
            row.text(subject);
            row.number(now);
        });
    }
    let counts: Vec<(i64, i64)> = OWNED.fetch(tx, json.end()).await?;
    let counts: HashMap<i64, i64> = counts.into_iter().collect();
    let count = |place: usize| counts.get(&(place as i64)).and_then(|count| u32::try_from(*count).ok()).unwrap_or(0);
    Ok(customers.into_keys().enumerate().map(|(place, customer)| (customer, count(place))).collect())
}

/// On PostgreSQL, so that a hold is given back, paid or booked by one transaction at a time, and the next one sees what came
/// of it: these holds, and those of these orders.
pub(super) async fn lock(
    tx: &mut Tx<'_>,
    holds: impl Iterator<Item = HoldId>,
    orders: impl Iterator<Item = OrderId>,
) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    let (holds, orders) = (holds.map(HoldId::uuid).collect::<Vec<_>>(), orders.map(OrderId::uuid).collect::<Vec<_>>());
    if holds.is_empty() && orders.is_empty() {
        return Ok(());
    }
    const LOCK: &str = "SELECT id FROM holds
         WHERE id IN (SELECT unnest($1::UUID[]) UNION SELECT hold_id FROM orders WHERE id = ANY($2::UUID[]))
         ORDER BY id FOR UPDATE";
    sqlx::query(LOCK).bind(holds).bind(orders).execute(&mut **transaction).await?;
    Ok(())
}

/// A release on its way through a batch.
pub(super) enum Release {
    Decided(Released),
    /// Its claim is the n-th of those asked to be released.
    Asked(Hold, usize),
    /// Its claim is kept elsewhere, and the seats were freed there or not.
    Freed(Hold, bool),
}

impl Release {
    /// The hold that is given back, unless it is not.
    pub(super) fn hold(&self) -> Option<HoldId> {
        match self {
            Self::Decided(_) => None,
            Self::Asked(hold, _) | Self::Freed(hold, _) => Some(hold.id),
        }
    }
}

/// The first half of giving back: whose it is, and the claims to let go.
pub(super) async fn before_release(
    tx: &mut Tx<'_>,
    wishes: &[&ReleaseHold],
    claims: &mut Vec<claims::Command>,
) -> Result<Vec<Release>, sql::Error> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let holds = read_with_orders(tx, wishes.iter().map(|wish| wish.hold)).await?;
    let release = |wish: &&ReleaseHold| match holds.get(&wish.hold).filter(|(hold, _)| hold.subject == wish.subject) {
        None => Release::Decided(Released::NotFound),
        Some((hold, order)) if order.is_some() || hold.state == HoldState::Booked => {
            Release::Decided(Released::InOrder)
        }
        Some((hold, _)) if hold.state != HoldState::Active => Release::Decided(Released::Done(hold.clone(), 0)),
        Some((hold, _)) => match wish.freed {
            Some(freed) => Release::Freed(hold.clone(), freed),
            None => {
                claims.push(claims::Command::Release { claim: hold.claim() });
                Release::Asked(hold.clone(), claims.len() - 1)
            }
        },
    };
    Ok(wishes.iter().map(release).collect())
}

/// The second half of giving back.
pub(super) async fn after_release(
    tx: &mut Tx<'_>,
    releases: Vec<Release>,
    answers: &[claims::Answer],
    changes: &mut Changes,
) -> Result<Vec<Released>, sql::Error> {
    const RELEASED: RowsSql = rows_sql!(
        "UPDATE holds SET state = 'released', updated_at = " int(1) " FROM " rows "
         WHERE holds.id = " id(0) " AND holds.state = 'active'"
    );
    if releases.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now().await?.micros();
    // Where claims were lost, somebody who held a seat before may have booked it meanwhile: it does not become free.
    let freed = releases.iter().filter_map(|release| match release {
        Release::Freed(hold, true) => Some((hold.event, hold.seats.as_slice())),
        _ => None,
    });
    let freed: Vec<(EventId, &[PricedSeat])> = freed.collect();
    let booked = booked(tx, freed.into_iter()).await?;
    let mut rows = Json::array(releases.len(), 60);
    let mut released = Vec::with_capacity(releases.len());
    for release in releases {
        let (hold, freed) = match release {
            Release::Decided(decided) => {
                released.push(decided);
                continue;
            }
            Release::Asked(hold, place) => (hold, answers.get(place) == Some(&claims::Answer::Released(true))),
            Release::Freed(hold, freed) => (hold, freed),
        };
        rows.row(|row| {
            row.id(hold.id.uuid());
            row.number(now);
        });
        let seats = hold.seats.iter().map(|priced| priced.seat).filter(|_| freed);
        let seats: Vec<SeatNumber> = seats.filter(|seat| !booked.contains(&TicketId::new(hold.event, *seat))).collect();
        if !seats.is_empty() {
            let changed = seats.iter().map(|seat| Change { seat: *seat, to: ChangeTo::Free });
            changes.entry(hold.event).or_default().extend(changed);
        }
        released.push(Released::Done(hold, seats.len() as u32));
    }
    let rows = rows.end();
    if rows != "[]" {
        RELEASED.execute(tx, rows).await?;
    }
    Ok(released)
}

impl Store {
    /// Holds seats for a buyer: all or none.
    ///
    /// # Errors
    /// Those of the database. Refusals are part of the answer.
    pub async fn hold(&self, new: NewHold) -> Result<Held, Error> {
        match self.submit(Write::Hold(Box::new(new))).await? {
            What::Held(held) => Ok(held),
            _ => Err(unexpected()),
        }
    }

    /// Gives seats back.
    ///
    /// # Errors
    /// Those of the database. Refusals are part of the answer.
    pub async fn release(&self, release: ReleaseHold) -> Result<Once<Released>, Error> {
        let released = |what| if let What::Released(released) = what { Some(released) } else { None };
        self.submit_once(Write::Release(release), released).await
    }

    /// A hold.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn find_hold(&self, id: HoldId) -> Result<Option<Hold>, Error> {
        let mut json = Json::array(1, 36);
        json.row(|row| row.id(id.uuid()));
        let rows: Vec<HoldRow> = BY_ID.fetch_from(&self.db, json.end()).await?;
        rows.into_iter().next().map(HoldRow::read).transpose()
    }

    /// The hold of a subject that keeps this ticket and is not over.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of the database.
    pub async fn hold_of_ticket(&self, subject: &str, ticket: TicketId) -> Result<Option<Hold>, Error> {
        const HOLDS: &str = "SELECT id, event_id, subject, seats, token, expires_at, state, request_hash, created_at
             FROM holds WHERE event_id = $1 AND subject = $2 AND state = 'active' ORDER BY token DESC";
        let event = ticket.event().uuid();
        let rows: Vec<HoldRow> =
            each_engine!(&self.db, |pool| { sqlx::query_as(HOLDS).bind(event).bind(subject).fetch_all(pool).await })
                .map_err(sql::Error::from)?;
        let holds: Vec<Hold> = rows.into_iter().map(HoldRow::read).collect::<Result<_, _>>()?;
        Ok(holds.into_iter().find(|hold| hold.seats.iter().any(|priced| Some(priced.seat) == ticket.seat())))
    }

    /// Notes the end of holds that lapsed before `before`, so that they need not be looked through any more. Nothing
    /// rests on it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_lapsed(&self, before: Timestamp) -> Result<u64, Error> {
        const NOTE: &str = "UPDATE holds SET state = 'lapsed' WHERE state = 'active' AND expires_at < $1";
        let noted = each_engine!(&self.db, |pool| {
            sqlx::query(NOTE).bind(before.micros()).execute(pool).await.map(|done| done.rows_affected())
        });
        Ok(noted.map_err(sql::Error::from)?)
    }
}
