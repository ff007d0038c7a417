//! What others need to verify our tokens: the discovery document (OpenID Connect Discovery 1.0, RFC 8414) and the keys (RFC 7517).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use serde_json::json;
use tessera_service::Problem;
use tessera_service::http::Json;
use tessera_service::identity::ROLES;

use crate::app::App;

/// As long as a rotated key is published before it signs (`config::KEY_LEAD`).
const CACHED: &str = "public, max-age=300";

/// The discovery document.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    responses((status = 200, description = "the discovery document"))
)]
pub(super) async fn configuration(State(app): State<App>) -> Response {
    let issuer = app.issuer();
    // A file may have to be read.
    let keys = app.keys().clone();
    let Ok(algorithms) = tokio::task::spawn_blocking(move || keys.algorithms()).await else {
        return Problem::from(tessera_service::Error::Panicked).into_response();
    };
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/oauth/authorize"),
        "token_endpoint": format!("{issuer}/oauth/token"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "userinfo_endpoint": format!("{issuer}/oauth/userinfo"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "scopes_supported": ["openid", "profile", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        // True where it is not said.
        "request_uri_parameter_supported": false,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "name", "preferred_username", "roles"],
        "authorization_response_iss_parameter_supported": true,
        "roles_supported": ROLES,
    });
    ([(CACHE_CONTROL, CACHED)], Json(document)).into_response()
}

/// The public keys, the next ones among them.
#[utoipa::path(get, path = "/.well-known/jwks.json", responses((status = 200, description = "a JWK set")))]
pub(super) async fn jwks(State(app): State<App>) -> Response {
    // A file may have to be read.
    let keys = app.keys().clone();
    match tokio::task::spawn_blocking(move || keys.jwks()).await {
        Ok(set) => ([(CACHE_CONTROL, CACHED)], Json(set)).into_response(),
        Err(_) => Problem::from(tessera_service::Error::Panicked).into_response(),
    }
}
