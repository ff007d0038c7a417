//! Transcode: a request of HTTP and JSON becomes a call of gRPC, and its answer JSON again.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TE,
};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use std::sync::Arc;
use tokio::time::timeout_at;

use super::attempt::{Deadline, GRPC_TIME_LEFT, Outgoing};
use super::call::{self, Call};
use super::choose::not_allowed;
use super::{Exchange, Reply, headers, inside, limits, respond, upload};
use crate::Error;
use crate::engine::Incoming;
use crate::snapshot::Route;
use crate::transcode::{
    First, Form, Found, Meant, Messages, Next, Status, Transcoded, Transcoder, answer_json, framed, request_messages,
};
use crate::upstream::Upstream;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Calls the method that a request means.
///
/// # Errors
/// [`Error::Invalid`], [`Error::Grpc`], and those of the upstream's side.
pub(super) async fn transcode(
    exchange: &mut Exchange,
    route: &Route,
    transcoder: &Transcoder,
    upstream: &Arc<Upstream>,
    incoming: Incoming,
) -> Result<Reply, Error> {
    let deadline = Deadline::of(route, &exchange.head.headers);
    let path = headers::rewritten(exchange, route)?.into_owned();
    let meant = match transcoder.find(&exchange.head.method, &path) {
        Found::Meant(meant) => meant,
        Found::NoPath => return Err(Error::NoRoute(exchange.path.chars().take(200).collect())),
        Found::OtherMethods(methods) => return Err(not_allowed(exchange, &methods)),
        Found::NotYet => {
            let reason = "it has not described itself yet";
            return Err(Error::NoEndpoint { upstream: upstream.name.to_string(), reason });
        }
    };
    let body = upload::whole(exchange, route, incoming).await?;
    let kind = exchange.head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let messages = request_messages(&meant, exchange.head.uri.query(), kind, &body);
    let messages = messages.map_err(|fault| Error::Invalid { faults: vec![fault], status: 400 })?;
    let wants_events = exchange
        .head
        .headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/event-stream")));
    // A stream may last; what is not one must be answered in the route's time.
    let deadline = if meant.method.is_server_streaming() { deadline } else { deadline.of_whole_call() };
    let key = limits::hash_of(exchange, upstream);
    let outgoing = prepare(exchange, route, upstream, &meant, deadline)?;
    let asked = Call { outgoing, body: framed(&messages), key, deadline, peer: inside::peer_of(exchange) };
    let answer = call::answer(exchange, upstream, &asked, &route.spec.retry).await?;
    let endpoint = exchange.record.endpoint.clone();
    let bad = |reason: String| Error::BadAnswer {
        upstream: upstream.name.to_string(),
        endpoint: endpoint.as_ref().map(|endpoint| endpoint.url.to_string()).unwrap_or_default(),
        reason,
    };
    let (mut head, incoming) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(bad(format!("it answered {} and no gRPC", head.status.as_u16())));
    }
    if let Some(status) = Status::of(&head.headers).filter(|status| status.code != 0) {
        return Err(error_of(&meant, &status));
    }
    headers::strip_hops(&mut head.headers);
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING] {
        head.headers.remove(name);
    }
    for name in ["grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message", "trailer"] {
        head.headers.remove(name);
    }
    let mut head = head.headers;
    let messages = Messages::new(incoming, transcoder.spec.size.0);
    if meant.method.is_server_streaming() {
        let form = if wants_events { Form::Events } else { Form::Lines };
        let (output, all_fields) = (meant.method.output(), transcoder.spec.all_fields);
        let mut stream = Transcoded::new(messages, output, meant.answer.clone(), all_fields, form);
        match timeout_at(deadline.at, stream.begin()).await {
            Err(_) => return Err(deadline.missed(upstream)),
            Ok(Err(reason)) => return Err(bad(reason)),
            Ok(Ok(First::Failed(status))) => return Err(error_of(&meant, &status)),
            Ok(Ok(First::Begun)) => {}
        }
        head.insert(CONTENT_TYPE, if wants_events { EVENTS } else { LINES });
        head.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers::edit(&mut head, &route.response_headers, exchange);
        return Ok(Reply::Transcoded(head, Box::new(stream)));
    }
    let message = match timeout_at(deadline.at, unary(messages)).await {
        Err(_) => return Err(deadline.missed(upstream)),
        Ok(Err(reason)) => return Err(bad(reason)),
        Ok(Ok((_, status))) if status.code != 0 => return Err(error_of(&meant, &status)),
        Ok(Ok((None, _))) => return Err(bad("it answered without a message".into())),
        Ok(Ok((Some(message), _))) => message,
    };
    let part = meant.answer.as_deref();
    let (body, kind) = answer_json(&meant.method.output(), message, part, transcoder.spec.all_fields).map_err(bad)?;
    let kind = kind.and_then(|kind| HeaderValue::try_from(kind).ok());
    head.insert(CONTENT_TYPE, kind.unwrap_or(JSON));
    Ok(Reply::Upstream(respond::whole(exchange, StatusCode::OK, head, body)))
}

/// The head of the call.
fn prepare(
    exchange: &mut Exchange,
    route: &Route,
    upstream: &Upstream,
    meant: &Meant,
    deadline: Deadline,
) -> Result<Outgoing, Error> {
    headers::for_upstream(exchange, route);
    let mut map = std::mem::take(&mut exchange.head.headers);
    for name in [ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_ENCODING, http::header::HOST, http::header::RANGE] {
        map.remove(name);
    }
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    map.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(left) = deadline.grpc_text().filter(|_| !meant.method.is_server_streaming()) {
        map.insert(GRPC_TIME_LEFT, left);
    }
    headers::vouch(&mut map, exchange, upstream);
    if !route.request_headers.is_empty() {
        headers::edit(&mut map, &route.request_headers, exchange);
    }
    let path = format!("/{}/{}", meant.method.parent_service().full_name(), meant.method.name());
    let path = PathAndQuery::try_from(path).map_err(|_| Error::BadPath("its method cannot be asked for"))?;
    Ok(Outgoing { method: Method::POST, path, headers: map, host: None })
}

/// The message of an answer that has one, and how it ended.
async fn unary(mut messages: Messages) -> Result<(Option<Bytes>, Status), String> {
    let mut message = None;
    loop {
        match messages.next().await? {
            Next::End(status) => return Ok((message, status)),
            Next::Message(next) => {
                if message.replace(next).is_some() {
                    return Err("it answered with more than one message".into());
                }
            }
        }
    }
}

fn error_of(meant: &Meant, status: &Status) -> Error {
    let details = status.details(meant.method.parent_pool());
    Error::Grpc { code: status.code, message: status.message.chars().take(1_000).collect(), details }
}
