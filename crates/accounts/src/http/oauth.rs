//! OAuth 2: tokens for programs, and people who sign in for them.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tessera_kernel::Timestamp;
use tessera_service::http::{Json, Query};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::caller::Caller;
use crate::Error;
use crate::app::{App, Redeemed, SignedIn, Way, Wish, Wording};
use crate::store::SignOut;

/// The longest form taken.
const MAX_FORM_BYTES: usize = 16 * 1_024;

/// The most fields that one may have; each is compared with each.
const MAX_FIELDS: usize = 32;

/// The field of [`Wish::signed_in_since`].
const SINCE: &str = "signed_in_since";

/// What a program asks a person for.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct WishBody {
    client_id: String,
    redirect_uri: String,
    /// `code`.
    response_type: String,
    /// SHA-256 of the verifier, base64url.
    code_challenge: String,
    /// `S256`.
    code_challenge_method: String,
    #[serde(default)]
    scope: String,
    state: Option<String>,
    nonce: Option<String>,
    /// As the address of the page has it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    signed_in_since: Option<Timestamp>,
}

/// Since when somebody must have signed in.
#[derive(Debug, Deserialize)]
pub(super) struct SinceQuery {
    signed_in_since: Option<Timestamp>,
}

impl From<WishBody> for Wish {
    fn from(body: WishBody) -> Self {
        let WishBody { client_id, redirect_uri, response_type, code_challenge, code_challenge_method, .. } = body;
        let WishBody { scope, state, nonce, signed_in_since, .. } = body;
        Self {
            client_id,
            redirect_uri,
            response_type,
            code_challenge,
            code_challenge_method,
            scope,
            state,
            nonce,
            signed_in_since,
        }
    }
}

/// Sends the browser to the page where its person signs in and agrees; or back, where the program asks for what it cannot have.
#[utoipa::path(
    get,
    path = "/oauth/authorize",
    responses((status = 303, description = "to the page of the console, or to `redirect_uri` with `error`"))
)]
pub(super) async fn authorize(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    begin(&app, &Form::parse(query.unwrap_or_default().as_bytes())).await
}

/// The same by a form (OpenID Connect Core 3.1.2.1).
#[utoipa::path(
    post,
    path = "/oauth/authorize",
    request_body(content_type = "application/x-www-form-urlencoded", content = String),
    responses((status = 303, description = "to the page of the console, or to `redirect_uri` with `error`"), (status = 400))
)]
pub(super) async fn authorize_form(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    begin(&app, &Form::sent(&headers, &body)?).await
}

async fn begin(app: &App, form: &Form) -> Result<Response, Problem> {
    let location = match app.way(&form.wish(), form.check(), form.wording()).await {
        Ok(Way::Back(to)) => to,
        Ok(Way::Page(since)) => form.page(since),
        // What may be sent nowhere is told by the page, which asks again.
        Err(Error::BadClient | Error::BadGrant { .. }) => form.page(None),
        Err(error) => return Err(error.into()),
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// Who asks: the name of the program, for the page that has its person agree.
#[utoipa::path(
    get,
    path = "/oauth/asks",
    responses((status = 200, description = "client_name, redirect_uri, scope and issuer"), (status = 400), (status = 401))
)]
pub(super) async fn asks(State(app): State<App>, Query(body): Query<WishBody>) -> Result<Json<Value>, Problem> {
    let wish = Wish::from(body);
    let client = app.asking_client(&wish).await?;
    let Wish { redirect_uri, scope, .. } = wish;
    let issuer = app.issuer();
    Ok(Json(json!({ "client_name": client.name, "redirect_uri": redirect_uri, "scope": scope, "issuer": issuer })))
}

/// Whether the person in this browser signs in, or signs in again, before they can agree.
#[utoipa::path(
    get,
    path = "/accounts/authorize",
    params(("signed_in_since" = Option<String>, Query, description = "as the address of the page has it")),
    responses((status = 200, description = "sign_in_again"), (status = 403))
)]
pub(super) async fn agrees(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<SinceQuery>,
) -> Result<Response, Problem> {
    let again = app.signs_in_again(caller.cookie()?, query.signed_in_since).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({ "sign_in_again": again }))).into_response())
}

