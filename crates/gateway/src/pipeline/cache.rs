//! Cache: what is kept is given to whom it is for; what is not is fetched, once for all who ask at the same time.
//!
//! The gateway has found out who asks and whether he may before anything here is looked at, so a hit is never a way around
//! a route's `access`. What is kept for one is given to another only where the upstream said so (`domain::freshness`).

use std::sync::Arc;

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, EXPIRES, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tessera_kernel::Timestamp;
use tokio::time::timeout;

use super::fill::{Filling, fill};
use super::{Exchange, Reply, forward, headers, limits};
use crate::Error;
use crate::cache::{
    Digest, Flight, Key, Landing, Store, Stored, Turn, kept_headers, landed, place, route as route_mark, tag_marks,
    value_digest, vary_names,
};
use crate::domain::conditions::{Part, is_not_modified, part};
use crate::domain::freshness::{self, Asker, SURROGATE_CONTROL, Use, Wishes};
use crate::domain::path::normalise;
use crate::engine::{Source, discard};
use crate::snapshot::{Caching, Route, bare_host};
use crate::spec::{CacheQuery, Key as CallerKey};
use crate::upstream::Upstream;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Who speaks in `cache-status`.
const NAME: &str = "tessera";
/// Of an answer that a stale one is used instead of, so much is read to keep its connection.
const MOST_DISCARDED: usize = 64 << 10;

/// Where a request goes if it has to.
#[derive(Clone, Copy)]
pub(super) struct Toward<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) mirror: Option<&'a Arc<Upstream>>,
    pub(super) host: Option<&'a HeaderValue>,
}

/// What is asked for, and what is known of it.
struct Asked {
    key: Key,
    wishes: Wishes,
    /// What is kept and may still hold.
    stored: Option<Arc<Stored>>,
    /// Who waits for the answer.
    flight: Option<Flight>,
    /// Why the upstream is asked, as in `cache-status`.
    why: &'static str,
}

/// Forwards, past the cache. What an unsafe request changed is voided.
///
/// # Errors
/// As [`forward::forward`].
pub(super) async fn past(
    exchange: &mut Exchange,
    route: &Route,
    toward: Toward<'_>,
    body: Incoming,
) -> Result<Response<Incoming>, Error> {
    let Toward { upstream, mirror, host } = toward;
    let answer = forward::forward(exchange, route, upstream, mirror, host, Some(body)).await?;
    if let Some(store) = &exchange.snapshot.cache
        && !exchange.head.method.is_safe()
        && (answer.status().is_success() || answer.status().is_redirection())
    {
        void_changed(store, exchange, answer.headers());
    }
    Ok(answer)
}

/// Voids the place that was changed, and those of the same host that the answer names (RFC 9111, 4.4).
fn void_changed(store: &Store, exchange: &Exchange, answer: &HeaderMap) {
    store.void(place(&exchange.host, &exchange.path));
    let base = url::Url::parse(&format!("http://{}{}", exchange.host, exchange.path));
    for name in [&LOCATION, &CONTENT_LOCATION] {
        let named = answer.get(name).and_then(|value| value.to_str().ok());
        let (Some(named), Ok(base)) = (named, &base) else { continue };
        let Ok(url) = base.join(named) else { continue };
        let is_ours = url.host_str().is_some_and(|host| bare_host(host) == exchange.host);
        if let Ok(path) = normalise(url.path())
            && is_ours
        {
            store.void(place(&exchange.host, &path));
        }
    }
}

