//! Bodies that several routes have.

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;
use utoipa::ToSchema;

use crate::app::SignedIn;
use crate::store::{Client, User};

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

/// What changed then or later.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    updated_since: Option<Timestamp>,
}

impl Since {
    pub fn at(&self) -> Timestamp {
        self.updated_since.unwrap_or(Timestamp::from_micros(0))
    }
}
