//! The API: routes and wire types. The only room that knows JSON, cookies and status codes.

mod caller;
mod clients;
mod discovery;
mod oauth;
mod sign_in;
mod users;
mod wire;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{delete, get, patch, post};
use serde_json::{Map, Value, json};
use tessera_kernel::ErrorKind;
use tessera_service::openapi::{Token, say_tokens};
use tessera_service::{Keys, ProductError};
use utoipa::OpenApi;

use crate::Error;
use crate::app::App;

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn code(&self) -> &'static str {
        self.code()
    }

    fn status(&self) -> u16 {
        match self {
            Self::Service(error) => error.status(),
            _ => self.kind().status(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Throttled { after_s, .. } => Some(*after_s),
            Self::Busy => Some(1),
            _ => None,
        }
    }

    /// Programs look for `error` (RFC 6749, 5.2).
    fn members(&self) -> Map<String, Value> {
        let members = match self {
            Self::BadClient => json!({ "error": "invalid_client" }),
            Self::BadGrant { error, .. } => json!({ "error": error }),
            Self::SessionOver => json!({ "error": "invalid_grant" }),
            Self::Busy => json!({ "error": "temporarily_unavailable" }),
            _ => Value::Null,
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

impl FromRef<App> for Keys {
    fn from_ref(app: &App) -> Self {
        app.keys().clone()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tessera accounts", description = "Sign-up, sign-in, tokens, roles, programs, keys."),
    paths(
        sign_in::sign_up,
        sign_in::sign_in,
        sign_in::refresh,
        sign_in::sign_out,
        sign_in::password,
        users::me,
        users::list,
        users::show,
        users::edit,
        clients::make,
        clients::list,
        clients::revoke,
        oauth::authorize,
        oauth::authorize_form,
        oauth::asks,
        oauth::agrees,
        oauth::agree,
        oauth::token,
        oauth::revoke,
        oauth::userinfo,
        oauth::userinfo_post,
        discovery::configuration,
        discovery::jwks
    )
)]
struct Document;

/// The routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/accounts/sign-up", post(sign_in::sign_up))
        .route("/accounts/sign-in", post(sign_in::sign_in))
        .route("/accounts/refresh", post(sign_in::refresh))
        .route("/accounts/sign-out", post(sign_in::sign_out))
        .route("/accounts/password", post(sign_in::password))
        .route("/accounts/me", get(users::me))
        .route("/accounts/users", get(users::list))
        .route("/accounts/users/{id}", get(users::show))
        .route("/accounts/users/{id}", patch(users::edit))
        .route("/accounts/clients", get(clients::list).post(clients::make))
        .route("/accounts/clients/{id}", delete(clients::revoke))
        .route("/accounts/authorize", get(oauth::agrees).post(oauth::agree))
        .route("/oauth/authorize", get(oauth::authorize).post(oauth::authorize_form))
        .route("/oauth/asks", get(oauth::asks))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/revoke", post(oauth::revoke))
        .route("/oauth/userinfo", get(oauth::userinfo).post(oauth::userinfo_post))
        .route("/.well-known/openid-configuration", get(discovery::configuration))
        .route("/.well-known/jwks.json", get(discovery::jwks))
        .with_state(app)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> Value {
    // A document of plain structs always serialises.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    say_tokens(&mut document, |method, path| match path {
        "/accounts/sign-up" | "/accounts/sign-in" | "/accounts/refresh" | "/accounts/sign-out" => Token::Unread,
        // By the cookie of the session.
        "/accounts/authorize" if method == "get" => Token::Unread,
        "/oauth/userinfo" => Token::Wanted,
        path if path.starts_with("/oauth/") || path.starts_with("/.well-known/") => Token::Unread,
        _ => Token::Wanted,
    });
    document
}
