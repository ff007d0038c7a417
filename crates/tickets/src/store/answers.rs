//! Writes that were answered: the same request under the same key is answered the same again, another one is refused.
//! Only what was done is kept; who was refused may try again under the same key.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Tx};

use super::batch::{What, Write};
use super::{Store, unexpected};
use crate::Error;

/// Locks of keys are spread over so many numbers.
const KEY_LOCKS: u32 = 4_096;

/// A write as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// By whom.
    pub subject: Arc<str>,
    /// Under which idempotency key.
    pub key: String,
    /// What exactly.
    pub request_hash: [u8; 16],
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// What came of a write under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// This, now: it was done or refused.
    Now(T),
    /// The very same request was done before, and answered with this.
    Before(Answered),
}

/// Whether a write was asked for before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not.
    New,
    /// It was, and was answered with this.
    Same(Answered),
    /// Its key was, with another request.
    Other,
}

/// What becomes of a write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is applied.
    Go,
    /// It was answered before.
    Said(Answered),
    /// Its key was used for another request.
    Reused,
    /// The write at this place of the same batch has its key.
    Behind(usize),
}

type Row = (i64, Vec<u8>, i64, String);

const READ: RowsSql = rows_sql!(
    "SELECT " int(0) ", a.request_hash, a.status, a.body FROM " rows "
     JOIN answers a ON a.subject = " text(1) " AND a.idempotency_key = " text(2)
);
const KEEP: RowsSql = rows_sql!(
    "INSERT INTO answers (subject, idempotency_key, request_hash, status, body, at)
     SELECT " text(0) ", " text(1) ", " bytes(2) ", " int(3) ", " text(4) ", " int(5) " FROM " rows " WHERE TRUE"
);

/// On PostgreSQL, so that one transaction at a time decides on a key. Once a transaction, before all other locks.
async fn lock<'a>(tx: &mut Tx<'_>, asked: impl Iterator<Item = &'a Asked>) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    let lock = |asked: &Asked| {
        let bytes = asked.subject.bytes().chain([0]).chain(asked.key.bytes());
        let sum = bytes.fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        (sum & (KEY_LOCKS - 1)) as i32
    };
    let locks: BTreeSet<i32> = asked.map(lock).collect();
    if locks.is_empty() {
        return Ok(());
    }
    let locks: Vec<i32> = locks.into_iter().collect();
    // The first number keeps them apart from others' locks; they are taken in ascending order.
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7469637, lock) FROM unnest($1::INTEGER[]) AS lock";
    sqlx::query(LOCK).bind(locks).execute(&mut **transaction).await?;
    Ok(())
}

fn question(asked: &[&Asked]) -> String {
    let mut json = Json::array(asked.len(), 100);
    for (place, asked) in asked.iter().enumerate() {
        json.row(|row| {
            row.number(place as i64);
            row.text(&asked.subject);
            row.text(&asked.key);
        });
    }
    json.end()
}

fn judge(asked: &[&Asked], rows: Vec<Row>) -> Vec<Known> {
    let mut rows: HashMap<i64, (Vec<u8>, Answered)> = rows
        .into_iter()
        // It was written from a status.
        .map(|(place, hash, status, body)| (place, (hash, Answered { status: status as u16, body })))
        .collect();
    let known = |(place, asked): (usize, &&Asked)| match rows.remove(&(place as i64)) {
        None => Known::New,
        Some((hash, answered)) if hash == asked.request_hash => Known::Same(answered),
        Some(_) => Known::Other,
    };
    asked.iter().enumerate().map(known).collect()
}

/// What becomes of the writes of a batch, in their order. Takes the locks of their keys, before all others.
pub(super) async fn turns(tx: &mut Tx<'_>, asked: &[Option<&Asked>]) -> Result<Vec<Turn>, sql::Error> {
    let mut turns = vec![Turn::Go; asked.len()];
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    let mut ask: Vec<(usize, &Asked)> = Vec::new();
    for (place, asked) in asked.iter().enumerate() {
        let Some(asked) = asked else { continue };
        match *first.entry((&*asked.subject, &asked.key)).or_insert(place) {
            before if before < place => turns[place] = Turn::Behind(before),
            _ => ask.push((place, asked)),
        }
    }
    if ask.is_empty() {
        return Ok(turns);
    }
    lock(tx, ask.iter().map(|(_, asked)| *asked)).await?;
    let known = known(tx, &ask.iter().map(|(_, asked)| *asked).collect::<Vec<_>>()).await?;
    for ((place, _), known) in ask.into_iter().zip(known) {
        turns[place] = match known {
            Known::New => Turn::Go,
            Known::Same(answered) => Turn::Said(answered),
            Known::Other => Turn::Reused,
        };
    }
    Ok(turns)
}

/// Whether these were asked for before, in their order. Under [`lock`].
async fn known(tx: &mut Tx<'_>, asked: &[&Asked]) -> Result<Vec<Known>, sql::Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = READ.fetch(tx, question(asked)).await?;
    Ok(judge(asked, rows))
}

/// Keeps answers, in the transaction of what they say.
pub(super) async fn keep(tx: &mut Tx<'_>, answers: &[(&Asked, &Answered)], now: Timestamp) -> Result<(), sql::Error> {
    if answers.is_empty() {
        return Ok(());
    }
    let mut json = Json::array(answers.len(), 500);
    for (asked, answered) in answers {
        json.row(|row| {
            row.text(&asked.subject);
            row.text(&asked.key);
            row.bytes(&asked.request_hash);
            row.number(i64::from(answered.status));
            row.text(&answered.body);
            row.number(now.micros());
        });
    }
    KEEP.execute(tx, json.end()).await?;
    Ok(())
}

impl Store {
    /// What this very request was answered before, if it was.
    ///
    /// # Errors
    /// [`Error::KeyReused`] where its key was used for another one; those of the database.
    pub async fn answer(&self, asked: &Asked) -> Result<Option<Answered>, Error> {
        let rows: Vec<Row> = READ.fetch_from(&self.db, question(&[asked])).await?;
        match judge(&[asked], rows).pop() {
            None | Some(Known::New) => Ok(None),
            Some(Known::Same(answered)) => Ok(Some(answered)),
            Some(Known::Other) => Err(Error::KeyReused { key: asked.key.clone() }),
        }
    }
    /// Has a write done once for its key. `now` reads what came of it.
    ///
    /// # Errors
    /// [`Error::KeyReused`], [`Error::KeyBusy`]; those of the database.
    pub(super) async fn submit_once<T>(
        &self,
        write: Write,
        now: impl FnOnce(What) -> Option<T>,
    ) -> Result<Once<T>, Error> {
        let key = write.asked().map(|asked| asked.key.clone()).unwrap_or_default();
        match self.submit(write).await? {
            What::Said(answered) => Ok(Once::Before(answered)),
            What::KeyReused => Err(Error::KeyReused { key }),
            What::KeyBusy => Err(Error::KeyBusy { key }),
            what => now(what).map(Once::Now).ok_or_else(unexpected),
        }
    }
}

impl Answered {
    /// A body that was written as JSON.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let corrupt = |error: serde_json::Error| Error::Corrupt { what: "an answer".into(), reason: error.to_string() };
        serde_json::from_str(&self.body).map_err(corrupt)
    }

    /// An answer of this content, with status 200.
    pub(super) fn of(content: &impl serde::Serialize) -> Self {
        // Numbers, words and plain structs always serialise.
        Self { status: 200, body: serde_json::to_string(content).unwrap_or_default() }
    }
}
