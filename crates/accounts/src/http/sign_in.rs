//! Signing up, in and out, the next token, another password.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tessera_service::http::Json;
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::caller::Caller;
use super::wire::SignedInBody;
use crate::Error;
use crate::app::{App, SignedIn};
use crate::store::SignOut;

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignUpBody {
    /// An email address, or a name of 3 to 64 letters a to z, digits, dots, hyphens and underscores.
    login: String,
    password: String,
    /// What to call them: up to 80 characters.
    name: Option<String>,
}

/// Makes an account, if there is none of that name. The answer is the same if there is: sign in to find out.
#[utoipa::path(
    post,
    path = "/accounts/sign-up",
    request_body = SignUpBody,
    responses((status = 202, description = "sign in now"), (status = 400), (status = 403), (status = 429))
)]
pub(super) async fn sign_up(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<SignUpBody>,
) -> Result<Response, Problem> {
    app.sign_up(&body.login, &body.password, body.name.as_deref(), caller.address).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "next": "sign_in" }))).into_response())
}

/// Name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInBody {
    login: String,
    password: String,
    /// Whether the refresh token goes into a cookie that no script reads, and is left out of the answer. For pages.
    #[serde(default)]
    cookie: bool,
}

/// Begins a session.
#[utoipa::path(
    post,
    path = "/accounts/sign-in",
    request_body = SignInBody,
    responses((status = 200, body = SignedInBody), (status = 401), (status = 429))
)]
pub(super) async fn sign_in(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<SignInBody>,
) -> Result<Response, Problem> {
    let signed_in = app.sign_in(&body.login, &body.password, caller.address).await?;
    // The browser forgets the cookie that it had, so nobody could end that session any more.
    if let (true, Ok(Some(before))) = (body.cookie, caller.cookie())
        && let Err(error) = app.sign_out(before, None, SignOut::Here).await
    {
        tracing::warn!(error.detail = %error, "the session that this browser had goes on");
    }
    Ok(answer(&app, &caller, signed_in, body.cookie))
}

/// A refresh token; without one the cookie counts.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    refresh_token: Option<String>,
}

/// The next access token, and the next refresh token. Each is used once; one that comes again later than a few seconds ends the session.
#[utoipa::path(
    post,
    path = "/accounts/refresh",
    request_body = RefreshBody,
    responses((status = 200, body = SignedInBody), (status = 401), (status = 403))
)]
pub(super) async fn refresh(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<RefreshBody>,
) -> Result<Response, Problem> {
    if let Some(token) = &body.refresh_token {
        let signed_in = app.refresh(token, None).await?;
        return Ok(answer(&app, &caller, signed_in, false));
    }
    let token = caller.cookie()?.ok_or(Error::SessionOver)?;
    match app.refresh(token, None).await {
        Ok(signed_in) => Ok(answer(&app, &caller, signed_in, true)),
        Err(error @ Error::SessionOver) => Ok(with_cookie(Problem::from(error).into_response(), &caller.forget())),
        Err(error) => Err(error.into()),
    }
}

/// Which session ends.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignOutBody {
    /// Without one the cookie counts.
    refresh_token: Option<String>,
    /// Whether all sessions of the account end.
    #[serde(default)]
    everywhere: bool,
}

/// Ends the session. An access token lasts to its end. A program gives its token back at `/oauth/revoke`.
#[utoipa::path(
    post,
    path = "/accounts/sign-out",
    request_body = SignOutBody,
    responses((status = 200, description = "signed out"), (status = 403))
)]
pub(super) async fn sign_out(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<SignOutBody>,
) -> Result<Response, Problem> {
    let token = match &body.refresh_token {
        Some(token) => Some(token.as_str()),
        None => caller.cookie()?,
    };
    if let Some(token) = token {
        app.sign_out(token, None, if body.everywhere { SignOut::Everywhere } else { SignOut::Here }).await?;
    }
    let response = Json(json!({ "signed_out": true })).into_response();
    Ok(if body.refresh_token.is_none() { with_cookie(response, &caller.forget()) } else { response })
}

/// The present password, and the next.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordBody {
    current: String,
    new: String,
    /// As at the sign-in.
    #[serde(default)]
    cookie: bool,
}

/// Changes the password. All sessions end, and a new one begins.
#[utoipa::path(
    post,
    path = "/accounts/password",
    request_body = PasswordBody,
    responses((status = 200, body = SignedInBody), (status = 400), (status = 401), (status = 429))
)]
pub(super) async fn password(
    State(app): State<App>,
    identity: Identity,
    caller: Caller,
    Json(body): Json<PasswordBody>,
) -> Result<Response, Problem> {
    let signed_in = app.change_password(&identity, &body.current, &body.new, caller.address).await?;
    Ok(answer(&app, &caller, signed_in, body.cookie))
}

fn answer(app: &App, caller: &Caller, signed_in: SignedIn, is_in_cookie: bool) -> Response {
    let cookie = is_in_cookie.then(|| caller.keep(&signed_in.refresh_token, signed_in.refresh_ttl.as_secs()));
    let body = SignedInBody::new(signed_in, app.config().access_token_ttl_s, is_in_cookie);
    let response = ([(CACHE_CONTROL, "no-store")], Json(body)).into_response();
    match cookie {
        Some(cookie) => with_cookie(response, &cookie),
        None => response,
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // Made of our own tokens, which are visible ASCII.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
