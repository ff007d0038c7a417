//! Claims as rows of a product's database, written by its writer.
//!
//! A batch is three statements: lock the rows (on PostgreSQL; SQLite holds its one write lock), read them, write those
//! that changed. Rows are taken in the order of their ids, so that transactions wait for each other but never in a ring.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::types::Uuid;
use tessera_kernel::{Clock, Timestamp};

use super::decide::{Row, Rows};
use super::{Acquire, Acquired, Claim, Claims, State, in_order};
use crate::each_engine;
use crate::error::Error;
use crate::rows::Json;
use crate::sql::{self, Db, Migration, Tx};
use crate::writer::{Apply, Writer};

/// Rows that one statement asks for.
const READ_AT_ONCE: usize = 8_192;

/// The step of a product's schema that makes the table `claims`.
pub const fn migration(version: i64) -> Migration {
    Migration {
        version,
        name: "claims",
        sql: "CREATE TABLE claims (
                  id BLOB PRIMARY KEY,
                  holder BLOB NOT NULL,
                  token BIGINT NOT NULL,
                  expires_at BIGINT NOT NULL,
                  limit_at BIGINT NOT NULL
              ) WITHOUT ROWID",
        // No index but the key, and room in each page: a claim is then updated in place.
        postgres: Some(
            "CREATE TABLE claims (
                 id UUID PRIMARY KEY,
                 holder UUID NOT NULL,
                 token BIGINT NOT NULL,
                 expires_at BIGINT NOT NULL,
                 limit_at BIGINT NOT NULL
             ) WITH (fillfactor = 60)",
        ),
    }
}

/// A change of claims, for a product's enum of commands. [`Claims`] of [`SqlClaims`] makes them; resources are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// See [`Claims::acquire`].
    Acquire(Acquire),
    /// See [`Claims::extend`].
    Extend {
        /// Which.
        claim: Claim,
        /// How long from now on.
        ttl: Duration,
    },
    /// See [`Claims::release`].
    Release {
        /// Which.
        claim: Claim,
    },
}

impl Command {
    fn resources(&self) -> &[Uuid] {
        match self {
            Self::Acquire(wish) => &wish.resources,
            Self::Extend { claim, .. } | Self::Release { claim } => &claim.resources,
        }
    }
}

/// What became of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Command::Acquire`].
    Acquired(Acquired),
    /// To [`Command::Extend`].
    Extended(Option<Timestamp>),
    /// To [`Command::Release`].
    Released(bool),
}

/// Applies commands in the transaction of a batch, as if one after the other; one answer each, in order.
///
/// A product that calls this and others in one transaction always calls them in the same order, so that no two
/// transactions wait for each other.
///
/// # Errors
/// Those of the engine; the transaction must then be undone.
pub async fn apply(tx: &mut Tx<'_>, commands: &[&Command]) -> Result<Vec<Answer>, sql::Error> {
    apply_and_keep(tx, commands, &[]).await
}

/// [`apply`], with further resources whose claims nobody else changes before the end of the transaction: what is then
/// read of them in it stays true until then.
///
/// # Errors
/// As [`apply`].
pub async fn apply_and_keep(tx: &mut Tx<'_>, commands: &[&Command], kept: &[Uuid]) -> Result<Vec<Answer>, sql::Error> {
    let mut ids: Vec<Uuid> = commands.iter().flat_map(|command| command.resources()).chain(kept).copied().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    ids.sort_unstable();
    ids.dedup();
    lock(tx, &ids).await?;
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let (now, rows) = read_now(tx, &ids).await?;
    let mut rows = Rows::new(now, rows);
    let answers = commands.iter().map(|command| rows.decide(command)).collect();
    let changed = rows.changes().len() as u64;
    if changed > 0 && write(tx, &rows).await? != changed {
        // The rows were locked. Whoever got in between did not go through here.
        return Err(sqlx::Error::Protocol("claims changed under their lock".to_owned()).into());
    }
    Ok(answers)
}

/// Makes sure that all rows exist and that no other transaction changes them.
async fn lock(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    // An update that is not carried out locks its row too, and writes nothing.
    const LOCK: &str = "INSERT INTO claims (id, holder, token, expires_at, limit_at)
        SELECT id, '00000000-0000-0000-0000-000000000000', 0, 0, 0 FROM unnest($1::UUID[]) AS id ORDER BY id
        ON CONFLICT (id) DO UPDATE SET token = claims.token WHERE FALSE";
    sqlx::query(LOCK).bind(ids).execute(&mut **transaction).await?;
    Ok(())
}

type Read = (Uuid, Uuid, i64, i64, i64);

const READ_SQLITE: &str = "SELECT c.id, c.holder, c.token, c.expires_at, c.limit_at
    FROM json_each($1) AS wanted CROSS JOIN claims AS c ON c.id = unhex(wanted.value)";