/// Answers from what is kept, or fetches.
///
/// # Errors
/// As [`forward::forward`], and [`Error::NotCached`].
pub(super) async fn answer(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    body: Incoming,
) -> Result<Reply, Error> {
    let wishes = if caching.spec.callers_decide { Wishes::of(&exchange.head.headers) } else { Wishes::default() };
    let is_read = matches!(exchange.head.method, Method::GET | Method::HEAD);
    let is_plain = body.is_end_stream()
        && ![UPGRADE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| exchange.head.headers.contains_key(name));
    if !is_read || !is_plain || wishes.no_store {
        caching.counts.pass.inc();
        let mut answer = past(exchange, route, toward, body).await?;
        note_forward(answer.headers_mut(), caching, if is_read { "bypass" } else { "method" }, None);
        return Ok(Reply::Upstream(answer));
    }
    let key = key_of(exchange, caching, toward.upstream);
    let mut stored = find(exchange, caching, key).await;
    let now = exchange.worker.shared.clock.now();
    match stored.as_ref().map(|stored| (stored, stored.life.judge(&wishes, now))) {
        Some((stored, Use::Fresh)) => {
            caching.counts.hit.inc();
            return Ok(reply(exchange, stored, "hit"));
        }
        Some((stored, Use::Stale)) => {
            caching.counts.stale.inc();
            return Ok(reply(exchange, stored, "hit; detail=stale"));
        }
        Some((stored, Use::StaleWhile)) => {
            caching.counts.stale.inc();
            fetch_later(exchange, caching, toward, key, stored);
            return Ok(reply(exchange, stored, "hit; detail=stale-while-revalidate"));
        }
        Some((_, Use::Validate)) | None => {}
    }
    if wishes.only_if_cached {
        return Err(Error::NotCached);
    }
    if stored.is_none() && exchange.head.headers.contains_key(RANGE) {
        // A part is not kept, and the whole was not asked for.
        return pass(exchange, route, caching, toward, "miss").await;
    }
    let mut why = match &stored {
        Some(_) => "stale",
        None if caching.store.vary_of(key).is_some() => "vary-miss",
        None => "uri-miss",
    };
    let mut flight = None;
    let is_each_for_itself = wishes.no_cache
        || exchange.head.method == Method::HEAD
        || stored.as_ref().is_some_and(|stored| stored.life.no_cache)
        || caching.store.is_pass(key, now);
    if wishes.no_cache {
        why = "request";
    } else if !is_each_for_itself {
        match caching.store.flights.join(flight_key(exchange, caching, key)) {
            Turn::Lead(ours) => flight = Some(ours),
            Turn::Follow(theirs) => {
                let landing = timeout(route.spec.timeout.0, landed(theirs)).await.unwrap_or(Landing::Alone);
                if landing == Landing::Kept {
                    stored = find(exchange, caching, key).await;
                    let now = exchange.worker.shared.clock.now();
                    let usable = stored.as_ref().filter(|stored| stored.life.judge(&wishes, now) == Use::Fresh);
                    if let Some(stored) = usable {
                        caching.counts.coalesced.inc();
                        return Ok(reply(exchange, stored, &format!("hit; fwd={why}; collapsed")));
                    }
                }
            }
        }
    }
    fetch(exchange, route, caching, toward, Asked { key, wishes, stored, flight, why }).await
}

async fn find(exchange: &Exchange, caching: &Caching, key: Key) -> Option<Arc<Stored>> {
    let value = |name: &HeaderName| value_of(exchange, name);
    match caching.store.find(key, &value) {
        Some(stored) => Some(stored),
        None => caching.store.find_on_disk(key, &value).await,
    }
}

/// The digest of a header's value as the upstream would see it.
fn value_of(exchange: &Exchange, name: &HeaderName) -> Key {
    if headers::IDENTITY.contains(&name.as_str()) {
        // Not what the caller claims to be.
        return identity_digest(exchange);
    }
    value_digest(&exchange.head.headers, name)
}

/// Everything of who asks that an answer may depend on; what differs between two tokens of the same person does not count.
fn identity_digest(exchange: &Exchange) -> Key {
    const OF_THE_TOKEN: [&str; 6] = ["exp", "iat", "nbf", "jti", "auth_time", "nonce"];
    let Some(identity) = &exchange.identity else { return Digest::of("nobody").key() };
    let mut digest = Digest::of("identity").with(identity.subject.as_bytes());
    for list in [&identity.roles, &identity.scopes] {
        digest = digest.with(list.join("\n").as_bytes());
    }
    for (name, value) in identity.claims.iter().filter(|(name, _)| !OF_THE_TOKEN.contains(&name.as_str())) {
        digest = digest.with(name.as_bytes()).with(value.to_string().as_bytes());
    }
    digest.key()
}

