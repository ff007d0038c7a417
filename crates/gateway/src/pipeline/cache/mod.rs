//! Cache: what is kept is given to whom it is for; what is not is fetched, once for all who ask at the same time.
//!
//! The gateway has found out who asks and whether he may before anything here is looked at, so a hit is never a way around
//! a route's `access`. What is kept for one is given to another only where the upstream said so (`domain::freshness`).

mod fetch;
mod fill;
mod key;
mod reply;

use std::sync::Arc;

use http::header::{CONTENT_LOCATION, IF_MATCH, IF_UNMODIFIED_SINCE, LOCATION, RANGE, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Response};
use tokio::time::{Instant, timeout_at};

use super::forward::{Sending, Toward};
use super::{Exchange, forward, headers, limits};
use crate::Error;
use crate::cache::{Flight, Key, Landing, Store, Stored, Turn, landed, place};
use crate::domain::freshness::{Use, Wishes};
use crate::domain::path::normalise;
use crate::engine::Source;
use crate::snapshot::{Caching, Outcome, Route, bare_host};
use fetch::{fetch, fetch_later};
use key::{flight_key, key_of, value_of};
use reply::{note_forward, reply};

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
async fn past(
    exchange: &mut Exchange,
    route: &Route,
    toward: Toward<'_>,
    sending: Sending,
) -> Result<Response<Source>, Error> {
    let answer = forward::forward(exchange, route, toward, sending).await?;
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

/// Answers from what is kept, or fetches; forwards where nothing is kept of the route.
///
/// # Errors
/// As [`forward::forward`], and [`Error::NotCached`].
pub(super) async fn answer(
    exchange: &mut Exchange,
    route: &Route,
    toward: Toward<'_>,
    sending: Sending,
) -> Result<Response<Source>, Error> {
    let Some(caching) = &route.cache else { return past(exchange, route, toward, sending).await };
    let Some(sought) = seek(exchange, caching, toward, &sending) else {
        return Box::pin(unkept(exchange, route, caching, toward, sending)).await;
    };
    // A hit waits for nothing; the rest is boxed, as it is large.
    let now = exchange.worker.shared.clock.now();
    let fresh = sought.stored.as_ref().filter(|stored| stored.life.judge(&sought.wishes, now) == Use::Fresh);
    if let Some(stored) = fresh {
        note(exchange, caching, Outcome::Hit);
        return Ok(reply(exchange, stored, "hit"));
    }
    Box::pin(kept_or_fetched(exchange, route, caching, toward, sought)).await
}

/// What a request seeks in the cache.
struct Sought {
    key: Key,
    wishes: Wishes,
    /// What is kept in memory, fresh or not.
    stored: Option<Arc<Stored>>,
}

/// Looks into the memory; `None` where the request goes past what is kept.
fn seek(exchange: &Exchange, caching: &Caching, toward: Toward<'_>, sending: &Sending) -> Option<Sought> {
    let headers = &exchange.head.headers;
    let wishes = if caching.spec.callers_decide { Wishes::of(headers) } else { Wishes::default() };
    let is_read = matches!(exchange.head.method, Method::GET | Method::HEAD);
    let is_plain = matches!(sending, Sending::Nothing)
        && ![UPGRADE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name));
    if !is_read || !is_plain || wishes.no_store {
        return None;
    }
    let key = key_of(exchange, caching, toward.upstream);
    let stored = caching.store.find(key, &|name: &HeaderName| value_of(exchange, name));
    Some(Sought { key, wishes, stored })
}

/// Forwards what is not looked for in the cache.
async fn unkept(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    sending: Sending,
) -> Result<Response<Source>, Error> {
    let is_read = matches!(exchange.head.method, Method::GET | Method::HEAD);
    note(exchange, caching, Outcome::Pass);
    let mut answer = past(exchange, route, toward, sending).await?;
    note_forward(answer.headers_mut(), caching, if is_read { "bypass" } else { "method" }, None);
    Ok(answer)
}

async fn kept_or_fetched(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    sought: Sought,
) -> Result<Response<Source>, Error> {
    let Sought { key, wishes, mut stored } = sought;
    if stored.is_none() {
        stored = caching.store.find_on_disk(key, &|name: &HeaderName| value_of(exchange, name)).await;
    }
    let now = exchange.worker.shared.clock.now();
    match stored.as_ref().map(|stored| (stored, stored.life.judge(&wishes, now))) {
        Some((stored, Use::Fresh)) => {
            note(exchange, caching, Outcome::Hit);
            return Ok(reply(exchange, stored, "hit"));
        }
        Some((stored, Use::Stale)) => {
            note(exchange, caching, Outcome::Stale);
            return Ok(reply(exchange, stored, "hit; detail=stale"));
        }
        Some((stored, Use::StaleWhile)) => {
            note(exchange, caching, Outcome::Stale);
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
        let key_of_flight = flight_key(exchange, caching, key);
        let until = Instant::now() + route.spec.timeout.0;
        while flight.is_none() {
            match caching.store.flights.join(key_of_flight) {
                Turn::Lead(ours) => flight = Some(ours),
                Turn::Follow(theirs) => match timeout_at(until, landed(theirs)).await {
                    Ok(Landing::Abandoned) => continue,
                    Ok(Landing::Kept) => {}
                    _ => break,
                },
            }
            // It may have landed since we looked.
            stored = find(exchange, caching, key).await;
            let now = exchange.worker.shared.clock.now();
            let usable = stored.as_ref().filter(|stored| stored.life.judge(&wishes, now) == Use::Fresh);
            if let Some(stored) = usable {
                note(exchange, caching, Outcome::Coalesced);
                return Ok(reply(exchange, stored, &format!("hit; fwd={why}; collapsed")));
            }
            if flight.is_none() {
                break;
            }
        }
    }
    fetch(exchange, route, caching, toward, Asked { key, wishes, stored, flight, why }).await
}

/// Counts what became of a request, and has it in the log.
fn note(exchange: &mut Exchange, caching: &Caching, outcome: Outcome) {
    caching.count(outcome);
    exchange.record.cache = Some(outcome.name());
}

async fn find(exchange: &Exchange, caching: &Caching, key: Key) -> Option<Arc<Stored>> {
    let value = |name: &HeaderName| value_of(exchange, name);
    match caching.store.find(key, &value) {
        Some(stored) => Some(stored),
        None => caching.store.find_on_disk(key, &value).await,
    }
}

/// Forwards without keeping anything.
async fn pass(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    why: &str,
) -> Result<Response<Source>, Error> {
    note(exchange, caching, Outcome::Pass);
    let mut answer = forward::forward(exchange, route, toward, Sending::Nothing).await?;
    note_forward(answer.headers_mut(), caching, why, None);
    Ok(answer)
}