const READ_POSTGRES: &str = "SELECT id, holder, token, expires_at, limit_at FROM claims WHERE id = ANY($1::UUID[])";

/// The rows of these, which are locked, and the present moment: on PostgreSQL that of the statement, which began after.
async fn read_now(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<(Timestamp, HashMap<Uuid, Row>), sql::Error> {
    const READ_NOW: &str = "SELECT id, holder, token, expires_at, limit_at,
            (extract(epoch FROM statement_timestamp()) * 1000000)::BIGINT
        FROM claims WHERE id = ANY($1::UUID[])";
    match tx {
        Tx::Sqlite { transaction, now } => {
            let read = sqlx::query_as(READ_SQLITE).bind(Json::ids(ids)).fetch_all(&mut **transaction).await?;
            Ok((*now, by_id(read)))
        }
        Tx::Postgres { transaction } => {
            type ReadNow = (Uuid, Uuid, i64, i64, i64, i64);
            let rows: Vec<ReadNow> = sqlx::query_as(READ_NOW).bind(ids).fetch_all(&mut **transaction).await?;
            // Locking has made the rows that were missing, so there is one.
            let now = Timestamp::from_micros(rows.first().map_or(0, |row| row.5));
            let read =
                |(id, holder, token, expires_at, limit_at, _): ReadNow| (id, holder, token, expires_at, limit_at);
            Ok((now, by_id(rows.into_iter().map(read).collect())))
        }
    }
}

fn by_id(rows: Vec<Read>) -> HashMap<Uuid, Row> {
    let row = |(id, holder, token, expires_at, limit_at)| (id, Row { holder, token, expires_at, limit_at });
    rows.into_iter().map(row).collect()
}

/// Writes what changed, each row only where its token is still the one that was read, and counts them.
async fn write(tx: &mut Tx<'_>, rows: &Rows) -> Result<u64, sql::Error> {
    match tx {
        Tx::Sqlite { transaction, .. } => {
            const WRITE: &str = "INSERT INTO claims (id, holder, token, expires_at, limit_at)
                SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4
                FROM jsonb_each($1) WHERE TRUE
                ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, token = excluded.token,
                    expires_at = excluded.expires_at, limit_at = excluded.limit_at
                WHERE claims.token <= excluded.token";
            let changes = rows.changes();
            let mut json = Json::array(changes.len(), 130);
            for (id, _, row) in changes {
                json.row(|json| {
                    json.id(id);
                    json.id(row.holder);
                    [row.token, row.expires_at, row.limit_at].into_iter().for_each(|number| json.number(number));
                });
            }
            Ok(sqlx::query(WRITE).bind(json.end()).execute(&mut **transaction).await?.rows_affected())
        }
        Tx::Postgres { transaction } => {
            const WRITE: &str = "UPDATE claims SET holder = n.holder, token = n.token, expires_at = n.expires_at,
                    limit_at = n.limit_at
                FROM unnest($1::UUID[], $2::BIGINT[], $3::UUID[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[])
                    AS n (id, before, holder, token, expires_at, limit_at)
                WHERE claims.id = n.id AND claims.token = n.before";
            let mut ids = Vec::new();
            let (mut before, mut holders, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
            let (mut expires, mut limits) = (Vec::new(), Vec::new());
            for (id, token, row) in rows.changes() {
                ids.push(id);
                before.push(token);
                holders.push(row.holder);
                tokens.push(row.token);
                expires.push(row.expires_at);
                limits.push(row.limit_at);
            }
            let update =
                sqlx::query(WRITE).bind(ids).bind(before).bind(holders).bind(tokens).bind(expires).bind(limits);
            Ok(update.execute(&mut **transaction).await?.rows_affected())
        }
    }
}

/// Rows of claims that are over, to be removed by [`remove`]: which, and where to go on looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// Their ids, in order.
    pub ids: Vec<Uuid>,
    /// The last id that was looked at; nothing where all were.
    pub next: Option<Uuid>,
}

/// Looks at the rows behind one, a bounded number, for claims that have been over for `kept`. It needs no index and
/// keeps nobody waiting.
///
/// # Errors
/// Those of the engine.
pub async fn find_dead(
    db: &Db,
    clock: &dyn Clock,
    after: Uuid,
    kept: Duration,
    limit: usize,
) -> Result<Dead, sql::Error> {
    const LOOK: &str = "SELECT id, expires_at < $2 AND token < $2 FROM claims WHERE id > $1 ORDER BY id LIMIT $3";
    let before = db.now(clock).await?.minus(kept).micros();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(Uuid, bool)> =
        each_engine!(db, |pool| { sqlx::query_as(LOOK).bind(after).bind(before).bind(limit).fetch_all(pool).await })?;
    let next = rows.last().filter(|_| rows.len() as i64 == limit).map(|(id, _)| *id);
    Ok(Dead { ids: rows.into_iter().filter(|(_, dead)| *dead).map(|(id, _)| id).collect(), next })
}

/// Removes the rows of claims that have been over for `kept`, of those that [`find_dead`] gave, and counts them. What
/// another transaction is at stays, so nobody is waited for.
///
/// Tokens go on growing without the row: the next one is the time, and a row goes only when its last token lies `kept`
/// behind that. Give it longer than a clock may be set back.
///
/// # Errors
/// Those of the engine; the transaction must then be undone.
pub async fn remove(tx: &mut Tx<'_>, ids: &[Uuid], kept: Duration) -> Result<u64, sql::Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let before = tx.now().await?.minus(kept).micros();
    let removed = match tx {
        Tx::Sqlite { transaction, .. } => {
            const REMOVE: &str = "DELETE FROM claims
                WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND expires_at < $2 AND token < $2";
            sqlx::query(REMOVE).bind(Json::ids(ids)).bind(before).execute(&mut **transaction).await?.rows_affected()
        }
        Tx::Postgres { transaction } => {
            const REMOVE: &str = "DELETE FROM claims WHERE id IN
                (SELECT id FROM claims WHERE id = ANY($1::UUID[]) AND expires_at < $2 AND token < $2
                 ORDER BY id FOR UPDATE SKIP LOCKED)";
            sqlx::query(REMOVE).bind(ids).bind(before).execute(&mut **transaction).await?.rows_affected()
        }
    };
    Ok(removed)
}

/// [`apply`] as the only work of a writer, where a product has no commands of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyClaims;

impl Apply for ApplyClaims {
    type Command = Command;
    type Answer = Answer;

    async fn apply(&self, tx: &mut Tx<'_>, commands: &[Command]) -> Result<Vec<Answer>, sql::Error> {
        apply(tx, &commands.iter().collect::<Vec<_>>()).await
    }
}

/// Claims in a product's database, through its writer, whose command can be made from [`Command`] and whose answer to
/// that can be turned into [`Answer`]. The table is made by [`migration`].
pub struct SqlClaims<A: Apply> {
    db: Db,
    writer: Writer<A>,
    clock: Arc<dyn Clock>,
}

impl<A: Apply> std::fmt::Debug for SqlClaims<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlClaims").field("db", &self.db).finish_non_exhaustive()
    }
}

