//! Who may ask, where the server runs with `--auth`. The credentials are public on purpose: they are there to learn with.
//! Tokens are stateless: a kind, an expiry and a code over both, so that any server with the same seed accepts them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tessera_kernel::Timestamp;

use super::calendar::SECOND;
use super::problem::Problem;
use super::{DemoApi, hex};

const TOKEN: &str = "demo-token";
const API_KEY: &str = "demo-key";
const CLIENT: (&str, &str) = ("demo-client", "demo-secret");
const USER: (&str, &str) = ("demo", "demo-password");
/// The key that JWTs are signed with (HS256).
const JWT_KEY: &[u8] = b"demo-jwt-key-demo-jwt-key-demo-jwt-key";

/// Seconds that an access token lives: short, so that readers have to renew.
const ACCESS_S: i64 = 60;
const REFRESH_S: i64 = 24 * 3600;
const SESSION_S: i64 = 300;

impl DemoApi {
    /// Whether a request names one of the accepted credentials.
    pub(super) fn knows(&self, headers: &HeaderMap, query: &BTreeMap<String, String>) -> bool {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let (scheme, proof) = text(header::AUTHORIZATION).split_once(' ').unwrap_or(("", ""));
        let proof = proof.trim();
        let authorized = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => proof == TOKEN || self.token_holds("at", proof) || self.jwt_holds(proof),
            "basic" => basic(proof).is_some_and(|(user, password)| {
                let pair = (user.as_str(), password.as_str());
                pair == USER || pair == CLIENT
            }),
            _ => false,
        };
        let cookie = |name: &str| {
            text(header::COOKIE)
                .split(';')
                .filter_map(|pair| pair.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        authorized
            || headers.get("x-api-key").is_some_and(|key| key == API_KEY)
            || query.get("api_key").is_some_and(|key| key == API_KEY)
            || cookie("api_key") == Some(API_KEY)
            || cookie("session").is_some_and(|session| self.token_holds("se", session))
    }

    fn now_s(&self) -> i64 {
        self.0.clock.now().micros() / SECOND
    }

    fn token(&self, kind: &str, lives_s: i64) -> String {
        let expires_s = self.now_s() + lives_s;
        format!("{kind}_{expires_s}_{}", self.code(kind, expires_s))
    }

    fn code(&self, kind: &str, expires_s: i64) -> String {
        let digest = Sha256::digest(format!("{} {kind} {expires_s}", self.0.options.seed));
        hex(&digest[..12])
    }

    fn token_holds(&self, kind: &str, token: &str) -> bool {
        let mut parts = token.splitn(3, '_');
        let (found, expires_s, code) = (parts.next(), parts.next().and_then(|text| text.parse().ok()), parts.next());
        let Some(expires_s) = expires_s else { return false };
        found == Some(kind) && code == Some(self.code(kind, expires_s).as_str()) && self.now_s() < expires_s
    }

    fn jwt_holds(&self, token: &str) -> bool {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.required_spec_claims.clear();
        rules.validate_aud = false;
        rules.validate_exp = false; // by the API's own clock below
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(JWT_KEY), &rules)
            .is_ok_and(|jwt| jwt.claims["exp"].as_i64().is_some_and(|expires_s| self.now_s() < expires_s))
    }
}

/// `POST /oauth/token`: client credentials and refresh tokens (RFC 6749), as a form or as JSON.
pub(super) async fn oauth_token(State(api): State<DemoApi>, headers: HeaderMap, body: Bytes) -> Response {
    let fields = fields(&headers, &body);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let refuse = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    let client = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(basic)
        .unwrap_or_else(|| (field("client_id").to_owned(), field("client_secret").to_owned()));
    if (client.0.as_str(), client.1.as_str()) != CLIENT {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match field("grant_type") {
        "client_credentials" => {}
        "refresh_token" if api.token_holds("rt", field("refresh_token")) => {}
        "refresh_token" => return refuse(StatusCode::BAD_REQUEST, "invalid_grant"),
        _ => return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
    Json(json!({
        "access_token": api.token("at", ACCESS_S),
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "refresh_token": api.token("rt", REFRESH_S),
    }))
    .into_response()
}

/// `POST /session`: a login that answers with a cookie.
pub(super) async fn login(State(api): State<DemoApi>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let fields = fields(&headers, &body);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    if (field("username"), field("password")) != USER {
        return Err(Problem::unauthenticated("no such user and password; try `demo` and `demo-password`"));
    }
    let cookie = format!("session={}; Path=/; HttpOnly; Max-Age={SESSION_S}", api.token("se", SESSION_S));
    let expires_at = Timestamp::from_micros((api.now_s() + SESSION_S) * SECOND);
    let mut response = Json(json!({ "user": USER.0, "expires_at": expires_at })).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The fields of a body, be it a form or a JSON object.
fn fields(headers: &HeaderMap, body: &[u8]) -> BTreeMap<String, String> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/json")));
    if json {
        serde_json::from_slice(body).unwrap_or_default()
    } else {
        url::form_urlencoded::parse(body).into_owned().collect()
    }
}

fn basic(proof: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(proof).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