/// The person agrees, in the browser in which they have signed in: its cookie is needed besides the token.
#[utoipa::path(
    post,
    path = "/accounts/authorize",
    request_body = WishBody,
    responses((status = 200, description = "redirect_to: where the browser goes"), (status = 400), (status = 401), (status = 403))
)]
pub(super) async fn agree(
    State(app): State<App>,
    identity: Identity,
    caller: Caller,
    Json(body): Json<WishBody>,
) -> Result<Response, Problem> {
    let cookie = caller.cookie()?.ok_or(Error::SessionOver)?;
    let agreed = app.agree(&identity, cookie, body.into()).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({ "redirect_to": agreed.redirect_to }))).into_response())
}

/// Tokens, as RFC 6749 has them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenBody {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Tokens for `client_credentials`, `authorization_code` and `refresh_token`, asked for by a form.
#[utoipa::path(
    post,
    path = "/oauth/token",
    request_body(content_type = "application/x-www-form-urlencoded", content = String),
    responses((status = 200, body = TokenBody), (status = 400), (status = 401))
)]
pub(super) async fn token(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match give(&app, &headers, &body).await {
        Ok(tokens) => ([(CACHE_CONTROL, "no-store")], Json(tokens)).into_response(),
        Err(error) => refused(&headers, error),
    }
}

async fn give(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<TokenBody, Error> {
    let form = Form::read(headers, body)?;
    let (id, secret) = form.client(headers)?;
    Ok(match form.need("grant_type")? {
        "client_credentials" => {
            let (access_token, _) = app.client_token(&id, secret.as_deref()).await?;
            let expires_in = app.config().client_token_ttl_s.into();
            TokenBody {
                access_token,
                token_type: "Bearer",
                expires_in,
                refresh_token: None,
                id_token: None,
                scope: None,
            }
        }
        "authorization_code" => {
            let client = app.known_client(&id, secret.as_deref()).await?;
            let (code, uri, verifier) = (form.need("code")?, form.need("redirect_uri")?, form.need("code_verifier")?);
            let Redeemed { signed_in, id_token, scope } = app.redeem(&client, code, uri, verifier).await?;
            TokenBody { id_token, scope: Some(scope), ..of_session(app, signed_in) }
        }
        "refresh_token" => {
            let client = app.known_client(&id, secret.as_deref()).await?;
            let refreshed = app.refresh(form.need("refresh_token")?, Some(client.id)).await;
            of_session(app, refreshed.map_err(no_grant)?)
        }
        other => {
            let short: String = other.chars().take(40).collect();
            let reason =
                format!("`{short}` is not taken; there are client_credentials, authorization_code and refresh_token");
            return Err(Error::grant("unsupported_grant_type", reason));
        }
    })
}

/// A program is told in its own words that a session is over: only who it is itself is a matter of 401 (RFC 6749, 5.2).
fn no_grant(error: Error) -> Error {
    match error {
        Error::SessionOver => {
            Error::grant("invalid_grant", "the refresh token is over, or is another program's; sign in again")
        }
        error => error,
    }
}

/// A program that has shown its secret in the header hears how (RFC 6749, 5.2).
fn refused(headers: &HeaderMap, error: Error) -> Response {
    let is_stranger = matches!(error, Error::BadClient) && headers.contains_key(AUTHORIZATION);
    let mut response = Problem::from(error).into_response();
    if is_stranger {
        let basic = HeaderValue::from_static("Basic realm=\"tessera\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, basic);
    }
    response
}

/// A program gives a refresh token back, and its session ends (RFC 7009). An access token lasts to its end.
#[utoipa::path(
    post,
    path = "/oauth/revoke",
    request_body(content_type = "application/x-www-form-urlencoded", content = String),
    responses((status = 200, description = "it is no token of this program any more"), (status = 400), (status = 401))
)]
pub(super) async fn revoke(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    match take_back(&app, &headers, &body).await {
        Ok(()) => ([(CACHE_CONTROL, "no-store")], Json(json!({}))).into_response(),
        Err(error) => refused(&headers, error),
    }
}

async fn take_back(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
    let form = Form::read(headers, body)?;
    let (id, secret) = form.client(headers)?;
    let client = app.known_client(&id, secret.as_deref()).await?;
    app.sign_out(form.need("token")?, Some(client.id), SignOut::Here).await
}

