//! Sessions: a row for each family of refresh tokens.

use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, each_tx};

use super::Store;
use super::users::{self, User};
use crate::Error;
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::session::{Rules, Session, Turn};

/// How long a session that is over is kept, so that a stolen token is told from one that never was.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// Sessions of an account that are kept. One more, and the one that was not used for the longest time ends.
const MAX_SESSIONS: i64 = 100;

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
    /// The hash of the password that was shown: the account must still have it. None where none was shown.
    pub password: Option<String>,
}

/// What never changes of a session.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What its tokens are worked out of.
    pub seed: Vec<u8>,
    /// Whose it is.
    pub user: UserId,
    /// The program that it is for; none for our own pages.
    pub client: Option<ClientId>,
    /// When it began.
    pub created_at: Timestamp,
}

/// Which sessions end.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// This one.
    One(SessionId),
    /// All of a user.
    All(UserId),
    /// All of a program.
    OfClient(ClientId),
}

/// How far somebody signs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOut {
    /// Here.
    Here,
    /// Wherever the account is signed in.
    Everywhere,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It goes on: the session as it is now, with its present token's number.
    On(Turn, Session, Box<User>),
    /// It was stolen, and the session is ended.
    Stolen(UserId),
    /// It is over, or there is none.
    Over,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    client_id: Option<Uuid>,
    seed: Vec<u8>,
    generation: i64,
    created_at: i64,
    rotated_at: i64,
    ends_at: i64,
    ended_at: Option<i64>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            user: row.user_id.into(),
            client: row.client_id.map(ClientId::from),
            seed: row.seed,
            generation: u32::try_from(row.generation).unwrap_or_default(),
            created_at: Timestamp::from_micros(row.created_at),
            rotated_at: Timestamp::from_micros(row.rotated_at),
            ends_at: Timestamp::from_micros(row.ends_at),
            is_ended: row.ended_at.is_some(),
        }
    }
}

/// Begins it, if its user may sign in: gives the user as they are then.
pub(super) async fn begin(tx: &mut Tx<'_>, session: &NewSession) -> Result<Option<User>, sql::Error> {
    const BEGIN: &str =
        "INSERT INTO sessions (id, user_id, seed, generation, rotated_at, created_at, ends_at, client_id)
         VALUES ($1, $2, $3, 0, $4, $4, $5, $6)";
    // Those that are over go first, then those that nobody has used for the longest time.
    const LEAVE: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = $1
         ORDER BY CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END, rotated_at DESC, id DESC LIMIT $3 OFFSET $2)";
    // Under its lock: who is disabled or has another password at the same moment has no session afterwards.
    let Some((user, password)) = users::lock_with_password(tx, session.user).await? else { return Ok(None) };
    if user.is_disabled || session.password.as_ref().is_some_and(|expected| *expected != password) {
        return Ok(None);
    }
    let now = tx.now().await?;
    each_tx!(tx, |connection| {
        let leave = sqlx::query(LEAVE).bind(session.user.uuid()).bind(MAX_SESSIONS - 1).bind(i64::from(i32::MAX));
        leave.execute(&mut *connection).await?;
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
    Ok(Some(user))
}

/// What becomes of the token of that number, and its session, whose row is ours until the end of the transaction. One that was stolen is ended.
async fn present(
    tx: &mut Tx<'_>,
    id: SessionId,
    generation: u32,
    rules: Rules,
) -> Result<(Turn, Option<(Session, Timestamp)>), sql::Error> {
    const LOCK: &str = "UPDATE sessions SET generation = generation WHERE id = $1
         RETURNING id, user_id, client_id, seed, generation, created_at, rotated_at, ends_at, ended_at";
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(LOCK).bind(id.uuid()).fetch_optional(connection).await)?;
    let Some(session) = row.map(Session::from) else { return Ok((Turn::Over, None)) };
    let now = tx.now().await?;
    let turn = session.turn(generation, now, rules);
    if turn == Turn::Stolen {
        end(tx, &Ending::One(id)).await?;
    }
    Ok((turn, Some((session, now))))
}

