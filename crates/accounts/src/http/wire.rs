//! Bodies that several routes have.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tessera_kernel::{Timestamp, Uuid};
use tessera_service::http::{Page, Since};
use utoipa::ToSchema;

use crate::app::SignedIn;
use crate::store::{Changed, Client, User};

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserBody {
    /// The subject of their tokens.
    #[schema(value_type = String)]
    id: crate::domain::ids::UserId,
    /// What they sign in with.
    login: String,
    /// What to call them.
    name: String,
    roles: Vec<String>,
    /// Whether they may not sign in.
    disabled: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let User { id, login, name, roles, is_disabled, created_at, updated_at } = user;
        Self { id, login, name, roles, disabled: is_disabled, created_at, updated_at }
    }
}

/// Somebody has signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedInBody {
    /// For `authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// For the next access token; not there where it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    user: UserBody,
}

impl SignedInBody {
    pub fn new(signed_in: SignedIn, expires_in_s: u32, is_in_cookie: bool) -> Self {
        Self {
            access_token: signed_in.access_token,
            token_type: "Bearer",
            expires_in: expires_in_s.into(),
            expires_at: signed_in.expires_at,
            refresh_token: (!is_in_cookie).then_some(signed_in.refresh_token),
            user: signed_in.user.into(),
        }
    }
}

/// A program.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientBody {
    /// The subject of its tokens.
    #[schema(value_type = String)]
    id: crate::domain::ids::ClientId,
    name: String,
    /// What its own tokens may be.
    roles: Vec<String>,
    /// Where it may send people back to.
    redirect_uris: Vec<String>,
    /// Whether it has no secret.
    public: bool,
    revoked: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Client> for ClientBody {
    fn from(client: Client) -> Self {
        let Client { id, name, roles, secret, redirect_uris, is_revoked, created_at, updated_at } = client;
        Self { id, name, roles, redirect_uris, public: secret.is_none(), revoked: is_revoked, created_at, updated_at }
    }
}

/// The page of a list in the order of change that a query asks for, and one item more. The cursor is the last one's time and id.
pub(super) fn changed<I: DeserializeOwned>(
    since: Since,
    page: &Page,
    uuid: fn(I) -> Uuid,
) -> Result<Changed, tessera_service::Error> {
    let limit = u32::try_from(page.limit()).unwrap_or(u32::MAX).saturating_add(1);
    let after: Option<(Timestamp, I)> = page.after()?;
    Ok(Changed { since: since.at(), after: after.map(|(at, id)| (at, uuid(id))), limit })
}