/// What tells this request apart from others, but for `vary`.
fn key_of(exchange: &Exchange, caching: &Caching, upstream: &Upstream) -> Key {
    let head = &exchange.head;
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = authority.or_else(|| head.headers.get(http::header::HOST).map(HeaderValue::as_bytes));
    let authority = authority.unwrap_or_default().to_ascii_lowercase();
    let trusted = &exchange.snapshot.spec.trusted_proxies;
    let is_trusted = !trusted.is_empty() && trusted.iter().any(|block| block.contains(exchange.peer.remote.ip()));
    // Services answer by what they are told of the caller's side, such as with a redirect to `https`.
    let told = |name: &str| head.headers.get(name).filter(|_| is_trusted).map(HeaderValue::as_bytes);
    let mut digest = caching
        .scope
        .clone()
        .with(upstream.name.as_bytes())
        .with(if exchange.peer.is_tls { "https" } else { "http" }.as_bytes())
        .with_option(told("x-forwarded-proto"))
        .with_option(told("x-forwarded-host"))
        .with(&authority)
        .with(exchange.path.as_bytes());
    digest = match &caching.spec.query {
        CacheQuery::All => digest.with_option(head.uri.query().map(str::as_bytes)),
        CacheQuery::None => digest,
        chosen => {
            let pairs = chosen_pairs(head.uri.query().unwrap_or_default(), chosen);
            let pairs = pairs.fold(Digest::of("query"), |digest, pair| digest.with(pair.as_bytes()));
            digest.with(&pairs.key().to_le_bytes())
        }
    };
    for part in &caching.spec.by {
        digest = match part {
            CallerKey::Consumer => digest.with(&identity_digest(exchange).to_le_bytes()),
            part => digest.with_option(limits::key_text(exchange, part).as_deref().map(str::as_bytes)),
        };
    }
    digest.key()
}

/// The pairs of a query that count.
fn chosen_pairs<'q>(query: &'q str, chosen: &'q CacheQuery) -> impl Iterator<Item = &'q str> {
    let fits = |name: &str, pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    query.split('&').filter(move |pair| {
        let name = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned());
        let name = name.unwrap_or_default();
        match chosen {
            CacheQuery::All => true,
            CacheQuery::None => false,
            CacheQuery::Only(names) => names.iter().any(|pattern| fits(&name, pattern)),
            CacheQuery::Without(names) => !names.iter().any(|pattern| fits(&name, pattern)),
        }
    })
}

/// Who waits for whom: requests that choose the same variant, as far as that is known before the answer.
fn flight_key(exchange: &Exchange, caching: &Caching, key: Key) -> Key {
    let digest = Digest::of("flight").with(&key.to_le_bytes());
    let names = caching.store.vary_of(key).unwrap_or_default();
    names.iter().fold(digest, |digest, name| digest.with(&value_of(exchange, name).to_le_bytes())).key()
}

/// Forwards without keeping anything.
async fn pass(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    why: &str,
) -> Result<Reply, Error> {
    caching.counts.pass.inc();
    let Toward { upstream, mirror, host } = toward;
    let mut answer = forward::forward(exchange, route, upstream, mirror, host, None).await?;
    note_forward(answer.headers_mut(), caching, why, None);
    Ok(Reply::Upstream(answer))
}

