//! What every data request passes: credentials, the rate limit, latency and faults; and the counting of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tessera_kernel::Timestamp;

use super::DemoApi;
use super::calendar::SECOND;
use super::faults::{Fault, Faults, RetryAfter};
use super::problem::Problem;

/// The largest body that is held in memory to be cut short. Only `/events` without a limit can be larger.
const CUT_BODY_BYTES: usize = 512 << 20;
/// How long a cut body's first half gets to reach the client before the connection closes.
const CUT_AFTER: Duration = Duration::from_millis(20);

/// The fault set of the request at hand, for the handlers.
#[derive(Clone)]
pub(super) struct Active(pub(super) Arc<Faults>);

/// What came in and what went out, since the start or the last reset.
#[derive(Default)]
pub(super) struct Traffic {
    inside: AtomicU64,
    most_inside: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    by_path: BTreeMap<String, u64>,
    by_status: BTreeMap<String, BTreeMap<u16, u64>>,
    faults: BTreeMap<&'static str, u64>,
    window: (i64, u32),
}

impl Traffic {
    fn counts<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request in; gives its number over all and on its route.
    fn enter(&self, path: &str) -> (Inside<'_>, u64, u64) {
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_inside.fetch_max(inside, Ordering::Relaxed);
        let (number, on_path) = self.counts(|counts| {
            counts.requests += 1;
            let on_path = counts.by_path.entry(path.to_owned()).or_default();
            *on_path += 1;
            (counts.requests, *on_path)
        });
        (Inside(self), number, on_path)
    }

    /// Takes one of the second's requests: how many are left, none where it is one too many.
    fn take(&self, now_s: i64, limit: u32) -> Option<u32> {
        self.counts(|counts| {
            if counts.window.0 != now_s {
                counts.window = (now_s, 0);
            }
            let left = limit.checked_sub(counts.window.1 + 1)?;
            counts.window.1 += 1;
            Some(left)
        })
    }

    fn shown(&self) -> Value {
        let most = self.most_inside.load(Ordering::Relaxed);
        self.counts(|counts| {
            json!({
                "requests": counts.requests,
                "max_concurrent": most,
                "paths": counts.by_status,
                "faults": counts.faults,
            })
        })
    }

    fn reset(&self) {
        self.most_inside.store(0, Ordering::Relaxed);
        self.counts(|counts| *counts = Counts::default());
    }
}

/// A request under way.
struct Inside<'a>(&'a Traffic);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The middleware of all data routes.
pub(super) async fn gate(State(api): State<DemoApi>, path: MatchedPath, request: Request, next: Next) -> Response {
    let path = path.as_str();
    let (_inside, number, on_path) = api.0.traffic.enter(path);
    let response = pass(&api, path, (number, on_path), request, next).await.unwrap_or_else(IntoResponse::into_response);
    let status = response.status().as_u16();
    api.0.traffic.counts(|counts| {
        *counts.by_status.entry(path.to_owned()).or_default().entry(status).or_default() += 1;
    });
    response
}

