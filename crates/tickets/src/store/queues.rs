//! Waiting rooms: what the organiser set and what processes share of them. Who waits is kept in the lines.
//!
//! Each change locks the room's row, so several processes that let people in share one measure of turns.

use std::sync::Arc;

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::lines::{Lines, Seed, SqlLines};
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, each_tx};

use super::answers::Asked;
use super::batch::{What, Write};
use super::{Store, unexpected};
use crate::Error;
use crate::domain::ids::EventId;
use crate::domain::queue::{Control, Crowd, Settings, State};

/// A waiting room as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// Of which event.
    pub event: EventId,
    /// Goes up when the line was lost; the first is 1.
    pub generation: u32,
    /// Whether the line of this generation was made.
    pub made: bool,
    /// Of the lottery.
    pub seed: Seed,
    /// What the organiser set.
    pub control: Control,
    /// What processes share.
    pub state: State,
}

impl QueueRow {
    /// Its line: the event's id with the generation in its last 32 bits.
    pub fn line(&self) -> Uuid {
        Uuid::from_u128(self.event.uuid().as_u128() | u128::from(self.generation))
    }
}

/// A change of a waiting room.
#[derive(Clone, Debug)]
pub(crate) struct QueueWrite {
    /// Under which key.
    pub(super) asked: Option<Asked>,
    event: EventId,
    change: QueueChange,
}

#[derive(Clone, Debug)]
enum QueueChange {
    /// Makes it where there is none.
    Open(Seed),
    /// The organiser's hand.
    Control(Control),
    /// Notes that the line of a generation was made.
    Made(u32),
    /// Notes that the line of a generation was lost.
    Lost(u32),
    /// How many arrive at a process.
    Hear { settings: Box<Settings>, process: u64, per_second: u32 },
    /// How many may be let in.
    Take { settings: Box<Settings>, crowd: Crowd },
    /// A place without an account becomes that of an owner.
    Own { place: OwnedPlace, owner: Uuid, instead_of: Option<i64> },
}

/// A place that was taken without an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedPlace {
    /// In which line.
    pub line: Uuid,
    /// The arrival.
    pub entry: i64,
    /// Whose it is there.
    pub member: Uuid,
}

/// What came of a [`QueueWrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueWrote {
    /// It is done.
    Done,
    /// So many may be let in.
    Take(u64),
    /// The place is this owner's, or another's.
    Owned(bool),
}

type Row = (Vec<u8>, i64, i64, String, String);

const READ: &str = "SELECT seed, generation, made, control, state FROM queues WHERE event_id = $1";

/// Applies changes in the transaction of a batch, in the order of events.
pub(super) async fn apply(tx: &mut Tx<'_>, writes: &[&QueueWrite]) -> Result<Vec<QueueWrote>, sql::Error> {
    let mut answers = vec![QueueWrote::Done; writes.len()];
    let mut order: Vec<usize> = (0..writes.len()).collect();
    order.sort_by_key(|at| writes[*at].event);
    for at in order {
        answers[at] = apply_one(tx, writes[at]).await?;
    }
    Ok(answers)
}

async fn apply_one(tx: &mut Tx<'_>, write: &QueueWrite) -> Result<QueueWrote, sql::Error> {
    let event = write.event;
    match &write.change {
        QueueChange::Open(seed) => {
            const OPEN: &str = "INSERT INTO queues (event_id, generation, made, seed, control, state)
                VALUES ($1, 1, 0, $2, '{}', '{}') ON CONFLICT (event_id) DO NOTHING";
            let seed = &seed.bytes()[..];
            each_tx!(tx, |connection| {
                sqlx::query(OPEN).bind(event.uuid()).bind(seed).execute(connection).await.map(drop)
            })?;
            return Ok(QueueWrote::Done);
        }
        QueueChange::Own { place, owner, instead_of } => return own(tx, place, *owner, *instead_of).await,
        _ => {}
    }
    let Some(mut row) = lock(tx, event).await? else { return Ok(QueueWrote::Done) };
    let now = tx.now().await?;
    let answer = change(&mut row, &write.change, now);
    const SAVE: &str = "UPDATE queues SET generation = $2, made = $3, control = $4, state = $5 WHERE event_id = $1";
    // Structs of numbers always serialise.
    let control = serde_json::to_string(&row.control).unwrap_or_default();
    let state = serde_json::to_string(&row.state).unwrap_or_default();
    each_tx!(tx, |connection| {
        let save = sqlx::query(SAVE).bind(event.uuid()).bind(i64::from(row.generation)).bind(i64::from(row.made));
        save.bind(control).bind(state).execute(connection).await.map(drop)
    })?;
    Ok(answer)
}