impl<A> SqlClaims<A>
where
    A: Apply,
    A::Command: From<Command>,
    Answer: TryFrom<A::Answer>,
{
    /// The clock is the writer's; SQLite goes by it.
    pub fn new(db: Db, writer: Writer<A>, clock: Arc<dyn Clock>) -> Self {
        Self { db, writer, clock }
    }

    async fn submit(&self, command: Command) -> Result<Answer, Error> {
        let answer = self.writer.submit(command.into()).await?;
        answer.try_into().map_err(|_| unexpected())
    }

    async fn states(&self, ids: &[Uuid]) -> Result<Vec<State>, sql::Error> {
        let mut rows = HashMap::new();
        for ids in ids.chunks(READ_AT_ONCE) {
            let read: Vec<Read> = match &self.db {
                Db::Sqlite(pool) => sqlx::query_as(READ_SQLITE).bind(Json::ids(ids)).fetch_all(pool).await?,
                Db::Postgres(pool) => sqlx::query_as(READ_POSTGRES).bind(ids).fetch_all(pool).await?,
            };
            rows.extend(by_id(read));
        }
        let now = self.db.now(&*self.clock).await?.micros();
        let state = |id: &Uuid| match rows.get(id).filter(|row| row.expires_at > now) {
            None => State::Free,
            Some(Row { holder, token, expires_at, .. }) => {
                State::Held { holder: *holder, token: *token, expires_at: Timestamp::from_micros(*expires_at) }
            }
        };
        Ok(ids.iter().map(state).collect())
    }
}

impl<A> Claims for SqlClaims<A>
where
    A: Apply,
    A::Command: From<Command>,
    Answer: TryFrom<A::Answer>,
{
    fn acquire(&self, wish: Acquire) -> BoxFuture<'_, Result<Acquired, Error>> {
        async move {
            match self.submit(Command::Acquire(in_order(wish)?)).await? {
                Answer::Acquired(acquired) => Ok(acquired),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn extend(&self, claim: Claim, ttl: Duration) -> BoxFuture<'_, Result<Option<Timestamp>, Error>> {
        async move {
            match self.submit(Command::Extend { claim, ttl }).await? {
                Answer::Extended(end) => Ok(end),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            match self.submit(Command::Release { claim }).await? {
                Answer::Released(released) => Ok(released),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn get(&self, _partition: Uuid, resources: Vec<Uuid>) -> BoxFuture<'_, Result<Vec<State>, Error>> {
        async move { Ok(self.states(&resources).await?) }.boxed()
    }
}

fn unexpected() -> Error {
    Error::Unexpected { what: "another command's answer to a command about claims".to_owned() }
}
