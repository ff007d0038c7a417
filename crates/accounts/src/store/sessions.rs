//! Sessions: a row for each family of refresh tokens.

use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, each_tx};

use super::users::{self, User};
use super::{Store, throttles};
use crate::Error;
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::session::{Rules, Session, Turn};

/// How long a session that is over is kept, so that a stolen token is told from one that never was.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// A session that begins.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The program that signs its person in; none for our own pages.
    pub client: Option<ClientId>,
    /// What its tokens are worked out of.
    pub seed: [u8; 32],
    /// How long it lasts.
    pub ttl: Duration,
    /// The throttle whose attempts were no wrong ones.
    pub clear: Option<[u8; 32]>,
}

/// Which sessions end, and why.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// This one.
    One(SessionId, &'static str),
    /// All of a user.
    All(UserId, &'static str),
    /// All of a program.
    OfClient(ClientId, &'static str),
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It goes on: the session as it is now, with its present token's number.
    On(Turn, Session, User),
    /// It was stolen, and the session is ended.
    Stolen(UserId),
    /// It is over, or there is none.
    Over,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    seed: Vec<u8>,
    generation: i64,
    rotated_at: i64,
    ends_at: i64,
    ended_at: Option<i64>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            user: row.user_id.into(),
            seed: row.seed,
            generation: u32::try_from(row.generation).unwrap_or_default(),
            rotated_at: Timestamp::from_micros(row.rotated_at),
            ends_at: Timestamp::from_micros(row.ends_at),
            is_ended: row.ended_at.is_some(),
        }
    }
}

pub(super) async fn begin(tx: &mut Tx<'_>, session: &NewSession) -> Result<bool, sql::Error> {
    const BEGIN: &str =
        "INSERT INTO sessions (id, user_id, seed, generation, rotated_at, created_at, ends_at, client_id)
         VALUES ($1, $2, $3, 0, $4, $4, $5, $6)";
    // Under its lock: who is disabled at the same moment has no session afterwards.
    let user = users::lock(tx, session.user).await?;
    if user.is_none_or(|user| user.is_disabled) {
        return Ok(false);
    }
    let now = tx.now().await?;
    each_tx!(tx, |connection| {
        sqlx::query(BEGIN)
            .bind(session.id.uuid())
            .bind(session.user.uuid())
            .bind(session.seed.as_slice())
            .bind(now.micros())
            .bind(now.plus(session.ttl).micros())
            .bind(session.client.map(ClientId::uuid))
            .execute(connection)
            .await
            .map(drop)
    })?;
    if let Some(key) = &session.clear {
        throttles::clear(tx, key).await?;
    }
    Ok(true)
}

pub(super) async fn refresh(
    tx: &mut Tx<'_>,
    id: SessionId,
    generation: u32,
    rules: Rules,
) -> Result<Refreshed, sql::Error> {
    const LOCK: &str = "UPDATE sessions SET generation = generation WHERE id = $1
         RETURNING id, user_id, seed, generation, rotated_at, ends_at, ended_at";
    const NEXT: &str = "UPDATE sessions SET generation = generation + 1, rotated_at = $2 WHERE id = $1";
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(LOCK).bind(id.uuid()).fetch_optional(connection).await)?;
    let Some(mut session) = row.map(Session::from) else { return Ok(Refreshed::Over) };
    let now = tx.now().await?;
    let turn = session.turn(generation, now, rules);
    match turn {
        Turn::Over => return Ok(Refreshed::Over),
        Turn::Stolen => {
            end(tx, &Ending::One(id, "reused")).await?;
            return Ok(Refreshed::Stolen(session.user));
        }
        Turn::Again => {}
        Turn::Next => {
            each_tx!(tx, |connection| {
                sqlx::query(NEXT).bind(id.uuid()).bind(now.micros()).execute(connection).await.map(drop)
            })?;
            (session.generation, session.rotated_at) = (session.generation + 1, now);
        }
    }
    Ok(match users::read(tx, session.user).await? {
        Some(user) if !user.is_disabled => Refreshed::On(turn, session, user),
        _ => Refreshed::Over,
    })
}

pub(super) async fn end(tx: &mut Tx<'_>, ending: &Ending) -> Result<(), sql::Error> {
    const ONE: &str = "UPDATE sessions SET ended_at = $2, ended_why = $3 WHERE id = $1 AND ended_at IS NULL";
    const ALL: &str = "UPDATE sessions SET ended_at = $2, ended_why = $3 WHERE user_id = $1 AND ended_at IS NULL";
    const OF_CLIENT: &str =
        "UPDATE sessions SET ended_at = $2, ended_why = $3 WHERE client_id = $1 AND ended_at IS NULL";
    let now = tx.now().await?.micros();
    let (text, id, why) = match ending {
        Ending::One(session, why) => (ONE, session.uuid(), why),
        Ending::All(user, why) => (ALL, user.uuid(), why),
        Ending::OfClient(client, why) => (OF_CLIENT, client.uuid(), why),
    };
    each_tx!(tx, |connection| sqlx::query(text).bind(id).bind(now).bind(*why).execute(connection).await.map(drop))?;
    Ok(())
}

pub(super) async fn sweep(tx: &mut Tx<'_>) -> Result<(), sql::Error> {
    const SWEEP: &str = "DELETE FROM sessions WHERE ends_at < $1";
    let until = tx.now().await?.minus(KEPT_FOR).micros();
    each_tx!(tx, |connection| sqlx::query(SWEEP).bind(until).execute(connection).await.map(drop))?;
    Ok(())
}

impl Store {
    /// What the tokens of a session are worked out of, and the program that it is for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seed(&self, id: SessionId) -> Result<Option<(Vec<u8>, Option<ClientId>)>, Error> {
        const READ: &str = "SELECT seed, client_id FROM sessions WHERE id = $1";
        let row: Option<(Vec<u8>, Option<Uuid>)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(id.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(|(seed, client)| (seed, client.map(ClientId::from))))
    }
}