fn change(row: &mut QueueRow, change: &QueueChange, now: Timestamp) -> QueueWrote {
    match change {
        QueueChange::Open(_) | QueueChange::Own { .. } => {}
        QueueChange::Control(newer) => row.control.merge(newer),
        QueueChange::Made(generation) => row.made |= row.generation == *generation,
        QueueChange::Lost(generation) => {
            if row.generation == *generation && row.made {
                row.generation = row.generation.saturating_add(1);
                row.made = false;
                row.state.begin_anew();
            }
        }
        QueueChange::Hear { settings, process, per_second } => {
            row.state.hear(settings, *process, *per_second, now);
        }
        QueueChange::Take { settings, crowd } => return QueueWrote::Take(row.state.take(settings, crowd, now)),
    }
    QueueWrote::Done
}

async fn lock(tx: &mut Tx<'_>, event: EventId) -> Result<Option<QueueRow>, sql::Error> {
    let row: Option<Row> = match tx {
        // Its transaction has the write lock.
        Tx::Sqlite { transaction, .. } => {
            sqlx::query_as(READ).bind(event.uuid()).fetch_optional(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            const LOCK: &str =
                "SELECT seed, generation, made, control, state FROM queues WHERE event_id = $1 FOR UPDATE";
            sqlx::query_as(LOCK).bind(event.uuid()).fetch_optional(&mut **transaction).await?
        }
    };
    match row.map(|row| read(event, row)).transpose() {
        Ok(row) => Ok(row),
        Err(error) => Err(sqlx::Error::Protocol(error.to_string()).into()),
    }
}

fn read(event: EventId, (seed, generation, made, control, state): Row) -> Result<QueueRow, Error> {
    let corrupt = |reason: String| Error::Corrupt { what: format!("the waiting room of event `{event}`"), reason };
    let seed: [u8; 32] = seed.try_into().map_err(|seed: Vec<u8>| corrupt(format!("a seed of {} bytes", seed.len())))?;
    Ok(QueueRow {
        event,
        generation: u32::try_from(generation).map_err(|_| corrupt(format!("generation {generation}")))?,
        made: made != 0,
        seed: Seed::from_bytes(seed),
        control: serde_json::from_str(&control).map_err(|error| corrupt(error.to_string()))?,
        state: serde_json::from_str(&state).map_err(|error| corrupt(error.to_string()))?,
    })
}

/// The first account that comes in by a place has it, and has no other place besides.
async fn own(
    tx: &mut Tx<'_>,
    place: &OwnedPlace,
    owner: Uuid,
    instead_of: Option<i64>,
) -> Result<QueueWrote, sql::Error> {
    const DROP: &str = "DELETE FROM queue_owners WHERE line = $1 AND entry = $2 AND owner = $3";
    const ADD: &str =
        "INSERT INTO queue_owners (line, entry, member, owner) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    const OWNER: &str = "SELECT owner FROM queue_owners WHERE line = $1 AND entry = $2";
    let OwnedPlace { line, entry, member } = *place;
    if let Some(old) = instead_of {
        each_tx!(tx, |connection| {
            sqlx::query(DROP).bind(line).bind(old).bind(owner).execute(connection).await.map(drop)
        })?;
    }
    each_tx!(tx, |connection| {
        let add = sqlx::query(ADD).bind(line).bind(entry).bind(member).bind(owner);
        add.execute(connection).await.map(drop)
    })?;
    let known: Option<Uuid> = each_tx!(tx, |connection| {
        sqlx::query_scalar(OWNER).bind(line).bind(entry).fetch_optional(connection).await
    })?;
    Ok(QueueWrote::Owned(known == Some(owner)))
}

impl Store {
    /// The lines of those who wait, as rows of this database.
    pub fn lines(&self) -> Arc<dyn Lines> {
        Arc::new(SqlLines::new(self.db.clone(), self.writer.clone(), Arc::clone(&self.clock)))
    }

    /// The waiting room of an event, if it ever had one.
    ///
    /// # Errors
    /// Those of the database; [`Error::Corrupt`].
    pub async fn queue(&self, event: EventId) -> Result<Option<QueueRow>, Error> {
        let row: Option<Row> =
            each_engine!(&self.db, |pool| { sqlx::query_as(READ).bind(event.uuid()).fetch_optional(pool).await })
                .map_err(sql::Error::from)?;
        row.map(|row| read(event, row)).transpose()
    }

    /// The events on sale that have a waiting room, or had one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events_with_queue(&self) -> Result<Vec<EventId>, Error> {
        const EVENTS: &str = "SELECT q.event_id FROM queues q JOIN events e ON e.id = q.event_id
            WHERE e.status = 'published' AND e.deleted_at IS NULL ORDER BY q.event_id";
        let ids: Vec<Uuid> = each_engine!(&self.db, |pool| sqlx::query_scalar(EVENTS).fetch_all(pool).await)
            .map_err(sql::Error::from)?;
        Ok(ids.into_iter().map(EventId::from).collect())
    }

    /// Makes the waiting room of an event where there is none, with the seed of its lottery.
    ///
    /// # Errors
    /// Those of the database, as for all that follow.
    pub async fn open_queue(&self, event: EventId, seed: Seed) -> Result<(), Error> {
        self.change_queue(event, QueueChange::Open(seed)).await.map(drop)
    }

    /// Sets what the organiser says; what it leaves out stays.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn control_queue(&self, event: EventId, control: Control, asked: Option<Asked>) -> Result<(), Error> {
        let write = QueueWrite { asked, event, change: QueueChange::Control(control) };
        let wrote = |what| if let What::Queue(wrote) = what { Some(wrote) } else { None };
        self.submit_once(Write::Queue(write), wrote).await.map(drop)
    }

    /// Notes that the line of a generation is there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn line_made(&self, event: EventId, generation: u32) -> Result<(), Error> {
        self.change_queue(event, QueueChange::Made(generation)).await.map(drop)
    }

    /// Notes that the line of a generation, which was there, is gone: the next one begins.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn line_lost(&self, event: EventId, generation: u32) -> Result<(), Error> {
        self.change_queue(event, QueueChange::Lost(generation)).await.map(drop)
    }

    /// Tells how many arrive at a process; the doors may close by it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hear_arrivals(
        &self,
        event: EventId,
        settings: &Settings,
        process: u64,
        per_second: u32,
    ) -> Result<(), Error> {
        let settings = Box::new(settings.clone());
        self.change_queue(event, QueueChange::Hear { settings, process, per_second }).await.map(drop)
    }

    /// How many may be let in now. They count as let in, whoever asks.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_turns(&self, event: EventId, settings: &Settings, crowd: Crowd) -> Result<u64, Error> {
        let settings = Box::new(settings.clone());
        match self.change_queue(event, QueueChange::Take { settings, crowd }).await? {
            QueueWrote::Take(turns) => Ok(turns),
            // The row went while it was asked for.
            QueueWrote::Done => Ok(0),
            QueueWrote::Owned(_) => Err(unexpected()),
        }
    }

    /// Gives a place that was taken without an account to an owner, instead of an earlier one of his where he has it. False
    /// where it is another's, or the owner has a third one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn own_place(
        &self,
        event: EventId,
        place: OwnedPlace,
        owner: Uuid,
        instead_of: Option<i64>,
    ) -> Result<bool, Error> {
        match self.change_queue(event, QueueChange::Own { place, owner, instead_of }).await? {
            QueueWrote::Owned(owned) => Ok(owned),
            _ => Err(unexpected()),
        }
    }

    /// The place by which an owner came in last without having taken it by its account.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn owned_place(&self, line: Uuid, owner: Uuid) -> Result<Option<OwnedPlace>, Error> {
        const PLACE: &str = "SELECT entry, member FROM queue_owners WHERE line = $1 AND owner = $2";
        let place: Option<(i64, Uuid)> =
            each_engine!(&self.db, |pool| { sqlx::query_as(PLACE).bind(line).bind(owner).fetch_optional(pool).await })
                .map_err(sql::Error::from)?;
        Ok(place.map(|(entry, member)| OwnedPlace { line, entry, member }))
    }

    async fn change_queue(&self, event: EventId, change: QueueChange) -> Result<QueueWrote, Error> {
        match self.submit(Write::Queue(QueueWrite { asked: None, event, change })).await? {
            What::Queue(wrote) => Ok(wrote),
            _ => Err(unexpected()),
        }
    }
}
