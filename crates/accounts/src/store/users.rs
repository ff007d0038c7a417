//! Users: who they are, what they may be, and what of a password is kept.

use std::collections::BTreeSet;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Changed, Tx};
use tessera_store::{changed_sql, each_engine, each_tx};

use super::Store;
use super::sessions::{self, Ending, NewSession};
use crate::Error;
use crate::domain::ids::UserId;
use crate::domain::login::Login;

const ADMIN: &str = "admin";

/// A user as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who; its text is the subject of tokens.
    pub id: UserId,
    /// What they sign in with.
    pub login: String,
    /// What to call them.
    pub name: String,
    /// What they may be.
    pub roles: Vec<String>,
    /// Whether they may not sign in.
    pub is_disabled: bool,
    /// When they signed up.
    pub created_at: Timestamp,
    /// When the row changed last.
    pub updated_at: Timestamp,
}

/// A user who is new.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Who.
    pub id: UserId,
    /// What they sign in with.
    pub login: Login,
    /// What to call them.
    pub name: String,
    /// The hash of the password.
    pub password: String,
    /// What they may be.
    pub roles: Vec<String>,
}

/// An admin's word.
#[derive(Clone, Debug)]
pub struct Edit {
    /// About whom.
    pub id: UserId,
    /// What they may be from now on.
    pub roles: Option<Vec<String>>,
    /// Whether they may not sign in from now on.
    pub is_disabled: Option<bool>,
}

/// What came of an [`Edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It is so.
    Done(User),
    /// There is nobody of that id.
    Missing,
    /// Nobody would be admin any more.
    LastAdmin(User),
}

/// A new password in place of an old one.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    /// Whose.
    pub id: UserId,
    /// The hash that it must still have.
    pub old: String,
    /// The new hash.
    pub new: String,
    /// What becomes of its sessions.
    pub sessions: Sessions,
}

/// What a new hash does to the sessions of its account.
#[derive(Clone, Debug)]
pub enum Sessions {
    /// They go on: it is the same password, hashed in another way.
    GoOn,
    /// All end.
    End,
    /// All end, and this one begins.
    EndBut(NewSession),
}

#[derive(FromRow)]
pub(super) struct Row {
    id: Uuid,
    login: String,
    name: String,
    roles: String,
    is_disabled: i64,
    created_at: i64,
    updated_at: i64,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            login: row.login,
            name: row.name,
            // What cannot be read gives no role.
            roles: serde_json::from_str(&row.roles).unwrap_or_default(),
            is_disabled: row.is_disabled != 0,
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
        }
    }
}

#[derive(FromRow)]
struct WithPassword {
    password: String,
    #[sqlx(flatten)]
    row: Row,
}

pub(super) fn words(list: &[String]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

fn is_admin(roles: &[String]) -> bool {
    roles.iter().any(|role| role == ADMIN)
}

pub(super) async fn add(tx: &mut Tx<'_>, user: &NewUser) -> Result<Option<User>, sql::Error> {
    const ADD: &str =
        "INSERT INTO users (id, login, name, password, roles, is_admin, is_disabled, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $7) ON CONFLICT (login) DO NOTHING
         RETURNING id, login, name, roles, is_disabled, created_at, updated_at";
    let now = tx.now().await?.micros();
    let row: Option<Row> = each_tx!(tx, |connection| {
        sqlx::query_as(ADD)
            .bind(user.id.uuid())
            .bind(user.login.as_str())
            .bind(&user.name)
            .bind(&user.password)
            .bind(words(&user.roles))
            .bind(i64::from(is_admin(&user.roles)))
            .bind(now)
            .fetch_optional(connection)
            .await
    })?;
    Ok(row.map(User::from))
}

/// The user, whose row is ours until the end of the transaction.
pub(super) async fn lock(tx: &mut Tx<'_>, id: UserId) -> Result<Option<User>, sql::Error> {
    const LOCK: &str = "UPDATE users SET login = login WHERE id = $1
         RETURNING id, login, name, roles, is_disabled, created_at, updated_at";
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(LOCK).bind(id.uuid()).fetch_optional(connection).await)?;
    Ok(row.map(User::from))
}

/// The same, and the hash of the password.
pub(super) async fn lock_with_password(tx: &mut Tx<'_>, id: UserId) -> Result<Option<(User, String)>, sql::Error> {
    const LOCK: &str = "UPDATE users SET login = login WHERE id = $1
         RETURNING id, login, name, password, roles, is_disabled, created_at, updated_at";
    let row: Option<WithPassword> =
        each_tx!(tx, |connection| sqlx::query_as(LOCK).bind(id.uuid()).fetch_optional(connection).await)?;
    Ok(row.map(|found| (found.row.into(), found.password)))
}

