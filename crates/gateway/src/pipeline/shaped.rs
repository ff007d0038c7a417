//! Forwarding of what is checked or changed on the way: bodies that must be seen whole are read into memory, there and back;
//! all others pass as they come.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RANGE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::Body as _;
use serde_json::Value;
use tokio::time::Instant;

use super::call::{Called, is_json};
use super::forward::{Sending, Toward};
use super::{Exchange, cache, headers, respond, upload};
use crate::Error;
use crate::engine::{Held, Incoming, Source};
use crate::mapping::apply;
use crate::snapshot::Route;
use crate::spec::Strictness;
use crate::tallies::InvalidLabels;
use crate::upstream::Upstream;
use crate::validate::{Fault, Faults, Found, In, Rules};
use crate::versions::Version;

/// A body above this is checked on a thread for that: it takes longer than others should wait.
const LARGE_BYTES: usize = 64 << 10;
/// The largest answer that is changed where nothing else is said.
const MOST_CHANGED: u64 = 8 << 20;

/// Whether requests of a route must go this way.
pub(super) fn concerns(exchange: &Exchange, route: &Route) -> bool {
    route.rules.is_some() || exchange.version.is_some()
}

/// Checks and changes a request, has it answered, and checks and changes the answer.
///
/// # Errors
/// [`Error::Invalid`], [`Error::InvalidAnswer`], and those of forwarding.
pub(super) async fn forward(
    exchange: &mut Exchange,
    route: &Route,
    toward: Toward<'_>,
    sending: Sending,
) -> Result<Response<Source>, Error> {
    let snapshot_version = exchange.version.and_then(|at| route.versions.as_ref()?.known.get(at));
    if let Some(version) = snapshot_version.filter(|version| !version.query.is_empty()) {
        rename_query(exchange, version)?;
    }
    let changes_body = snapshot_version.is_some_and(|version| !version.request.is_empty())
        && is_json(exchange.head.headers.get(CONTENT_TYPE));
    let path = headers::rewritten(exchange, route)?.into_owned();
    let rules = rules_for(exchange, route, &path, toward.upstream)?;
    let reads_body = rules.as_ref().is_some_and(|rules| rules.reads_body(exchange, &path));
    let sending = match sending {
        Sending::Passing(incoming) if changes_body || reads_body => {
            let mut body = whole_body(exchange, route, incoming).await?;
            if let Some(version) = snapshot_version.filter(|_| changes_body) {
                let mut value = upload::parse(&body)?;
                apply(&version.request, &mut value);
                body = Bytes::from(value.to_string());
                exchange.head.headers.remove(TRANSFER_ENCODING);
                exchange.head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            }
            Sending::Whole(body)
        }
        sending => sending,
    };
    if let Some(rules) = &rules {
        rules.check_request(exchange, route, &path, &sending).await?;
    }
    let reads_answer = rules.as_ref().is_some_and(|rules| rules.answers != Strictness::Off);
    if reads_answer || snapshot_version.is_some_and(Version::changes_answers) {
        // What is packed or a part of something cannot be looked into.
        exchange.head.headers.remove(ACCEPT_ENCODING);
        exchange.head.headers.remove(RANGE);
    }
    let method = exchange.head.method.clone();
    let answer = cache::answer(exchange, route, toward, sending).await?;
    let answer = Answered { answer, method, path, upstream: toward.upstream.clone() };
    answer.finish(exchange, route, rules, snapshot_version).await
}

fn rename_query(exchange: &mut Exchange, version: &Version) -> Result<(), Error> {
    let Some(query) = exchange.head.uri.query() else { return Ok(()) };
    let (path, query) = (exchange.head.uri.path().to_owned(), version.renamed_query(query));
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    exchange.head.uri = target.parse::<Uri>().map_err(|_| Error::BadPath("its query cannot be passed on"))?;
    Ok(())
}

async fn whole_body(exchange: &mut Exchange, route: &Route, incoming: Incoming) -> Result<Bytes, Error> {
    let encoding = exchange.head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    if encoding.is_some() {
        let detail = "the body must be looked into; send it without an encoding".to_owned();
        let fault = Fault { place: In::Header, pointer: "/content-encoding".into(), detail };
        return Err(Error::Invalid { faults: vec![fault], status: 415 });
    }
    upload::whole(exchange, route, incoming).await
}

