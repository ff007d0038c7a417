//! Programs with tokens of their own, and the codes that they redeem.

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Changed, Tx};
use tessera_store::{changed_sql, each_engine, each_tx};

use super::Store;
use super::sessions::{self, Ending};
use super::users::words;
use crate::Error;
use crate::domain::ids::{ClientId, UserId};

/// A program as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Which; its text is the subject of its tokens.
    pub id: ClientId,
    /// What it is called.
    pub name: String,
    /// What its own tokens may be.
    pub roles: Vec<String>,
    /// SHA-256 of its secret; none where it cannot keep one.
    pub secret: Option<Vec<u8>>,
    /// Where it may send people back to.
    pub redirect_uris: Vec<String>,
    /// Whether it was taken back.
    pub is_revoked: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the row changed last.
    pub updated_at: Timestamp,
}

/// A program that is new.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// Which.
    pub id: ClientId,
    /// What it is called; nobody else is.
    pub name: String,
    /// What its own tokens may be.
    pub roles: Vec<String>,
    /// SHA-256 of its secret.
    pub secret: Option<[u8; 32]>,
    /// Where it may send people back to.
    pub redirect_uris: Vec<String>,
}

/// An authorization code, until it is redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Who has agreed.
    pub user: UserId,
    /// To which program.
    pub client: ClientId,
    /// Where the code was sent.
    pub redirect_uri: String,
    /// SHA-256 of what the program must show, base64url (RFC 7636).
    pub challenge: String,
    /// For the program to tell its own sign-ins apart.
    pub nonce: Option<String>,
    /// What was asked for.
    pub scope: String,
    /// When it is over.
    pub expires_at: Timestamp,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    roles: String,
    secret: Option<Vec<u8>>,
    redirect_uris: String,
    is_revoked: i64,
    created_at: i64,
    updated_at: i64,
}

impl From<Row> for Client {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            roles: serde_json::from_str(&row.roles).unwrap_or_default(),
            secret: row.secret,
            redirect_uris: serde_json::from_str(&row.redirect_uris).unwrap_or_default(),
            is_revoked: row.is_revoked != 0,
            created_at: Timestamp::from_micros(row.created_at),
            updated_at: Timestamp::from_micros(row.updated_at),
        }
    }
}

#[derive(FromRow)]
struct CodeRow {
    user_id: Uuid,
    client_id: Uuid,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    scope: String,
    expires_at: i64,
}

impl From<CodeRow> for Code {
    fn from(row: CodeRow) -> Self {
        Self {
            user: row.user_id.into(),
            client: row.client_id.into(),
            redirect_uri: row.redirect_uri,
            challenge: row.challenge,
            nonce: row.nonce,
            scope: row.scope,
            expires_at: Timestamp::from_micros(row.expires_at),
        }
    }
}

pub(super) async fn add(tx: &mut Tx<'_>, client: &NewClient) -> Result<Option<Client>, sql::Error> {
    const ADD: &str = "INSERT INTO clients (id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $6) ON CONFLICT (name) DO NOTHING
         RETURNING id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at";
    let now = tx.now().await?.micros();
    let row: Option<Row> = each_tx!(tx, |connection| {
        sqlx::query_as(ADD)
            .bind(client.id.uuid())
            .bind(&client.name)
            .bind(words(&client.roles))
            .bind(client.secret.as_ref().map(<[u8; 32]>::as_slice))
            .bind(words(&client.redirect_uris))
            .bind(now)
            .fetch_optional(connection)
            .await
    })?;
    Ok(row.map(Client::from))
}

pub(super) async fn revoke(tx: &mut Tx<'_>, id: ClientId) -> Result<Option<Client>, sql::Error> {
    const REVOKE: &str = "UPDATE clients SET is_revoked = 1, updated_at = $2 WHERE id = $1
         RETURNING id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at";
    let now = tx.now().await?.micros();
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(REVOKE).bind(id.uuid()).bind(now).fetch_optional(connection).await)?;
    sessions::end(tx, &Ending::OfClient(id, "client revoked")).await?;
    Ok(row.map(Client::from))
}

pub(super) async fn add_code(tx: &mut Tx<'_>, hash: &[u8; 32], code: &Code) -> Result<(), sql::Error> {
    const ADD: &str = "INSERT INTO codes (hash, user_id, client_id, redirect_uri, challenge, nonce, scope, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    each_tx!(tx, |connection| {
        sqlx::query(ADD)
            .bind(hash.as_slice())
            .bind(code.user.uuid())
            .bind(code.client.uuid())
            .bind(&code.redirect_uri)
            .bind(&code.challenge)
            .bind(code.nonce.as_deref())
            .bind(&code.scope)
            .bind(code.expires_at.micros())
            .execute(connection)
            .await
            .map(drop)
    })?;
    Ok(())
}

pub(super) async fn redeem_code(tx: &mut Tx<'_>, hash: &[u8; 32]) -> Result<Option<Code>, sql::Error> {
    const REDEEM: &str = "DELETE FROM codes WHERE hash = $1
         RETURNING user_id, client_id, redirect_uri, challenge, nonce, scope, expires_at";
    let row: Option<CodeRow> =
        each_tx!(tx, |connection| sqlx::query_as(REDEEM).bind(hash.as_slice()).fetch_optional(connection).await)?;
    let now = tx.now().await?;
    Ok(row.map(Code::from).filter(|code| now < code.expires_at))
}

pub(super) async fn sweep(tx: &mut Tx<'_>) -> Result<(), sql::Error> {
    const SWEEP: &str = "DELETE FROM codes WHERE expires_at < $1";
    let now = tx.now().await?.micros();
    each_tx!(tx, |connection| sqlx::query(SWEEP).bind(now).execute(connection).await.map(drop))?;
    Ok(())
}

impl Store {
    /// A program.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn client(&self, id: ClientId) -> Result<Option<Client>, Error> {
        const READ: &str = "SELECT id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at
             FROM clients WHERE id = $1";
        let row: Option<Row> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(id.uuid()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(Client::from))
    }

    /// A page of the programs in the order of change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clients_since(&self, page: Changed) -> Result<Vec<Client>, Error> {
        const READ: &str = changed_sql!(
            "SELECT id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at FROM clients"
        );
        let rows: Vec<Row> = self.db.changed(READ, page).await?;
        Ok(rows.into_iter().map(Client::from).collect())
    }
}
