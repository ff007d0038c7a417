//! Aggregate: several calls, in parallel or one after the other, and one answer.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use serde_json::{Map, Value};
use tessera_service::ProductError;

use super::attempt::{Deadline, Outgoing};
use super::call::{self, is_json};
use super::{Exchange, Reply, headers, inside, limits, respond, upload};
use crate::Error;
use crate::aggregate::{Call, Failed, Plan};
use crate::domain::path::encode_segment;
use crate::engine::Incoming;
use crate::mapping::apply;
use crate::snapshot::Route;
use crate::tallies::CallLabels;

/// Which calls failed of an answer that is there all the same.
const PARTIAL: HeaderName = HeaderName::from_static("x-gateway-partial");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Headers that speak of the caller's own body and answer, not of those of the calls.
const OF_ONE_BODY: [&str; 15] = [
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "digest",
    "content-digest",
    "expect",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
];

/// Why a call gave nothing.
enum Why {
    /// The upstream failed.
    Upstream(Error),
    /// It answered with this status.
    Status(u16),
    /// What it answered is not JSON.
    NotJson,
    /// The call needs a place that has nothing.
    Missing(String),
}

/// Asks all and answers.
///
/// # Errors
/// Those of a call that the answer cannot do without.
pub(super) async fn aggregate(
    exchange: &mut Exchange,
    route: &Route,
    plan: &Plan,
    incoming: Incoming,
) -> Result<Reply, Error> {
    let deadline = Deadline::of(route, &exchange.head.headers);
    let body = if plan.uses_body { upload::json(exchange, route, incoming).await? } else { Value::Null };
    let mut known = facts(exchange, route, plan, body);
    let keys: Vec<Option<u64>> = plan.calls.iter().map(|call| limits::hash_of(exchange, &call.upstream)).collect();
    headers::for_upstream(exchange, route);
    let mut base = std::mem::take(&mut exchange.head.headers);
    OF_ONE_BODY.iter().for_each(|name| drop(base.remove(*name)));
    base.remove(http::header::HOST);
    base.remove(ACCEPT_ENCODING);
    base.insert(ACCEPT, JSON);
    let (mut tries, common) = (Tries::default(), Common { base, keys, deadline });
    let ran = run(exchange, route, plan, &common, &mut known, &mut tries).await;
    exchange.record.attempts += tries.attempts;
    exchange.record.was_sent |= tries.was_sent;
    let failed = ran?;
    let answer = plan.answer(&known, &failed);
    let mut head = HeaderMap::new();
    head.insert(CONTENT_TYPE, JSON);
    if !failed.is_empty() {
        let told: Vec<String> = failed.iter().map(|failed| format!("{};code={}", failed.call, failed.code)).collect();
        if let Ok(value) = HeaderValue::try_from(told.join(", ")) {
            head.insert(PARTIAL, value);
        }
    }
    Ok(Reply::Upstream(respond::whole(exchange, StatusCode::OK, head, Bytes::from(answer.to_string()))))
}

/// What all calls of a request have in common.
struct Common {
    /// Their headers.
    base: HeaderMap,
    /// What chooses the endpoint of each under `balance: hash`.
    keys: Vec<Option<u64>>,
    deadline: Deadline,
}

/// What was tried, all calls together.
#[derive(Default)]
struct Tries {
    attempts: u32,
    /// Whether a service may have begun to act.
    was_sent: bool,
}

/// Starts each call when those it waits for are done, and gives those that failed.
async fn run(
    exchange: &Exchange,
    route: &Route,
    plan: &Plan,
    common: &Common,
    known: &mut Value,
    tries: &mut Tries,
) -> Result<Vec<Failed>, Error> {
    let mut is_done = vec![false; plan.calls.len()];
    let mut waiting: Vec<usize> = (0..plan.calls.len()).collect();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    let count = |at: usize, outcome: &'static str| {
        let (route, call) = (route.name.to_string(), plan.calls[at].name.to_string());
        let tallies = &exchange.worker.shared.metrics.tallies;
        tallies.calls.get_or_create(&CallLabels { route, call, outcome }).inc();
    };
    loop {
        let (ready, later): (Vec<usize>, Vec<usize>) =
            waiting.into_iter().partition(|at| plan.calls[*at].after.iter().all(|needed| is_done[*needed]));
        waiting = later;
        for at in ready {
            let call = &plan.calls[at];
            let deadline = common.deadline.within(call.spec.timeout.map(|limit| limit.0));
            let prepared = prepare(exchange, route, call, &common.base, known);
            let (key, peer) = (common.keys[at], inside::peer_of(exchange));
            let asked = prepared.map(|(outgoing, body)| call::Call { outgoing, body, key, deadline, peer });
            running.push(async move {
                match asked {
                    Ok(asked) => (at, one(exchange, route, call, &asked).await),
                    Err(missing) => (at, (Err(missing), Tries::default())),
                }
            });
        }
        let Some((at, (outcome, own))) = running.next().await else { return Ok(failed) };
        is_done[at] = true;
        tries.attempts += own.attempts;
        tries.was_sent |= own.was_sent;
        let call = &plan.calls[at];
        let mut value = match outcome {
            Ok(value) => {
                count(at, "answered");
                value
            }
            Err(why) => {
                let is_skipped = matches!(why, Why::Missing(_));
                count(at, if is_skipped { "skipped" } else { "failed" });
                if !call.spec.may_fail() {
                    // Those that are given up with it may have come to a service.
                    tries.was_sent |= !running.is_empty();
                    return Err(why.error(call));
                }
                failed.push(why.failed(call));
                match &call.spec.default {
                    Some(default) => default.clone(),
                    None => continue,
                }
            }
        };
        apply(&call.spec.change, &mut value);
        known[&*call.name] = value;
    }
}