/// Rules with the strictness of a route.
struct Checking {
    rules: Arc<Rules>,
    requests: Strictness,
    answers: Strictness,
    most_bytes: u64,
    /// Who is asked.
    upstream: Arc<str>,
}

/// The rules that a request is under, where there are any.
fn rules_for(exchange: &Exchange, route: &Route, path: &str, upstream: &Upstream) -> Result<Option<Checking>, Error> {
    let (Some(rules), Some(spec)) = (&route.rules, &route.spec.validate) else { return Ok(None) };
    let refused = match rules.find(&exchange.head.method, path) {
        Found::Operation(..) => {
            return Ok(Some(Checking {
                rules: rules.clone(),
                requests: spec.requests,
                answers: spec.answers,
                most_bytes: spec.size.0,
                upstream: upstream.name.clone(),
            }));
        }
        Found::NoPath => Error::NoRoute(exchange.path.chars().take(200).collect()),
        Found::NoMethod(allowed) => {
            let mut allowed: Vec<&str> = allowed.into_iter().map(Method::as_str).collect();
            allowed.dedup();
            Error::MethodNotAllowed { method: exchange.head.method.to_string(), allowed: allowed.join(", ") }
        }
    };
    if spec.unknown == Strictness::Off {
        return Ok(None);
    }
    count(exchange, route, "request", spec.unknown);
    if spec.unknown == Strictness::Refuse { Err(refused) } else { Ok(None) }
}

fn count(exchange: &Exchange, route: &Route, part: &'static str, strictness: Strictness) {
    let outcome = if strictness == Strictness::Refuse { "refused" } else { "reported" };
    let labels = InvalidLabels { route: route.name.to_string(), part, outcome };
    exchange.worker.shared.metrics.tallies.invalid.get_or_create(&labels).inc();
}

/// What was wrong, for the log; never with values.
fn told(faults: &[Fault]) -> String {
    let first =
        faults.iter().take(3).map(|fault| format!("{} `{}`: {}", fault.place.name(), fault.pointer, fault.detail));
    format!("{}{}", first.collect::<Vec<_>>().join("; "), if faults.len() > 3 { "; …" } else { "" })
}

fn report(exchange: &Exchange, route: &Route, part: &'static str, faults: &[Fault]) {
    let request_id = exchange.request_id().to_str().unwrap_or_default();
    tracing::warn!(
        request.id = request_id,
        route = &*route.name,
        part,
        faults = told(faults),
        "does not fit its schema"
    );
}

impl Checking {
    fn reads_body(&self, exchange: &Exchange, path: &str) -> bool {
        let Found::Operation(operation, _) = self.rules.find(&exchange.head.method, path) else { return false };
        self.requests != Strictness::Off && operation.reads_body(&exchange.head.headers)
    }

    async fn check_request(
        &self,
        exchange: &Exchange,
        route: &Route,
        path: &str,
        sending: &Sending,
    ) -> Result<(), Error> {
        if self.requests == Strictness::Off {
            return Ok(());
        }
        let has_body = !matches!(sending, Sending::Nothing);
        let body = if let Sending::Whole(body) = sending { Some(body.clone()) } else { None };
        let is_large = body.as_ref().is_some_and(|body| body.len() > LARGE_BYTES);
        let (rules, method, path) = (self.rules.clone(), exchange.head.method.clone(), path.to_owned());
        let (query, headers) = (exchange.head.uri.query().map(str::to_owned), exchange.head.headers.clone());
        let check = move || match rules.find(&method, &path) {
            Found::Operation(operation, captures) => {
                operation.check_request(&captures, query.as_deref(), &headers, has_body, body.as_ref())
            }
            _ => Faults::default(),
        };
        let faults = if is_large { exchange.worker.shared.fetcher.work(check).await? } else { check() };
        if faults.list.is_empty() {
            return Ok(());
        }
        count(exchange, route, "request", self.requests);
        if self.requests == Strictness::Report {
            report(exchange, route, "request", &faults.list);
            return Ok(());
        }
        let status = if faults.is_unknown_type { 415 } else { 400 };
        Err(Error::Invalid { faults: faults.list, status })
    }