pub(super) async fn refresh(
    tx: &mut Tx<'_>,
    id: SessionId,
    generation: u32,
    rules: Rules,
) -> Result<Refreshed, sql::Error> {
    const NEXT: &str = "UPDATE sessions SET generation = generation + 1, rotated_at = $2 WHERE id = $1";
    let (turn, session) = match present(tx, id, generation, rules).await? {
        (Turn::Over, _) | (_, None) => return Ok(Refreshed::Over),
        (Turn::Stolen, Some((session, _))) => return Ok(Refreshed::Stolen(session.user)),
        (Turn::Again, Some((session, _))) => (Turn::Again, session),
        (Turn::Next, Some((session, now))) => {
            each_tx!(tx, |connection| {
                sqlx::query(NEXT).bind(id.uuid()).bind(now.micros()).execute(connection).await.map(drop)
            })?;
            (Turn::Next, Session { generation: session.generation + 1, rotated_at: now, ..session })
        }
    };
    Ok(match users::read(tx, session.user).await? {
        Some(user) if !user.is_disabled => Refreshed::On(turn, session, Box::new(user)),
        _ => Refreshed::Over,
    })
}

/// Ends the session of a token, or all of its user where that token is still good.
pub(super) async fn sign_out(
    tx: &mut Tx<'_>,
    id: SessionId,
    user: UserId,
    generation: u32,
    from: SignOut,
    rules: Rules,
) -> Result<(), sql::Error> {
    // Before the sessions, as everywhere: what begins at this moment is ended too, or comes after.
    if from == SignOut::Everywhere {
        users::lock(tx, user).await?;
    }
    let ending = match (present(tx, id, generation, rules).await?, from) {
        ((Turn::Next | Turn::Again, Some(_)), SignOut::Everywhere) => Ending::All(user),
        _ => Ending::One(id),
    };
    end(tx, &ending).await
}

/// Whether that is the token of an open session of our own pages, and of this user. Its row is ours then.
pub(super) async fn is_at_home(
    tx: &mut Tx<'_>,
    id: SessionId,
    generation: u32,
    user: UserId,
    rules: Rules,
) -> Result<bool, sql::Error> {
    let (turn, session) = present(tx, id, generation, rules).await?;
    let fits = session.is_some_and(|(session, _)| session.user == user && session.client.is_none());
    Ok(matches!(turn, Turn::Next | Turn::Again) && fits)
}

/// A session that is not over.
pub(super) async fn open(tx: &mut Tx<'_>, id: SessionId, rules: Rules) -> Result<Option<Session>, sql::Error> {
    const READ: &str = "SELECT id, user_id, client_id, seed, generation, created_at, rotated_at, ends_at, ended_at
         FROM sessions WHERE id = $1";
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(READ).bind(id.uuid()).fetch_optional(connection).await)?;
    let now = tx.now().await?;
    Ok(row.map(Session::from).filter(|session| !session.is_over(now, rules)))
}

pub(super) async fn end(tx: &mut Tx<'_>, ending: &Ending) -> Result<(), sql::Error> {
    const ONE: &str = "UPDATE sessions SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL";
    const ALL: &str = "UPDATE sessions SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL";
    const OF_CLIENT: &str = "UPDATE sessions SET ended_at = $2 WHERE client_id = $1 AND ended_at IS NULL";
    let now = tx.now().await?.micros();
    let (text, id) = match ending {
        Ending::One(session) => (ONE, session.uuid()),
        Ending::All(user) => (ALL, user.uuid()),
        Ending::OfClient(client) => (OF_CLIENT, client.uuid()),
    };
    each_tx!(tx, |connection| sqlx::query(text).bind(id).bind(now).execute(connection).await.map(drop))?;
    Ok(())
}

/// Forgets up to so many that were over long ago, of each sort. Tells how many.
pub(super) async fn sweep(tx: &mut Tx<'_>, most: i64) -> Result<u64, sql::Error> {
    const OLD: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ends_at < $1 LIMIT $2)";
    const ENDED: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended_at < $1 LIMIT $2)";
    let until = tx.now().await?.minus(KEPT_FOR).micros();
    let mut swept = 0;
    for text in [OLD, ENDED] {
        swept += each_tx!(tx, |connection| {
            sqlx::query(text).bind(until).bind(most).execute(connection).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(swept)
}

impl Store {
    /// What never changes of a session.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seed(&self, id: SessionId) -> Result<Option<Seed>, Error> {
        const READ: &str = "SELECT seed, user_id, client_id, created_at FROM sessions WHERE id = $1";
        let row: Option<(Vec<u8>, Uuid, Option<Uuid>, i64)> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(id.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(|(seed, user, client, created_at)| Seed {
            seed,
            user: user.into(),
            client: client.map(ClientId::from),
            created_at: Timestamp::from_micros(created_at),
        }))
    }
}
