//! Transform and respond: what the caller gets.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, ALT_SVC, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode, Version};
use tessera_kernel::ErrorKind;
use tessera_service::{Problem, ProductError};

use super::identify::REQUEST_ID;
use super::{Exchange, compress, headers, version};
use crate::Error;
use crate::domain::grpc::Dialect;
use crate::domain::path::is_normal;
use crate::engine::{Answer, Body, Source};
use crate::spec::Template;
use crate::transcode::Transcoded;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How long clients may remember where HTTP/3 is spoken.
const ALTERNATIVE_S: u32 = 86_400;
/// An answer that is in memory says something at once.
const OWN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// An answer of an upstream, or one that was made of it.
pub(super) fn upstreams(exchange: Exchange, answer: Response<Source>) -> Response<Body> {
    let (mut head, source) = answer.into_parts();
    headers::strip_hops(&mut head.headers);
    let snapshot = exchange.snapshot.clone();
    let route = exchange.route.map(|at| &snapshot.routes[at]);
    if let Some(route) = route.filter(|route| !route.response_headers.is_empty()) {
        headers::edit(&mut head.headers, &route.response_headers, &exchange);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    complete(&exchange, &mut head.headers);
    let source = match route.and_then(|route| route.spec.compress.as_ref()) {
        Some(spec) => {
            let is_head = exchange.head.method == Method::HEAD;
            compress::answer(spec, exchange.compresses, is_head, &mut head, source)
        }
        None => source,
    };
    let idle_timeout = route.map_or(OWN_TIMEOUT, |route| route.spec.idle_timeout.0);
    let Exchange { held, mut record, worker, head: asked, .. } = exchange;
    worker.spare.keep_map(asked.headers);
    record.status = head.status.as_u16();
    let answer = Answer::new(source, held, record, idle_timeout);
    Response::from_parts(head, Body::Answer(Box::new(answer)))
}

/// An answer whose body is in memory.
pub(super) fn whole(exchange: &Exchange, status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Response<Source> {
    if !body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let is_head = exchange.head.method == Method::HEAD;
    let mut response = Response::new(Source::Own((!is_head && !body.is_empty()).then_some(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer of the gateway's own.
pub(super) fn own(exchange: Exchange, status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = whole(&exchange, status, headers, body);
    complete(&exchange, response.headers_mut());
    let Exchange { held, mut record, worker, head: asked, .. } = exchange;
    worker.spare.keep_map(asked.headers);
    record.status = status.as_u16();
    response.map(|source| Body::Answer(Box::new(Answer::new(source, held, record, OWN_TIMEOUT))))
}

/// A stream that is made of one of gRPC.
pub(super) fn transcoded(exchange: Exchange, headers: HeaderMap, stream: Box<Transcoded>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.headers_mut() = headers;
    complete(&exchange, response.headers_mut());
    let idle_timeout = exchange.route.map_or(OWN_TIMEOUT, |at| exchange.snapshot.routes[at].spec.idle_timeout.0);
    let is_head = exchange.head.method == Method::HEAD;
    let Exchange { held, mut record, .. } = exchange;
    record.status = StatusCode::OK.as_u16();
    let source = if is_head { Source::Own(None) } else { Source::Transcoded(stream) };
    *response.body_mut() = Body::Answer(Box::new(Answer::new(source, held, record, idle_timeout)));
    response
}

/// Where the caller is sent.
///
/// # Errors
/// [`Error::BadPath`] where what he asked for would lead him to another place than the config says.
pub(super) fn location(exchange: &Exchange, to: &Template) -> Result<HeaderMap, Error> {
    let target = to.fill(|name| match name {
        "host" | "query" => headers::text_of(exchange, name),
        name => headers::in_path(exchange, name),
    });
    let whole = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    let rest = whole.map_or(target.as_str(), |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let target = HeaderValue::try_from(target.as_str()).ok().filter(|_| is_normal(path));
    let target = target.ok_or(Error::BadPath("the place it leads to cannot be named"))?;
    Ok(HeaderMap::from_iter([(LOCATION, target)]))
}

/// A refusal or failure, as a problem; to gRPC callers as a status of theirs.
pub(super) fn refuse(mut exchange: Exchange, error: Error) -> Response<Body> {
    exchange.record.failed(&error);
    if error.kind() == ErrorKind::Internal {
        let request_id = exchange.request_id().to_str().unwrap_or_default();
        tracing::error!(request.id = request_id, error.code = error.code(), error.detail = %error, "failed");
    }
    let mut headers = HeaderMap::new();
    if let Some(challenge) = error.challenge().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Error::MethodNotAllowed { allowed, .. } = &error
        && let Ok(allowed) = HeaderValue::from_str(allowed)
    {
        headers.insert(ALLOW, allowed);
    }
    if matches!(error, Error::UnknownCoding(_)) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd, br, gzip"));
    }
    if let Some(seconds) = error.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(dialect) = exchange.grpc {
        return refuse_grpc(exchange, dialect, &error, headers);
    }
    headers.insert(CONTENT_TYPE, PROBLEM);
    let mut problem = Problem::from(error.clone());
    if exchange.record.was_sent {
        // An earlier attempt reached a service, whatever became of the last one.
        problem.members.insert("may_retry".into(), false.into());
    }
    if problem.status >= 500 {
        // Where our upstreams are and why they fail is in the log.
        problem.detail = public_detail(&error).to_owned();
    }
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = problem.body(exchange.request_id().to_str().ok());
    own(exchange, status, headers, body.into())
}

fn public_detail(error: &Error) -> &'static str {
    match error {
        Error::UpstreamTimeout { .. } => {
            "the service behind did not answer in time; its log and ours have this request id"
        }
        Error::NoEndpoint { .. } | Error::TooManyAtOnce { .. } => {
            "the service behind takes no requests now; try again later"
        }
        Error::KeysUnavailable { .. } => "who you are cannot be checked now; try again later",
        Error::NotCached => "nothing that is kept answers this, and `only-if-cached` forbids to fetch it; ask without",
        Error::Overloaded => "there is too much to do now; try again in a few seconds",
        Error::Internal(_) => "the gateway could not do it; its log says why, under this request id",
        _ => "the service behind could not be asked; the log says why, under this request id",
    }
}

/// Statuses of gRPC for HTTP's.
fn refuse_grpc(exchange: Exchange, dialect: Dialect, error: &Error, mut headers: HeaderMap) -> Response<Body> {
    let status: u8 = match error.kind() {
        _ if matches!(error, Error::BodyTooLarge { .. } | Error::HeadTooLarge) => 8,
        _ if matches!(error, Error::MethodNotAllowed { .. }) => 12,
        ErrorKind::Unauthenticated => 16,
        ErrorKind::Forbidden => 7,
        ErrorKind::NotFound => 12,
        ErrorKind::Limited => 8,
        ErrorKind::Timeout => 4,
        ErrorKind::Unavailable => 14,
        ErrorKind::Internal => 13,
        _ => 3,
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type()));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    headers.insert("grpc-message", HeaderValue::from_static(error.code()));
    own(exchange, StatusCode::OK, headers, Bytes::new())
}

/// Says where HTTP/3 is spoken (RFC 7838), to those who come to the same listener otherwise.
fn tell_http3(exchange: &Exchange, headers: &mut HeaderMap) {
    if exchange.snapshot.alternatives.is_empty() || !exchange.peer.is_tls || exchange.head.version == Version::HTTP_3 {
        return;
    }
    let local = exchange.peer.local.port();
    // A listener on port 0 has whichever the system gave it.
    let at = exchange.snapshot.alternatives.iter().find(|(port, _)| *port == local || *port == 0);
    let Some((_, named)) = at else { return };
    let text = format!("h3=\":{}\"; ma={ALTERNATIVE_S}", named.unwrap_or(local));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(ALT_SVC, value);
    }
}

/// What every answer has.
fn complete(exchange: &Exchange, headers: &mut HeaderMap) {
    headers.insert(REQUEST_ID, exchange.request_id().clone());
    version::tell(exchange, headers);
    tell_http3(exchange, headers);
    let Some((name, outcome)) = &exchange.rate else { return };
    let verdict = outcome.verdict;
    let reset_s = verdict.reset_us.div_ceil(1_000_000);
    let limit = format!("\"{name}\";r={};t={reset_s}", verdict.remaining);
    let policy = format!("\"{name}\";q={};w={}", outcome.burst, outcome.window_s);
    for (header, text) in [(RATE_LIMIT, limit), (RATE_LIMIT_POLICY, policy)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
    // As they were before the draft named them `ratelimit`, which many clients still read.
    headers.insert("ratelimit-limit", HeaderValue::from(outcome.burst));
    headers.insert("ratelimit-remaining", HeaderValue::from(verdict.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(reset_s));
}