    async fn check_answer(
        &self,
        exchange: &Exchange,
        route: &Route,
        (method, path): (&Method, &str),
        (status, headers): (u16, &HeaderMap),
        body: &Bytes,
    ) -> Result<(), Error> {
        let (rules, method, path) = (self.rules.clone(), method.clone(), path.to_owned());
        let (headers, body) = (headers.clone(), body.clone());
        let is_large = body.len() > LARGE_BYTES;
        let check = move || match rules.find(&method, &path) {
            Found::Operation(operation, _) => operation.check_answer(status, &headers, &body),
            _ => Faults::default(),
        };
        let faults = if is_large { exchange.worker.shared.fetcher.work(check).await? } else { check() };
        self.judge_answer(exchange, route, &faults.list)
    }

    fn judge_answer(&self, exchange: &Exchange, route: &Route, faults: &[Fault]) -> Result<(), Error> {
        if faults.is_empty() {
            return Ok(());
        }
        count(exchange, route, "answer", self.answers);
        report(exchange, route, "answer", faults);
        if self.answers == Strictness::Report {
            return Ok(());
        }
        Err(Error::InvalidAnswer { upstream: self.upstream.to_string(), reason: told(faults) })
    }
}

/// An answer that has begun.
struct Answered {
    answer: Response<Source>,
    method: Method,
    path: String,
    upstream: Arc<Upstream>,
}

impl Answered {
    /// Passes it on, or reads, checks and changes it.
    async fn finish(
        self,
        exchange: &mut Exchange,
        route: &Route,
        rules: Option<Checking>,
        version: Option<&Version>,
    ) -> Result<Response<Source>, Error> {
        let Self { mut answer, method, path, upstream } = self;
        let status = answer.status();
        if let (Some(versions), Some(at)) = (&route.versions, exchange.version) {
            versions.rename_back(at, answer.headers_mut());
        }
        let has_body = method != Method::HEAD && !answer.body().is_end_stream();
        // That the caller has the answer already says nothing about its body.
        let checking = rules.filter(|rules| rules.answers != Strictness::Off && status != StatusCode::NOT_MODIFIED);
        let is_checked = checking.as_ref().is_some_and(|checking| match checking.rules.find(&method, &path) {
            Found::Operation(operation, _) => operation.reads_answer(status.as_u16(), answer.headers()),
            _ => false,
        });
        if let Some(checking) = &checking
            && let Found::Operation(operation, _) = checking.rules.find(&method, &path)
            && !operation.describes(status.as_u16())
        {
            let detail = format!("an answer with status {} is not described", status.as_u16());
            checking.judge_answer(exchange, route, &[Fault { place: In::Body, pointer: String::new(), detail }])?;
        }
        let is_plain = answer.headers().get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
        let version = version.filter(|version| {
            version.changes_answers() && status.is_success() && is_plain && is_json(answer.headers().get(CONTENT_TYPE))
        });
        if !has_body || !(is_checked || version.is_some()) {
            return Ok(answer);
        }
        let most = checking.as_ref().filter(|_| is_checked).map_or(MOST_CHANGED, |checking| checking.most_bytes);
        let deadline = Instant::now() + route.spec.timeout.0;
        let (mut head, mut body) =
            Called { answer, held: Held::default(), attempts: 0 }.whole(&upstream, most, deadline).await?;
        if let Some(checking) = checking.filter(|_| is_checked) {
            let answered = (status.as_u16(), &head.headers);
            checking.check_answer(exchange, route, (&method, &path), answered, &body).await?;
        }
        if let Some(version) = version {
            let reason = "its answer says it is JSON and is not".to_owned();
            let upstream = upstream.name.to_string();
            let parsed = serde_json::from_slice::<Value>(&body);
            let mut value = parsed.map_err(|_| Error::InvalidAnswer { upstream, reason })?;
            apply(&version.answer, &mut value);
            body = Bytes::from(value.to_string());
            for digest in ["content-md5", "digest", "content-digest", "repr-digest"] {
                head.headers.remove(digest);
            }
            head.headers.remove(ACCEPT_RANGES);
        }
        Ok(respond::whole(exchange, status, head.headers, body))
    }
}
