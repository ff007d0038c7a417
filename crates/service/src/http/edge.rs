//! What surrounds every handler: the request's id and span, its deadline, its line in the log, its metrics, and the
//! last word on problems.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tessera_kernel::Ids;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Config;
use super::problem::Problem;
use crate::metrics::{Route, UNMATCHED};
use crate::{Error, Metrics};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Answers a request at once, from memory, or leaves it to the routes: asked before these, outside of the edge, so it
/// must neither block nor wait. It is for what very many ask for at the same moment.
///
/// Such an answer is counted under its route, has its request's id, and is logged at `debug` only.
#[derive(Clone)]
pub struct Quick(Arc<AnswerAtOnce>);

type AnswerAtOnce = dyn Fn(&Parts) -> Option<QuickAnswer> + Send + Sync;

/// What a [`Quick`] says.
#[derive(Debug)]
pub struct QuickAnswer {
    /// The template of the route that would have answered.
    pub route: &'static str,
    /// The answer.
    pub response: Response,
}

impl Quick {
    /// From what answers a request's head.
    pub fn new(answer: impl Fn(&Parts) -> Option<QuickAnswer> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }
}

impl std::fmt::Debug for Quick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quick")
    }
}

/// All of a process's [`Quick`]s.
pub(crate) struct Quicks {
    quicks: Vec<Quick>,
    ids: Arc<dyn Ids>,
    metrics: Metrics,
}

impl Quicks {
    pub(crate) fn new(quicks: Vec<Quick>, ids: Arc<dyn Ids>, metrics: Metrics) -> Self {
        Self { quicks, ids, metrics }
    }

    /// The first answer, as it is sent.
    pub(crate) fn answer(&self, request: &Parts) -> Option<Response> {
        let began = Instant::now();
        let QuickAnswer { route, mut response } = self.quicks.iter().find_map(|quick| (quick.0)(request))?;
        let request_id = given_id(&request.headers).unwrap_or_else(|| new_id(&*self.ids));
        let took = began.elapsed();
        self.metrics.request_ended(label_of(&request.method), Route::Named(route), response.status().as_u16(), took);
        tracing::debug!(http.route = route, request.id = request_id.as_str(), "answered at once");
        response.headers_mut().insert(REQUEST_ID, request_id.0);
        Some(response)
    }
}

/// The id of the request, in its extensions, its span, its answer and its problem. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Its text: up to 128 visible characters.
    pub fn as_str(&self) -> &str {
        // It is made from visible ASCII only.
        self.0.to_str().unwrap_or_default()
    }
}

/// In the extensions of every request: cancelled when the process stops taking requests. A handler whose answer has no
/// end watches it.
#[derive(Clone, Debug)]
pub struct Draining(pub CancellationToken);

struct Edge {
    ids: Arc<dyn Ids>,
    metrics: Metrics,
    request_timeout_s: u64,
    draining: Draining,
}

/// Puts the edge around all routes of a process.
pub fn wrap(
    router: Router,
    config: &Config,
    ids: Arc<dyn Ids>,
    metrics: Metrics,
    draining: CancellationToken,
) -> Router {
    let edge =
        Arc::new(Edge { ids, metrics, request_timeout_s: config.request_timeout_s, draining: Draining(draining) });
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(config.body_limit_bytes))
        .layer(middleware::from_fn_with_state(edge, around))
}

async fn not_found(uri: Uri) -> Problem {
    Error::RouteNotFound(uri.path().to_owned()).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Error::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned() }.into()
}

async fn around(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let request_id = given_id(request.headers()).unwrap_or_else(|| new_id(&*edge.ids));
    let method = label_of(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(request_id.clone());
    request.extensions_mut().insert(edge.draining.clone());

    let span = span_of(&request, method, path_of(&route), &request_id);
    let began = Instant::now();
    let in_flight = edge.metrics.request_began();
    let deadline = Duration::from_secs(edge.request_timeout_s);
    let answer = AssertUnwindSafe(tokio::time::timeout(deadline, next.run(request)))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::from(Error::RequestTimeout(edge.request_timeout_s)).into_response(),
        Err(_) => Problem::from(Error::Panicked).into_response(),
    };
    drop(in_flight);
    let took = began.elapsed();
    let route = route.map_or(Route::None, Route::Matched);
    edge.metrics.request_ended(method, route, response.status().as_u16(), took);
    span.in_scope(|| finish(response, request_id, took))
}

/// The template of a route.
fn path_of(route: &Option<MatchedPath>) -> &str {
    route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
}

/// `req_` and 32 digits, written once: spans, answers and problems share the bytes.
fn new_id(ids: &dyn Ids) -> RequestId {
    let mut text = [0; 36];
    text[..4].copy_from_slice(b"req_");
    ids.next().simple().encode_lower(&mut text[4..]);
    // Hexadecimal digits are fit for a header.
    RequestId(HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("req_")))
}

/// Logs the answer once, and completes it with the request's id.
fn finish(mut response: Response, request_id: RequestId, took: Duration) -> Response {
    let status = response.status().as_u16();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Span::current().record("http.status", status);
    let problem = response.extensions_mut().remove::<Problem>();
    match &problem {
        Some(problem) if problem.is_internal() => {
            Span::current().record("otel.status_code", "ERROR");
            tracing::error!(http.took_ms = took_ms, error.code = problem.code, error.detail = %problem.detail, "failed");
        }
        Some(problem) if status >= 500 => {
            tracing::warn!(http.took_ms = took_ms, error.code = problem.code, error.detail = %problem.detail, "failed");
        }
        Some(problem) => tracing::info!(http.took_ms = took_ms, error.code = problem.code, "refused"),
        None => tracing::info!(http.took_ms = took_ms, "answered"),
    }
    if let Some(problem) = problem {
        // The handler's own headers, such as `allow`, stay; the length is that of the new body.
        let body = problem.body(Some(request_id.as_str()));
        response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = body.into();
    }
    response.headers_mut().insert(REQUEST_ID, request_id.0);
    response
}

fn span_of(request: &Request, method: &'static str, route: &str, request_id: &RequestId) -> Span {
    let span = tracing::info_span!(
        "request",
        // Written out where somebody traces only.
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        request.id = request_id.as_str(),
        http.method = method,
        http.route = route,
        http.status = tracing::field::Empty,
    );
    if request.headers().contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
        // Refused only where no trace layer is there to take it.
        let _ = span.set_parent(parent);
    }
    span
}

/// The caller's id, where it is fit to be logged.
fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    let id = headers.get(REQUEST_ID)?;
    let fit = id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(byte));
    (fit && !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES).then(|| RequestId(id.clone()))
}

/// Methods as labels: a closed set, since a caller may send any word.
fn label_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
