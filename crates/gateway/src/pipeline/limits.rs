//! Limit: how often, how much, how many at once.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, COOKIE};

use super::Exchange;
use crate::Error;
use crate::domain::cidr::caller_block;
use crate::snapshot::Route;
use crate::spec::{Importance, Key};

/// What no caller's key has in it: it parts the keys of one limit.
const SEPARATOR: char = '\u{1f}';

/// Which of a route's rates are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rates {
    /// Those that need not know who asks; they come before proofs are checked, which costs more than they do.
    OfAnybody,
    /// Those that tell callers apart by who they are.
    OfKnown,
}

/// Applies the gateway's own load and the limits that need not know who asks.
///
/// # Errors
/// [`Error::Overloaded`], [`Error::RateLimited`].
pub(super) fn before_proofs(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    shed(exchange, route)?;
    rates(exchange, route, Rates::OfAnybody)
}

/// Applies the route's other limits.
///
/// # Errors
/// [`Error::RateLimited`], [`Error::TooManyAtOnce`], [`Error::BodyTooLarge`].
pub(super) fn limit(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    if let Some(limit) = route.spec.requests_at_once {
        let permit = route.gate.enter(limit).ok_or(Error::TooManyAtOnce { at_once: limit })?;
        exchange.held.permits.push(permit);
    }
    let announced = exchange.head.headers.get(CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > route.body_limit) {
        return Err(Error::BodyTooLarge { limit_bytes: route.body_limit });
    }
    rates(exchange, route, Rates::OfKnown)
}

fn rates(exchange: &mut Exchange, route: &Route, wanted: Rates) -> Result<(), Error> {
    let now_us = exchange.worker.now_us();
    for limiter in &route.limiters {
        if limiter.asks_who() != (wanted == Rates::OfKnown) {
            continue;
        }
        let key = caller_key(exchange, &limiter.per);
        let outcome = limiter.judge(key.as_bytes(), now_us);
        let is_tighter = |known: &crate::limit::Outcome| outcome.verdict.remaining < known.verdict.remaining;
        if exchange.rate.as_ref().is_none_or(|(_, known)| is_tighter(known)) || !outcome.verdict.passes {
            exchange.rate = Some((limiter.name.clone(), outcome));
        }
        if !outcome.verdict.passes {
            let retry_s = outcome.verdict.retry_us.div_ceil(1_000_000).max(1);
            return Err(Error::RateLimited { limit: limiter.name.to_string(), retry_s });
        }
    }
    Ok(())
}

/// Less important work is refused before there is too much of it.
fn shed(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    let Some(most) = exchange.snapshot.spec.limits.requests_at_once else { return Ok(()) };
    let share = match route.spec.importance {
        Importance::Low => 70,
        Importance::Normal => 90,
        Importance::High => 100,
    };
    let limit = u32::try_from(u64::from(most) * share / 100).unwrap_or(most).max(1);
    let permit = exchange.worker.shared.requests.enter(limit).ok_or(Error::Overloaded)?;
    exchange.held.permits.push(permit);
    Ok(())
}

/// The key of a caller: the texts of all parts, where a missing one is empty.
fn caller_key(exchange: &Exchange, per: &[Key]) -> String {
    let mut key = String::new();
    for part in per {
        key.push_str(&key_text(exchange, part).unwrap_or_default());
        key.push(SEPARATOR);
    }
    key
}

/// What a request has for a key.
pub(super) fn key_text<'e>(exchange: &'e Exchange, key: &Key) -> Option<Cow<'e, str>> {
    let headers = &exchange.head.headers;
    match key {
        Key::Ip => Some(caller_block(exchange.client_ip).to_string().into()),
        Key::Header(name) => headers.get(name.as_str())?.to_str().ok().map(Cow::Borrowed),
        Key::Claim(name) => exchange.identity.as_ref()?.claim(name).map(Cow::Owned),
        Key::Consumer => exchange.identity.as_ref().map(|identity| identity.subject.as_str().into()),
        Key::Path(name) => exchange.parameter(name),
        Key::Query(name) => {
            let query = exchange.head.uri.query()?.as_bytes();
            url::form_urlencoded::parse(query).find(|(known, _)| known == name.as_str()).map(|(_, value)| value)
        }
        Key::Cookie(name) => {
            let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
            let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(known, _)| known == name).map(|(_, value)| Cow::Borrowed(value))
        }
    }
}