/// What places can have before any call: the path's parameters, and the request.
fn facts(exchange: &Exchange, route: &Route, plan: &Plan, body: Value) -> Value {
    let mut known = Map::new();
    for name in &route.parameters {
        known.insert(name.clone(), exchange.parameter(name).unwrap_or_default().into());
    }
    let query = exchange.head.uri.query().unwrap_or_default().as_bytes();
    let mut parameters = Map::new();
    for (name, value) in url::form_urlencoded::parse(query) {
        // Of several the first, as everywhere else.
        parameters.entry(name).or_insert_with(|| value.into());
    }
    let used = plan.uses_headers.iter().filter_map(|name| {
        let value = exchange.head.headers.get(name)?.to_str().ok()?;
        Some((name.clone(), Value::from(value)))
    });
    known.insert("headers".into(), Value::Object(used.collect()));
    known.insert("query".into(), Value::Object(parameters));
    known.insert("body".into(), body);
    if let Some(identity) = &exchange.identity {
        known.insert("subject".into(), identity.subject.as_str().into());
        known.insert("claims".into(), Value::Object(identity.claims.clone()));
    }
    Value::Object(known)
}

/// The head and the body of a call.
fn prepare(
    exchange: &Exchange,
    route: &Route,
    call: &Call,
    base: &HeaderMap,
    known: &Value,
) -> Result<(Outgoing, Bytes), Why> {
    let missing = |missing: crate::mapping::Missing| Why::Missing(missing.0);
    let path = call.spec.path.fill(known, |text, value| match text.contains('?') {
        true => text.extend(url::form_urlencoded::byte_serialize(value.as_bytes())),
        false => text.push_str(&encode_segment(value)),
    });
    let path = path.map_err(missing)?;
    // A segment that is put together must not lead elsewhere, and escaped dots are dots to many.
    if path.split('?').next().unwrap_or_default().split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Why::Upstream(Error::BadPath("a call of it would lead elsewhere")));
    }
    let path =
        PathAndQuery::try_from(path).map_err(|_| Why::Upstream(Error::BadPath("a call of it cannot be made")))?;
    let mut headers = base.clone();
    headers::vouch(&mut headers, exchange, &call.upstream);
    if !route.request_headers.is_empty() {
        headers::edit(&mut headers, &route.request_headers, exchange);
    }
    for (name, text) in &call.headers {
        let value = text.fill(known, |text, value| text.push_str(value)).map_err(missing)?;
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    let body = match &call.spec.body {
        Some(form) => {
            headers.insert(CONTENT_TYPE, JSON);
            Bytes::from(form.fill(known).unwrap_or(Value::Null).to_string())
        }
        None => Bytes::new(),
    };
    Ok((Outgoing { method: call.method.clone(), path, headers, host: None }, body))
}

async fn one(exchange: &Exchange, route: &Route, call: &Call, asked: &call::Call) -> (Result<Value, Why>, Tries) {
    let called = match call::call(&exchange.worker, &call.upstream, asked, &route.spec.retry).await {
        Ok(called) => called,
        Err(call::Failed { error, attempts, was_sent }) => {
            return (Err(Why::Upstream(error)), Tries { attempts, was_sent });
        }
    };
    let tries = Tries { attempts: called.attempts, was_sent: true };
    let whole = called.whole(&call.upstream, call.spec.size.0, asked.deadline.at).await;
    let value = whole.map_err(Why::Upstream).and_then(|(head, body)| {
        if !head.status.is_success() {
            return Err(Why::Status(head.status.as_u16()));
        }
        if body.is_empty() || call.method == Method::HEAD {
            return Ok(Value::Null);
        }
        if !is_json(head.headers.get(CONTENT_TYPE)) {
            return Err(Why::NotJson);
        }
        serde_json::from_slice(&body).map_err(|_| Why::NotJson)
    });
    (value, tries)
}

impl Why {
    fn failed(&self, call: &Call) -> Failed {
        let code = match self {
            Self::Upstream(error) => error.code(),
            Self::Status(_) | Self::NotJson => "gateway.call_failed",
            Self::Missing(_) => "gateway.call_skipped",
        };
        let status = if let Self::Status(status) = self { Some(*status) } else { None };
        Failed { call: Arc::clone(&call.name), code, status }
    }

    fn error(self, call: &Call) -> Error {
        let (status, reason) = match self {
            Self::Upstream(error) => return error,
            Self::Status(status) => (status, format!("it was answered {status}")),
            Self::NotJson => (502, "its answer is not JSON".to_owned()),
            Self::Missing(place) => (502, format!("nothing is known of `{place}`, which it needs")),
        };
        Error::CallFailed { call: call.name.to_string(), status, reason }
    }
}
