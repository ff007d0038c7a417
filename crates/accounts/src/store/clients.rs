//! Programs with tokens of their own, and the codes that they redeem.

use std::time::Duration;

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Changed, Tx};
use tessera_store::{changed_sql, each_engine, each_tx};

use super::Store;
use super::sessions::{self, Ending, NewSession};
use super::users::{self, User, words};
use crate::Error;
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::session::Rules;

/// How long a code is remembered that is over: one that comes a second time was copied, and ends what it gave.
const CODES_KEPT_FOR: Duration = Duration::from_secs(3_600);

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

/// A code that is redeemed.
#[derive(Clone, Debug)]
pub struct Redemption {
    /// Its SHA-256.
    pub hash: [u8; 32],
    /// As it was read.
    pub code: Code,
    /// The session that it gives; none where it was shown with what does not fit it, so that it is void.
    pub session: Option<NewSession>,
}

/// An authorization code; it is kept for a while after it was redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Who has agreed.
    pub user: UserId,
    /// To which program.
    pub client: ClientId,
    /// In which session of a browser.
    pub session: SessionId,
    /// The session that it gave; none before it is redeemed.
    pub gave: Option<SessionId>,
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
    session_id: Uuid,
    gave: Option<Uuid>,
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
            session: row.session_id.into(),
            gave: row.gave.map(SessionId::from),
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
         VALUES ($1, $2, $3, $4, $5, 0, $6, $6) ON CONFLICT (name) WHERE is_revoked = 0 DO NOTHING
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
    // Sessions before programs, as everywhere. One that begins meanwhile is taken from a program that is known no more.
    sessions::end(tx, &Ending::OfClient(id)).await?;
    let now = tx.now().await?.micros();
    let row: Option<Row> =
        each_tx!(tx, |connection| sqlx::query_as(REVOKE).bind(id.uuid()).bind(now).fetch_optional(connection).await)?;
    Ok(row.map(Client::from))
}

/// Keeps a code, if the token of that number is of an open session of its user's browser.
pub(super) async fn add_code(
    tx: &mut Tx<'_>,
    hash: &[u8; 32],
    code: &Code,
    generation: u32,
    rules: Rules,
) -> Result<bool, sql::Error> {
    const ADD: &str =
        "INSERT INTO codes (hash, user_id, client_id, session_id, redirect_uri, challenge, nonce, scope, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    if !sessions::is_at_home(tx, code.session, generation, code.user, rules).await? {
        return Ok(false);
    }
    each_tx!(tx, |connection| {
        sqlx::query(ADD)
            .bind(hash.as_slice())
            .bind(code.user.uuid())
            .bind(code.client.uuid())
            .bind(code.session.uuid())
            .bind(&code.redirect_uri)
            .bind(&code.challenge)
            .bind(code.nonce.as_deref())
            .bind(&code.scope)
            .bind(code.expires_at.micros())
            .execute(connection)
            .await
            .map(drop)
    })?;
    Ok(true)
}

/// Gives the session of a code to the first who asks, while the browser in which it was agreed to is still signed in: the user, and when
/// they had signed in. A code that gives none is void.
pub(super) async fn redeem(
    tx: &mut Tx<'_>,
    redemption: &Redemption,
    rules: Rules,
) -> Result<Option<(User, Timestamp)>, sql::Error> {
    const GIVE: &str = "UPDATE codes SET gave = $2 WHERE hash = $1 AND gave IS NULL AND expires_at > $3";
    const VOID: &str = "DELETE FROM codes WHERE hash = $1 AND gave IS NULL";
    let Redemption { hash, code, session } = redemption;
    // Before it is asked whether that browser is signed in: whoever signs out everywhere takes the same lock.
    users::lock(tx, code.user).await?;
    if let (Some(session), Some(agreed)) = (session, sessions::open(tx, code.session, rules).await?) {
        let now = tx.now().await?.micros();
        let given = each_tx!(tx, |connection| {
            let give = sqlx::query(GIVE).bind(hash.as_slice()).bind(session.id.uuid()).bind(now);
            give.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let begun = if given > 0 { sessions::begin(tx, session).await? } else { None };
        return Ok(begun.map(|user| (user, agreed.created_at)));
    }
    each_tx!(tx, |connection| sqlx::query(VOID).bind(hash.as_slice()).execute(connection).await.map(drop))?;
    Ok(None)
}

/// Forgets up to so many codes that were over long ago. Tells how many.
pub(super) async fn sweep(tx: &mut Tx<'_>, most: i64) -> Result<u64, sql::Error> {
    const SWEEP: &str = "DELETE FROM codes WHERE hash IN (SELECT hash FROM codes WHERE expires_at < $1 LIMIT $2)";
    let until = tx.now().await?.minus(CODES_KEPT_FOR).micros();
    let swept = each_tx!(tx, |connection| {
        sqlx::query(SWEEP).bind(until).bind(most).execute(connection).await.map(|done| done.rows_affected())
    })?;
    Ok(swept)
}

impl Store {
    /// A code, whether it was redeemed or not.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn code(&self, hash: [u8; 32]) -> Result<Option<Code>, Error> {
        const READ: &str =
            "SELECT user_id, client_id, session_id, gave, redirect_uri, challenge, nonce, scope, expires_at
             FROM codes WHERE hash = $1";
        let row: Option<CodeRow> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(hash.as_slice()).fetch_optional(pool).await.map_err(sql::Error::from)
        })?;
        Ok(row.map(Code::from))
    }

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