/// Asks the upstream, with what is kept where that may still hold.
async fn fetch(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    asked: Asked,
) -> Result<Reply, Error> {
    let Asked { key, wishes, stored, flight, why } = asked;
    let (store, clock) = (&caching.store, exchange.worker.shared.clock.clone());
    let (since, asked_at) = (store.now(), clock.now());
    let given = exchange.head.headers.clone();
    let is_get = exchange.head.method == Method::GET;
    if is_get && (stored.is_some() || !store.is_pass(key, asked_at)) {
        // The whole answer is wanted, to be kept; what the caller has of it is looked at afterwards.
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
            exchange.head.headers.remove(name);
        }
    }
    if let Some(stored) = stored.as_ref().filter(|_| is_get) {
        for (from, to) in [(&ETAG, IF_NONE_MATCH), (&LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            if let Some(value) = stored.headers.get(from) {
                exchange.head.headers.insert(to, value.clone());
            }
        }
    }
    let asker = Asker::of(&given, exchange.identity.is_some());
    let asker = Asker { is_somebody: asker.is_somebody && !(caching.is_personal && exchange.identity.is_some()), ..asker };
    let Toward { upstream, mirror, host } = toward;
    let answered = forward::forward(exchange, route, upstream, mirror, host, None).await;
    exchange.head.headers = given;
    let now = clock.now();
    let fallback = stored.as_ref().filter(|stored| stored.life.holds_on_error(&wishes, now));
    let answer = match (answered, fallback) {
        (Ok(answer), Some(stored)) if matches!(answer.status().as_u16(), 500 | 502..=504) => {
            let status = answer.status().as_u16();
            give_up(exchange, answer).await;
            caching.counts.stale.inc();
            return Ok(reply(exchange, stored, &format!("hit; fwd={why}; fwd-status={status}; detail=stale-if-error")));
        }
        (Ok(answer), _) => answer,
        (Err(error), Some(stored)) if error.is_of_upstream() => {
            tracing::debug!(%error, "a stale answer is used");
            exchange.held.lease = None;
            caching.counts.stale.inc();
            return Ok(reply(exchange, stored, &format!("hit; fwd={why}; detail=stale-if-error")));
        }
        (Err(error), _) => return Err(error),
    };
    if answer.status() == StatusCode::NOT_MODIFIED
        && let Some(stored) = stored.clone().filter(|_| is_get)
    {
        return Ok(revalidated(exchange, caching, Validated { key, stored, answer, asker, asked_at, since, flight }, why).await);
    }
    caching.counts.miss.inc();
    let (mut head, incoming) = answer.into_parts();
    headers::strip_hops(&mut head.headers);
    let life = freshness::life(head.status, &head.headers, asker, &caching.defaults, asked_at, now);
    let fits = incoming.size_hint().lower() <= caching.spec.object.0;
    let Some(life) = life.filter(|_| is_get && fits) else {
        if is_get {
            store.note_pass(key, now);
            // What was kept is of the past, unless this one is a failure.
            if let Some(stored) = stored.filter(|_| !head.status.is_server_error()) {
                store.drop_one(key, &stored);
            }
        }
        note_forward(&mut head.headers, caching, why, Some((head.status, false)));
        return Ok(Reply::Upstream(Response::from_parts(head, incoming)));
    };
    let flight = if life.no_cache || life.lifetime_us <= life.initial_age_us {
        // Whoever waits would have to ask anew.
        drop(flight);
        None
    } else {
        flight
    };
    let vary = vary_names(&head.headers).into_iter().map(|name| (name.clone(), value_of(exchange, &name))).collect();
    let filling = Filling {
        store: store.clone(),
        key,
        stored: Stored {
            status: head.status,
            headers: kept_headers(head.headers.clone(), &caching.tag_header, now),
            body: bytes::Bytes::new(),
            life,
            vary,
            marks: marks_of(exchange, route, caching, &head.headers),
            since,
        },
        most_bytes: caching.spec.object.0,
        idle_timeout: route.spec.idle_timeout.0,
        flight,
        held: crate::engine::Held {
            lease: exchange.held.lease.take(),
            ask: exchange.held.ask.take(),
            entered: exchange.held.entered.take(),
            permits: Vec::new(),
        },
    };
    let tracker = exchange.worker.tracker.clone();
    let source = fill(filling, incoming, |reading| drop(tracker.spawn_local(reading)));
    note_forward(&mut head.headers, caching, why, Some((head.status, true)));
    if head.status == StatusCode::OK && is_not_modified(&exchange.head.headers, &head.headers, now.micros()) {
        return Ok(not_modified(head.headers));
    }
    Ok(Reply::Made(Box::new(head), source))
}

/// An answer that says that another still holds.
struct Validated {
    key: Key,
    stored: Arc<Stored>,
    answer: Response<Incoming>,
    asker: Asker,
    asked_at: Timestamp,
    since: u64,
    flight: Option<Flight>,
}

async fn revalidated(exchange: &mut Exchange, caching: &Caching, validated: Validated, why: &str) -> Reply {
    let Validated { key, stored, answer, asker, asked_at, since, flight } = validated;
    caching.counts.revalidated.inc();
    let now = exchange.worker.shared.clock.now();
    let mut fresh = answer.headers().clone();
    give_up(exchange, answer).await;
    headers::strip_hops(&mut fresh);
    let mut merged = stored.headers_after(&fresh);
    let life = freshness::life(stored.status, &merged, asker, &caching.defaults, asked_at, now);
    merged = kept_headers(merged, &caching.tag_header, now);
    let mut next = Stored { headers: merged, since, ..(*stored).clone() };
    if let Some(life) = life {
        next.life = life;
        let next = Arc::new(next);
        caching.store.keep(key, next.clone());
        if let Some(flight) = flight {
            flight.land(Landing::Kept);
        }
        return reply(exchange, &next, &format!("hit; fwd={why}; fwd-status=304; stored"));
    }
    caching.store.drop_one(key, &stored);
    // Just validated, so its age begins now; it is not kept.
    next.life.got_us = now.micros();
    reply(exchange, &next, &format!("hit; fwd={why}; fwd-status=304"))
}