async fn pass(
    api: &DemoApi,
    path: &str,
    (number, on_path): (u64, u64),
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(request.uri()).map(|query| query.0).unwrap_or_default();
    if api.0.options.auth && !api.knows(request.headers(), &query) {
        return Err(Problem::unauthenticated("send `Authorization: Bearer demo-token`; see / for the other ways"));
    }

    let all = api.faults();
    let own =
        request.headers().get("x-fault").and_then(|text| text.to_str().ok()).or(query.get("fault").map(String::as_str));
    let (faults, number) = match (own, all.paths.get(path)) {
        (Some(text), _) => (Arc::new(Faults::parse(text).map_err(Problem::invalid)?), on_path),
        (None, Some(set)) => (Arc::new(set.clone()), on_path),
        (None, None) => (Arc::clone(&all), number),
    };

    let limit = all.rate_limit.or(api.0.options.rate_limit).unwrap_or(0);
    let now = api.0.clock.now();
    let left = if limit == 0 { None } else { Some(api.0.traffic.take(now.micros().div_euclid(SECOND), limit)) };
    if left == Some(None) {
        let mut response = throttled(&all, now, format!("more than {limit} requests in this second"));
        rate_headers(&mut response, now, limit, 0);
        return Ok(response);
    }

    let late = api.0.options.latency + Duration::from_millis(faults.slow_ms(number));
    if !late.is_zero() {
        tokio::time::sleep(late).await;
    }
    let fault = faults.hit(number);
    if let Some(fault) = fault {
        api.0.traffic.counts(|counts| *counts.faults.entry(fault.name()).or_default() += 1);
    }
    request.extensions_mut().insert(Active(Arc::clone(&faults)));
    let mut response = match fault {
        None => next.run(request).await,
        Some(Fault::Fail(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Problem::new(status, "fault_injected", "a fault that was asked for; try again").into_response()
        }
        Some(Fault::Throttle) => throttled(&faults, now, "a fault that was asked for; try again later".to_owned()),
        Some(Fault::Unauthorized) => Problem::unauthenticated("the token was revoked; get a new one").into_response(),
        Some(Fault::Html) => html(),
        Some(Fault::Cut) => shortened(next.run(request).await, Fault::Cut).await?,
        Some(Fault::Truncate) => shortened(next.run(request).await, Fault::Truncate).await?,
    };
    if let Some(Some(left)) = left {
        rate_headers(&mut response, now, limit, left);
    }
    Ok(response)
}

fn rate_headers(response: &mut Response, now: Timestamp, limit: u32, left: u32) {
    let reset_s = now.micros().div_euclid(SECOND) + 1;
    for (name, value) in [
        ("x-ratelimit-limit", i64::from(limit)),
        ("x-ratelimit-remaining", i64::from(left)),
        ("x-ratelimit-reset", reset_s),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

fn throttled(faults: &Faults, now: Timestamp, detail: String) -> Response {
    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).into_response();
    let seconds = faults.retry_after_s.unwrap_or(1);
    let value = match faults.retry_after {
        RetryAfter::Seconds => Some(seconds.to_string()),
        RetryAfter::Zero => Some("0".to_owned()),
        RetryAfter::None => None,
        RetryAfter::Date => {
            // A date has whole seconds, so it is rounded up: never earlier than promised.
            let at = now.plus(Duration::from_secs(seconds)).plus(Duration::from_micros(999_999));
            Some(at.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string())
        }
    };
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn html() -> Response {
    let page = "<!doctype html>\n<html><head><title>Shop maintenance</title></head>\
                <body><h1>We will be right back</h1><p>Please sign in again.</p></body></html>\n";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// The first half of a response: as if it were all of it, or with the connection closed in the middle.
async fn shortened(response: Response, how: Fault) -> Result<Response, Problem> {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, CUT_BODY_BYTES)
        .await
        .map_err(|cause| Problem::invalid(format!("cannot cut this response short ({cause}); ask for less")))?;
    let half = body.slice(..body.len() / 2);
    parts.headers.remove(header::CONTENT_LENGTH);
    if how == Fault::Truncate {
        return Ok(Response::from_parts(parts, Body::from(half)));
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    // The pause lets the half go out; the error then makes the server close the connection.
    let chunks = stream::unfold(Some(half), |half: Option<Bytes>| async move {
        match half {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                tokio::time::sleep(CUT_AFTER).await;
                Some((Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted)), None))
            }
            None => None,
        }
    });
    Ok(Response::from_parts(parts, Body::from_stream(chunks)))
}

/// `GET /_stats`.
pub(super) async fn stats(State(api): State<DemoApi>) -> Json<Value> {
    Json(api.0.traffic.shown())
}

/// `DELETE /_stats`.
pub(super) async fn reset_stats(State(api): State<DemoApi>) -> Json<Value> {
    api.0.traffic.reset();
    Json(api.0.traffic.shown())
}

/// `GET /_faults`.
pub(super) async fn show_faults(State(api): State<DemoApi>) -> Json<Faults> {
    Json(api.faults().as_ref().clone())
}

/// `POST /_faults`: the body replaces all faults.
pub(super) async fn set_faults(State(api): State<DemoApi>, body: Bytes) -> Result<Json<Faults>, Problem> {
    let faults: Faults = serde_json::from_slice(&body).map_err(|cause| {
        Problem::invalid(format!("faults are not understood: {cause}; see GET /_faults for all keys"))
    })?;
    api.set_faults(faults.clone());
    Ok(Json(faults))
}
