//! Signing in at another issuer: what a page cannot do, or should not. The server asks the issuer, and keeps the refresh token in a cookie
//! that no script reads.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tessera_service::Problem;
use tessera_service::http::Json;
use tessera_service::http::cookie::{Scheme, TokenCookie, is_cross_site};
use tessera_service::identity::{Begun, RelyingParty, Returned, SignedIn};

use crate::Error;

const COOKIE: TokenCookie = TokenCookie { name: "tessera_issuer_refresh", path: "/console/sign-in" };
/// A browser keeps no cookie much longer than this (RFC 6265, 6.1: 4096 with its name).
const MAX_COOKIE_BYTES: usize = 3_800;

/// Below `/console/sign-in/`: `issuer` names it, `begin` and `end` a sign-in, then `refresh` and `sign-out` by the cookie.
pub fn sign_in(party: RelyingParty) -> Router {
    Router::new()
        .route("/console/sign-in/issuer", get(issuer))
        .route("/console/sign-in/begin", post(begin))
        .route("/console/sign-in/end", post(end))
        .route("/console/sign-in/refresh", post(refresh))
        .route("/console/sign-in/sign-out", post(sign_out))
        .with_state(party)
}

async fn issuer(State(party): State<RelyingParty>) -> Json<Value> {
    Json(json!({ "issuer": party.issuer() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody {
    /// The page's own address, to which the browser comes back. The issuer knows those that are ours.
    redirect_uri: String,
}

async fn begin(
    State(party): State<RelyingParty>,
    headers: HeaderMap,
    Json(body): Json<BeginBody>,
) -> Result<Response, Problem> {
    check_site(&headers)?;
    let begun: Begun = party.begin(&body.redirect_uri).await.map_err(Error::from)?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(begun)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndBody {
    code: String,
    redirect_uri: String,
    verifier: String,
    nonce: String,
}

async fn end(
    State(party): State<RelyingParty>,
    headers: HeaderMap,
    Json(body): Json<EndBody>,
) -> Result<Response, Problem> {
    check_site(&headers)?;
    let EndBody { code, redirect_uri, verifier, nonce } = &body;
    let signed_in = party.end(&Returned { code, redirect_uri, verifier, nonce }).await.map_err(Error::from)?;
    // The browser forgets the cookie that it had, so nobody could end that session any more.
    if let Some(before) = token(&headers)
        && let Err(error) = party.revoke(&before).await
    {
        tracing::warn!(error.detail = %error, "the session that this browser had goes on");
    }
    tracing::info!(user.id = %signed_in.identity.subject, issuer = party.issuer(), "signed in at the issuer");
    Ok(answer(signed_in, scheme(&headers)))
}

async fn refresh(State(party): State<RelyingParty>, headers: HeaderMap) -> Result<Response, Problem> {
    check_site(&headers)?;
    let token = token(&headers).ok_or(Error::SessionOver)?;
    match party.refresh(&token).await {
        Ok(signed_in) => Ok(answer(signed_in, scheme(&headers))),
        Err(tessera_service::Error::IssuerRefused { reason, .. }) => {
            tracing::info!(reason, "the issuer gives no further token");
            let over = Problem::from(Error::SessionOver).into_response();
            Ok(with_cookie(over, &COOKIE.forget(scheme(&headers))))
        }
        Err(error) => Err(Error::from(error).into()),
    }
}

/// The cookie is forgotten when the issuer has taken its token back, or has had it no more.
async fn sign_out(State(party): State<RelyingParty>, headers: HeaderMap) -> Result<Response, Problem> {
    check_site(&headers)?;
    if let Some(token) = token(&headers) {
        match party.revoke(&token).await {
            Ok(()) | Err(tessera_service::Error::IssuerRefused { .. }) => {}
            Err(error) => return Err(Error::from(error).into()),
        }
    }
    let response = Json(json!({ "signed_out": true })).into_response();
    Ok(with_cookie(response, &COOKIE.forget(scheme(&headers))))
}

fn check_site(headers: &HeaderMap) -> Result<(), Error> {
    if is_cross_site(headers) { Err(Error::CrossSite) } else { Ok(()) }
}

/// Pages say where they are from in every request of these.
fn scheme(headers: &HeaderMap) -> Scheme {
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if origin.starts_with("https:") { Scheme::Https } else { Scheme::Http }
}

/// A refresh token has any visible signs; in the cookie it is base64url.
fn token(headers: &HeaderMap) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(COOKIE.read(headers)?).ok()?).ok()
}

fn answer(signed_in: SignedIn, scheme: Scheme) -> Response {
    let SignedIn { identity, access_token, lasts, refresh, name } = signed_in;
    let body = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": lasts.as_secs(),
        "user": { "id": &*identity.subject, "name": name, "roles": &*identity.roles },
    });
    let response = ([(CACHE_CONTROL, "no-store")], Json(body)).into_response();
    let kept = refresh.map(|(token, lasts)| (URL_SAFE_NO_PAD.encode(token), lasts));
    match kept {
        Some((token, lasts)) if token.len() <= MAX_COOKIE_BYTES => {
            with_cookie(response, &COOKIE.keep(&token, lasts.as_secs(), scheme))
        }
        Some((token, _)) => {
            tracing::warn!(
                size_bytes = token.len(),
                "the issuer's refresh token fits no cookie: its session ends with the access token"
            );
            with_cookie(response, &COOKIE.forget(scheme))
        }
        None => with_cookie(response, &COOKIE.forget(scheme)),
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // Made of base64url, which is visible ASCII.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use http::{Request, StatusCode};
    use tessera_kernel::SystemClock;
    use tessera_service::Keys;
    use tessera_service::identity::{Config, Issuer};
    use tower::ServiceExt;

    use super::*;

    /// With an issuer that is away.
    async fn asked(path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value, String) {
        let clock = Arc::new(SystemClock);
        let config = Config {
            issuer: Some("http://127.0.0.1:9".into()),
            client_id: Some("console".into()),
            ..Config::default()
        };
        let keys = Keys::ephemeral(clock.clone()).unwrap().trusting(Issuer::new(&config, clock).unwrap().unwrap());
        let party = RelyingParty::new(&config, &keys).unwrap().unwrap();
        let mut request = Request::post(format!("/console/sign-in/{path}")).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = r#"{"redirect_uri":"http://a/console/"}"#;
        let response = sign_in(party).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let cookie = response.headers().get(SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap(), cookie.unwrap_or_default())
    }

    #[tokio::test]
    async fn only_pages_of_this_server_use_the_cookie() {
        let kept = format!("{}={}", COOKIE.name, URL_SAFE_NO_PAD.encode("a token"));
        for path in ["begin", "end", "refresh", "sign-out"] {
            let headers = [("cookie", kept.as_str()), ("sec-fetch-site", "cross-site")];
            let (status, body, _) = asked(path, &headers).await;
            let wanted = if path == "end" { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
            assert_eq!(status, wanted, "{path}: {body}");
        }
        let (status, body, _) = asked("refresh", &[]).await;
        assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &"console.session_over".into()));
        let (status, _, cookie) = asked("sign-out", &[("origin", "https://a")]).await;
        assert_eq!(status, StatusCode::OK);
        assert!(cookie.starts_with("tessera_issuer_refresh=; Path=/console/sign-in; Max-Age=0;"), "{cookie}");
        assert!(cookie.contains("HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    }

    #[tokio::test]
    async fn nobody_is_signed_out_while_the_issuer_is_away() {
        let kept = format!("{}={}", COOKIE.name, URL_SAFE_NO_PAD.encode("a token"));
        for path in ["begin", "refresh", "sign-out"] {
            let (status, body, cookie) = asked(path, &[("cookie", &kept)]).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!((&body["code"], cookie.as_str()), (&"service.issuer_away".into(), ""), "{path}");
        }
    }
}