/// Locks all who are admins and these others, in one order, so that two processes never wait for each other.
pub(super) async fn lock_admins(tx: &mut Tx<'_>, others: BTreeSet<Uuid>) -> Result<(), sql::Error> {
    const ADMINS: &str = "SELECT id FROM users WHERE is_admin = 1";
    let admins: Vec<Uuid> = each_tx!(tx, |connection| sqlx::query_scalar(ADMINS).fetch_all(connection).await)?;
    for id in others.into_iter().chain(admins).collect::<BTreeSet<_>>() {
        lock(tx, id.into()).await?;
    }
    Ok(())
}

pub(super) async fn read(tx: &mut Tx<'_>, id: UserId) -> Result<Option<User>, sql::Error> {
    const READ: &str = "SELECT id, login, name, roles, is_disabled, created_at, updated_at FROM users WHERE id = $1";
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(READ).bind(id.uuid()).fetch_optional(connection).await)?;
    Ok(row.map(User::from))
}

pub(super) async fn edit(tx: &mut Tx<'_>, edit: &Edit) -> Result<Edited, sql::Error> {
    // All who are admins: of two who end each other at the same moment one finds himself the last.
    const ADMINS: &str = "UPDATE users SET login = login WHERE is_admin = 1 RETURNING id, is_disabled";
    const EDIT: &str = "UPDATE users SET roles = $2, is_admin = $3, is_disabled = $4, updated_at = $5 WHERE id = $1
         RETURNING id, login, name, roles, is_disabled, created_at, updated_at";
    let admins: Vec<(Uuid, i64)> = each_tx!(tx, |connection| sqlx::query_as(ADMINS).fetch_all(connection).await)?;
    let Some(user) = lock(tx, edit.id).await? else { return Ok(Edited::Missing) };
    let roles = edit.roles.as_ref().unwrap_or(&user.roles);
    let is_disabled = edit.is_disabled.unwrap_or(user.is_disabled);
    let stays = is_admin(roles) && !is_disabled;
    let counts = |(id, is_disabled): &(Uuid, i64)| *id != edit.id.uuid() && *is_disabled == 0;
    let was = is_admin(&user.roles) && !user.is_disabled;
    if was && !stays && !admins.iter().any(counts) {
        return Ok(Edited::LastAdmin(user));
    }
    let now = tx.now().await?.micros();
    let row: Row = each_tx!(tx, |connection| {
        sqlx::query_as(EDIT)
            .bind(edit.id.uuid())
            .bind(words(roles))
            .bind(i64::from(is_admin(roles)))
            .bind(i64::from(is_disabled))
            .bind(now)
            .fetch_one(connection)
            .await
    })?;
    if is_disabled {
        sessions::end(tx, &Ending::All(edit.id)).await?;
    }
    Ok(Edited::Done(row.into()))
}

pub(super) async fn change_password(tx: &mut Tx<'_>, change: &PasswordChange) -> Result<Option<User>, sql::Error> {
    const CHANGE: &str = "UPDATE users SET password = $3, updated_at = $4 WHERE id = $1 AND password = $2
         RETURNING id, login, name, roles, is_disabled, created_at, updated_at";
    const REHASH: &str = "UPDATE users SET password = $3 WHERE id = $1 AND password = $2
         RETURNING id, login, name, roles, is_disabled, created_at, updated_at";
    let now = tx.now().await?.micros();
    let goes_on = matches!(change.sessions, Sessions::GoOn);
    let row: Option<Row> = each_tx!(tx, |connection| {
        let query = sqlx::query_as(if goes_on { REHASH } else { CHANGE });
        let query = query.bind(change.id.uuid()).bind(&change.old).bind(&change.new);
        let query = if goes_on { query } else { query.bind(now) };
        query.fetch_optional(connection).await
    })?;
    let Some(user) = row.map(User::from) else { return Ok(None) };
    if goes_on {
        return Ok(Some(user));
    }
    sessions::end(tx, &Ending::All(change.id)).await?;
    match &change.sessions {
        Sessions::EndBut(session) => sessions::begin(tx, session).await,
        Sessions::GoOn | Sessions::End => Ok(Some(user)),
    }
}

impl Store {
    /// A user.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        const READ: &str =
            "SELECT id, login, name, roles, is_disabled, created_at, updated_at FROM users WHERE id = $1";
        let row: Option<Row> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(id.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(User::from))
    }

    /// A user by what they sign in with, and the hash of the password.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn by_login(&self, login: &str) -> Result<Option<(User, String)>, Error> {
        const READ: &str =
            "SELECT id, login, name, password, roles, is_disabled, created_at, updated_at FROM users WHERE login = $1";
        let row: Option<WithPassword> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(login).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(|found| (found.row.into(), found.password)))
    }

    /// A page of the users in the order of change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn users_since(&self, page: Changed) -> Result<Vec<User>, Error> {
        const READ: &str =
            changed_sql!("SELECT id, login, name, roles, is_disabled, created_at, updated_at FROM users");
        let rows: Vec<Row> = self.db.changed(READ, page).await?;
        Ok(rows.into_iter().map(User::from).collect())
    }
}