/// Drops an answer of the upstream; its connection is kept where little is left to read.
async fn give_up(exchange: &mut Exchange, answer: Response<Incoming>) {
    let lease = exchange.held.lease.take();
    if discard(answer.into_body(), MOST_DISCARDED).await
        && let Some(lease) = lease
    {
        lease.give_back();
    }
    exchange.held.ask = None;
    exchange.held.entered = None;
}

fn marks_of(exchange: &Exchange, route: &Route, caching: &Caching, answer: &HeaderMap) -> Vec<u64> {
    let own = [place(&exchange.host, &exchange.path), route_mark(&route.name), crate::cache::everything()];
    own.into_iter().chain(tag_marks(answer, &caching.tag_header)).collect()
}

/// Fetches a stale answer anew while it is used.
fn fetch_later(exchange: &Exchange, caching: &Caching, toward: Toward<'_>, key: Key, stored: &Arc<Stored>) {
    let Turn::Lead(flight) = caching.store.flights.join(flight_key(exchange, caching, key)) else { return };
    let Some(at) = exchange.route else { return };
    let mut exchange = exchange.in_background();
    exchange.head.method = Method::GET;
    let (upstream, host) = (toward.upstream.clone(), toward.host.cloned());
    let asked =
        Asked { key, wishes: Wishes::default(), stored: Some(stored.clone()), flight: Some(flight), why: "stale" };
    exchange.worker.tracker.clone().spawn_local(async move {
        let snapshot = exchange.snapshot.clone();
        let route = &snapshot.routes[at];
        let Some(caching) = &route.cache else { return };
        let toward = Toward { upstream: &upstream, mirror: None, host: host.as_ref() };
        if let Err(error) = fetch(&mut exchange, route, caching, toward, asked).await {
            tracing::debug!(%error, "a stale answer could not be fetched anew");
        }
    });
}

/// An answer from what is kept: whole, a part of it, or that the caller has it.
fn reply(exchange: &Exchange, stored: &Stored, status: &str) -> Reply {
    let now = exchange.worker.shared.clock.now();
    let request = &exchange.head.headers;
    let mut map = stored.headers.clone();
    let age_s = stored.life.age_us(now) / 1_000_000;
    map.insert(AGE, HeaderValue::from(age_s));
    let ttl_s = stored.life.left_us(now).div_euclid(1_000_000);
    append_status(&mut map, &format!("{NAME}; {status}; ttl={ttl_s}"));
    if stored.status == StatusCode::OK && is_not_modified(request, &map, stored.life.got_us) {
        return not_modified(map);
    }
    let is_head = exchange.head.method == Method::HEAD;
    let wanted = if stored.status == StatusCode::OK && !is_head && !map.contains_key(CONTENT_RANGE) {
        part(request, &map, stored.body.len())
    } else {
        Part::Whole
    };
    let (mut head, ()) = Response::new(()).into_parts();
    let mut body = stored.body.clone();
    head.status = stored.status;
    match wanted {
        Part::Whole => {}
        Part::Bytes(range) => {
            head.status = StatusCode::PARTIAL_CONTENT;
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, body.len());
            insert_text(&mut map, CONTENT_RANGE, &shown);
            body = body.slice(range);
        }
        Part::Unsatisfiable => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            insert_text(&mut map, CONTENT_RANGE, &format!("bytes */{}", body.len()));
            body = bytes::Bytes::new();
        }
    }
    if !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        map.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    head.headers = map;
    Reply::Made(Box::new(head), Source::Own((!is_head && !body.is_empty()).then_some(body)))
}

/// That the caller has it, with what may have changed beside the body (RFC 9110, 15.4.5).
fn not_modified(map: HeaderMap) -> Reply {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    for name in [AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY, CACHE_STATUS] {
        for value in map.get_all(&name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    Reply::Made(Box::new(head), Source::Own(None))
}

/// Says that the upstream was asked, and takes away what is for the cache alone.
fn note_forward(map: &mut HeaderMap, caching: &Caching, why: &str, got: Option<(StatusCode, bool)>) {
    map.remove(&caching.tag_header);
    map.remove(SURROGATE_CONTROL);
    let got = got.map_or_else(String::new, |(status, is_stored)| {
        format!("; fwd-status={}{}", status.as_u16(), if is_stored { "; stored" } else { "" })
    });
    append_status(map, &format!("{NAME}; fwd={why}{got}"));
}

fn append_status(map: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        map.append(CACHE_STATUS, value);
    }
}

fn insert_text(map: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        map.insert(name, value);
    }
}
