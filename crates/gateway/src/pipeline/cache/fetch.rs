//! Asking the upstream: for an answer, or whether the one that is kept still holds.

use std::sync::Arc;

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{Method, Response, StatusCode};
use hyper::body::Body as _;
use tessera_kernel::Timestamp;

use super::fill::{Filling, fill};
use super::key::{flight_key, marks_of, value_of};
use super::reply::{not_modified, note_forward, reply};
use super::{Asked, Exchange, Sending, Toward, forward, headers, note};
use crate::Error;
use crate::cache::{Flight, Key, Landing, Stored, Turn, kept_headers, vary_names};
use crate::domain::conditions::is_not_modified;
use crate::domain::freshness::{self, Asker, Wishes};
use crate::engine::{Held, Source};
use crate::pipeline::attempt::let_go;
use crate::snapshot::{Caching, Outcome, Route};

/// Asks the upstream, with what is kept where that may still hold.
pub(super) async fn fetch(
    exchange: &mut Exchange,
    route: &Route,
    caching: &Caching,
    toward: Toward<'_>,
    asked: Asked,
) -> Result<Response<Source>, Error> {
    let Asked { key, wishes, stored, mut flight, why } = asked;
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
    let asker =
        Asker { is_somebody: asker.is_somebody && !(caching.is_personal && exchange.identity.is_some()), ..asker };
    let answered = forward::forward(exchange, route, toward, Sending::Nothing).await;
    exchange.head.headers = given;
    if let Some(flight) = &mut flight {
        flight.note_answer();
    }
    let now = clock.now();
    let fallback = stored.as_ref().filter(|stored| stored.life.holds_on_error(&wishes, now));
    let answer = match (answered, fallback) {
        (Ok(answer), Some(stored)) if matches!(answer.status().as_u16(), 500 | 502..=504) => {
            let status = answer.status().as_u16();
            give_up(exchange, answer);
            note(exchange, caching, Outcome::Stale);
            return Ok(reply(exchange, stored, &format!("hit; fwd={why}; fwd-status={status}; detail=stale-if-error")));
        }
        (Ok(answer), _) => answer,
        (Err(error), Some(stored)) if error.is_of_upstream() => {
            tracing::debug!(%error, "a stale answer is used");
            note(exchange, caching, Outcome::Stale);
            return Ok(reply(exchange, stored, &format!("hit; fwd={why}; detail=stale-if-error")));
        }
        (Err(error), _) => return Err(error),
    };
    if answer.status() == StatusCode::NOT_MODIFIED
        && let Some(stored) = stored.clone().filter(|_| is_get)
    {
        let validated = Validated { key, stored, answer, asker, asked_at, since, flight };
        return Ok(revalidated(exchange, caching, validated, why));
    }
    note(exchange, caching, Outcome::Miss);
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
        return Ok(Response::from_parts(head, incoming));
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
        held: Held {
            ask: exchange.held.ask.take(),
            entered: exchange.held.entered.take(),
            permits: Vec::new(),
            web: None,
        },
    };
    let tracker = exchange.worker.tracker.clone();
    let source = fill(filling, incoming, |reading| drop(tracker.spawn_local(reading)));
    note_forward(&mut head.headers, caching, why, Some((head.status, true)));
    if head.status == StatusCode::OK && is_not_modified(&exchange.head.headers, &head.headers, now.micros()) {
        return Ok(not_modified(head.headers));
    }
    Ok(Response::from_parts(head, source))
}

/// An answer that says that another still holds.
struct Validated {
    key: Key,
    stored: Arc<Stored>,
    answer: Response<Source>,
    asker: Asker,
    asked_at: Timestamp,
    since: u64,
    flight: Option<Flight>,
}

fn revalidated(exchange: &mut Exchange, caching: &Caching, validated: Validated, why: &str) -> Response<Source> {
    let Validated { key, stored, answer, asker, asked_at, since, flight } = validated;
    note(exchange, caching, Outcome::Revalidated);
    let now = exchange.worker.shared.clock.now();
    let mut fresh = answer.headers().clone();
    give_up(exchange, answer);
    headers::strip_hops(&mut fresh);
    let mut merged = stored.headers_after(&fresh);
    if !fresh.contains_key(DATE) {
        // It is of now, and not of when the body came.
        merged.remove(DATE);
    }
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

/// Drops an answer of the upstream.
fn give_up(exchange: &mut Exchange, answer: Response<Source>) {
    let_go(&exchange.worker, answer);
    exchange.held.ask = None;
    exchange.held.entered = None;
}

/// Fetches a stale answer anew while it is used.
pub(super) fn fetch_later(exchange: &Exchange, caching: &Caching, toward: Toward<'_>, key: Key, stored: &Arc<Stored>) {
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