fn of_session(app: &App, signed_in: SignedIn) -> TokenBody {
    TokenBody {
        access_token: signed_in.access_token,
        token_type: "Bearer",
        expires_in: app.config().access_token_ttl_s.into(),
        refresh_token: Some(signed_in.refresh_token),
        id_token: None,
        scope: None,
    }
}

/// Who has signed in, as OpenID Connect has it.
#[utoipa::path(get, path = "/oauth/userinfo", responses((status = 200, description = "claims"), (status = 401)))]
pub(super) async fn userinfo(State(app): State<App>, identity: Identity) -> Result<Json<Value>, Problem> {
    claims(&app, &identity).await
}

/// The same by POST (OpenID Connect Core 5.3).
#[utoipa::path(post, path = "/oauth/userinfo", responses((status = 200, description = "claims"), (status = 401)))]
pub(super) async fn userinfo_post(State(app): State<App>, identity: Identity) -> Result<Json<Value>, Problem> {
    claims(&app, &identity).await
}

async fn claims(app: &App, identity: &Identity) -> Result<Json<Value>, Problem> {
    let user = app.user_of(identity).await?;
    let (sub, name, login, roles) = (user.id, user.name, user.login, user.roles);
    Ok(Json(json!({ "sub": sub, "name": name, "preferred_username": login, "roles": roles })))
}

fn bad_form(reason: &str) -> Error {
    Error::grant("invalid_request", reason)
}

/// A form, each of whose fields is there once (RFC 6749, 3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Error> {
        let form = Self::sent(headers, body)?;
        form.check()?;
        Ok(form)
    }

    /// A body, whose fields are not checked.
    fn sent(headers: &HeaderMap, body: &[u8]) -> Result<Self, Error> {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") || body.len() > MAX_FORM_BYTES {
            return Err(bad_form("send a form of up to 16 KiB (`content-type: application/x-www-form-urlencoded`)"));
        }
        Ok(Self::parse(body))
    }

    /// As it is, as far as it can be checked.
    fn parse(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().take(MAX_FIELDS + 1).collect())
    }

    fn check(&self) -> Result<(), Error> {
        let Self(fields) = self;
        if fields.len() > MAX_FIELDS {
            return Err(bad_form("send up to 32 fields"));
        }
        let twice =
            fields.iter().enumerate().any(|(at, (name, _))| fields[..at].iter().any(|(other, _)| other == name));
        if twice { Err(bad_form("each field may be there once")) } else { Ok(()) }
    }

    /// What it asks a person for; empty where it does not say.
    fn wish(&self) -> Wish {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        Wish {
            client_id: text("client_id"),
            redirect_uri: text("redirect_uri"),
            response_type: text("response_type"),
            code_challenge: text("code_challenge"),
            code_challenge_method: text("code_challenge_method"),
            scope: text("scope"),
            state: self.get("state").map(str::to_owned),
            nonce: self.get("nonce").map(str::to_owned),
            signed_in_since: None,
        }
    }

    fn wording(&self) -> Wording<'_> {
        let [prompt, max_age, request, request_uri] =
            ["prompt", "max_age", "request", "request_uri"].map(|name| self.get(name));
        Wording { prompt, max_age, request, request_uri }
    }

    /// The page of the console that asks for this. Since when somebody must have signed in is our word, not that of who sent the form.
    fn page(&self, signed_in_since: Option<Timestamp>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.0.iter().filter(|(name, _)| name != SINCE));
        if let Some(since) = signed_in_since {
            query.append_pair(SINCE, &since.to_string());
        }
        format!("/console/#/authorize?{}", query.finish())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<&str, Error> {
        let missing = || bad_form(&format!("`{name}` is missing"));
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    }

    /// Id and secret, from the header or from the form (RFC 6749, 2.3.1).
    fn client(&self, headers: &HeaderMap) -> Result<(String, Option<String>), Error> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            let id = self.get("client_id").ok_or(Error::BadClient)?;
            return Ok((id.to_owned(), self.get("client_secret").map(str::to_owned)));
        };
        let text = value.to_str().map_err(|_| Error::BadClient)?;
        let (scheme, encoded) = text.split_once(' ').ok_or(Error::BadClient)?;
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.filter(|_| scheme.eq_ignore_ascii_case("basic")).ok_or(Error::BadClient)?;
        let (id, secret) = decoded.split_once(':').ok_or(Error::BadClient)?;
        Ok((id.to_owned(), Some(secret.to_owned())))
    }
}
