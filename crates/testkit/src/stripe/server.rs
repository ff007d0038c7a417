//! The stand-in's HTTP: keys, faults, then the books.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::books::{CARDS, Fields, Kept, Refusal, refusal};
use super::{API_KEY, FaultKind, State, webhooks};

const MAX_BODY_BYTES: usize = 1 << 20;

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new().fallback(call).with_state(state)
}

/// What browsers load for the form of cards.
fn script() -> String {
    let methods: std::collections::BTreeMap<_, _> = CARDS.iter().map(|(number, name, _)| (number, name)).collect();
    include_str!("script.js").replace("@METHODS@", &json!(methods).to_string())
}

async fn call(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/v3/" {
        return ([(header::CONTENT_TYPE, "text/javascript")], script()).into_response();
    }
    if let Some(payment) = path.strip_prefix("/second-step/") {
        return second_step(&state, payment, parts.uri.query().unwrap_or_default());
    }
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let query = parts.uri.query().unwrap_or_default();
    state.books().calls += 1;
    let fault = state.fault(&path);
    match fault {
        Some(FaultKind::FailBefore) => return failed(),
        Some(FaultKind::SilentBefore) => std::future::pending().await,
        Some(FaultKind::Limit) => {
            return answer(refusal(429, "invalid_request_error", "rate_limit", "Too many requests").into_answer());
        }
        _ => {}
    }
    if let Some(refused) = bad_headers(&parts.headers) {
        return answer(refused.into_answer());
    }
    let key = parts.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let fingerprint = format!("{} {path} {text}", parts.method);
    if let Some(key) = &key {
        let mut books = state.books();
        match books.keys.get(key) {
            Some(kept) if kept.fingerprint != fingerprint => return answer(reused(key).into_answer()),
            Some(Kept { answer: Some(kept), .. }) => return replayed(kept.clone()),
            Some(_) => return answer(busy(key).into_answer()),
            None => drop(books.keys.insert(key.clone(), Kept { fingerprint, answer: None })),
        }
    } else if parts.method == "POST" {
        let message = "the stand-in wants an idempotency key";
        return answer(refusal(400, "invalid_request_error", "parameter_missing", message).into_answer());
    }
    let is_post = parts.method == "POST";
    let fields: Fields = form_urlencoded::parse(if is_post { text.as_bytes() } else { query.as_bytes() })
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    // On a task of its own: it goes on when the caller has gone.
    let at_work = tokio::spawn(async move {
        if let Some(FaultKind::Late(span)) = fault {
            tokio::time::sleep(span).await;
        }
        let done = carry_out(&state, is_post, &path, &fields);
        let kept = match fault {
            Some(FaultKind::FailForGood) => (500, json!({"error": {"type": "api_error", "message": "kept failure"}})),
            _ => done.clone(),
        };
        if let Some(key) = key {
            // What was found to be wrong before anything was done is not kept.
            match done.0 {
                200 | 402 => drop(state.books().keys.get_mut(&key).map(|entry| entry.answer = Some(kept))),
                _ => drop(state.books().keys.remove(&key)),
            }
        }
        webhooks::deliver_new(&state);
        done
    });
    let done = match at_work.await {
        Ok(done) => done,
        Err(_) => return failed(),
    };
    match fault {
        Some(FaultKind::FailAfter | FaultKind::FailForGood) => failed(),
        Some(FaultKind::SilentAfter) => std::future::pending().await,
        Some(FaultKind::Garbled) => {
            let text = done.1.to_string();
            Response::new(Body::from(text[..text.len() / 2].to_owned()))
        }
        _ => answer(done),
    }
}

fn carry_out(state: &State, is_post: bool, path: &str, fields: &Fields) -> (u16, Value) {
    let (now, url) = (state.now(), state.url.as_str());
    let mut books = state.books();
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let done = match (is_post, parts.as_slice()) {
        (true, ["payment_intents"]) => books.create(fields, url, now),
        (true, ["payment_intents", id, "capture"]) => books.capture(id, fields, url, now),
        (true, ["payment_intents", id, "cancel"]) => books.cancel(id, url, now),
        (true, ["refunds"]) => {
            let id = fields.get("payment_intent").map(String::as_str).unwrap_or_default();
            let amount = fields.get("amount").and_then(|text| text.parse().ok()).unwrap_or(0);
            books.refund(id, amount, fields, now)
        }
        (false, ["refunds", id]) => books.get_refund(id),
        (false, ["payment_intents"]) => books.list(fields, url),
        (false, ["payment_intents", "search"]) => books.search(fields, url),
        (false, ["payment_intents", id]) => books.get(id, fields, url),
        _ => Err(refusal(404, "invalid_request_error", "url_invalid", "Unrecognized request URL")),
    };
    match done {
        Ok(body) => (200, body),
        Err(refused) => refused.into_answer(),
    }
}

trait IntoAnswer {
    fn into_answer(self) -> (u16, Value);
}

impl IntoAnswer for Refusal {
    fn into_answer(self) -> (u16, Value) {
        (self.0, json!({"error": self.1}))
    }
}

fn bad_headers(headers: &HeaderMap) -> Option<Refusal> {
    let is = |name: header::HeaderName, expected: &str| headers.get(name).is_some_and(|value| value == expected);
    if !is(header::AUTHORIZATION, &format!("Bearer {API_KEY}")) {
        return Some(refusal(401, "invalid_request_error", "api_key_invalid", "Invalid API Key provided"));
    }
    if !headers.contains_key("stripe-version") {
        return Some(refusal(400, "invalid_request_error", "no_version", "the stand-in wants a pinned stripe-version"));
    }
    None
}

fn reused(key: &str) -> Refusal {
    let message = format!("Keys for idempotent requests can only be used with the same parameters: {key}");
    (400, json!({"type": "idempotency_error", "message": message}))
}

fn busy(key: &str) -> Refusal {
    let message = format!("There is currently another in-progress request using this idempotency key: {key}");
    refusal(409, "idempotency_error", "idempotency_key_in_use", &message)
}

fn answer((status, body): (u16, Value)) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(body)).into_response()
}

fn replayed(kept: (u16, Value)) -> Response {
    let mut response = answer(kept);
    response.headers_mut().insert("idempotent-replayed", header::HeaderValue::from_static("true"));
    response
}

fn failed() -> Response {
    answer((500, json!({"error": {"type": "api_error", "message": "An unknown error occurred"}})))
}

/// The page that a buyer agrees on: `?agree=true` or `false`; then back to the shop.
fn second_step(state: &State, payment: &str, query: &str) -> Response {
    let agreed = match query {
        "agree=true" => true,
        "agree=false" => false,
        _ => return "Agree with ?agree=true, refuse with ?agree=false.".into_response(),
    };
    let now = state.now();
    let done = state.books().answer(payment, agreed, now);
    webhooks::deliver_new(state);
    match done {
        Ok(()) => "Thank you.".into_response(),
        Err(refused) => answer(refused.into_answer()),
    }
}
