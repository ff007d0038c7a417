//! Limit: how often, how much, how many at once.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, COOKIE};

use super::Exchange;
use crate::Error;
use crate::domain::balance::hash;
use crate::domain::cidr::caller_block;
use crate::limit::Outcome;
use crate::snapshot::Route;
use crate::spec::{Importance, Key};
use crate::upstream::Upstream;

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
pub(super) async fn before_proofs(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    shed(exchange, route)?;
    rates(exchange, route, Rates::OfAnybody).await
}

/// Applies the route's other limits.
///
/// # Errors
/// [`Error::RateLimited`], [`Error::TooManyAtOnce`], [`Error::BodyTooLarge`].
pub(super) async fn limit(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    if let Some(limit) = route.spec.requests_at_once {
        let permit = route.gate.enter(limit).ok_or(Error::TooManyAtOnce { at_once: limit })?;
        exchange.held.permits.push(permit);
    }
    let announced = exchange.head.headers.get(CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > route.body_limit) {
        return Err(Error::BodyTooLarge { limit_bytes: route.body_limit });
    }
    quota(exchange).await?;
    rates(exchange, route, Rates::OfKnown).await
}

async fn rates(exchange: &mut Exchange, route: &Route, wanted: Rates) -> Result<(), Error> {
    for limiter in &route.limiters {
        if limiter.asks_who() != (wanted == Rates::OfKnown) {
            continue;
        }
        let key = caller_key(exchange, &limiter.per);
        let remote = exchange.snapshot.remote.clone().filter(|_| limiter.is_shared);
        let verdict = match remote {
            Some(remote) => remote.judge(limiter, key.as_bytes(), exchange.worker.shared.fetcher.handle()).await,
            None => None,
        };
        let outcome = match verdict {
            Some(verdict) => limiter.outcome(verdict),
            None => limiter.judge(key.as_bytes(), exchange.worker.now_us()),
        };
        obey(exchange, &limiter.name, outcome)?;
    }
    Ok(())
}

/// The quota of the consumer whose key was shown.
async fn quota(exchange: &mut Exchange) -> Result<(), Error> {
    let snapshot = exchange.snapshot.clone();
    let consumer = exchange.identity.as_ref().and_then(|identity| identity.consumer.clone());
    let Some(quota) = consumer.and_then(|consumer| snapshot.quotas.get(&*consumer)) else { return Ok(()) };
    let shared = &exchange.worker.shared;
    let now_s = u64::try_from(shared.clock.now().micros().div_euclid(1_000_000)).unwrap_or_default();
    let outcome = match &snapshot.remote {
        Some(remote) => quota.take_shared(remote, now_s, shared.fetcher.handle()).await,
        None => quota.take(now_s),
    };
    obey(exchange, &"quota".into(), outcome)
}

/// Refuses what does not pass, and keeps the tightest limit for the answer's headers.
fn obey(exchange: &mut Exchange, name: &Arc<str>, outcome: Outcome) -> Result<(), Error> {
    let is_tighter = |known: &Outcome| outcome.verdict.remaining < known.verdict.remaining;
    if exchange.rate.as_ref().is_none_or(|(_, known)| is_tighter(known)) || !outcome.verdict.passes {
        exchange.rate = Some((name.clone(), outcome));
    }
    if outcome.verdict.passes {
        return Ok(());
    }
    let retry_s = outcome.verdict.retry_us.div_ceil(1_000_000).max(1);
    Err(Error::RateLimited { limit: name.to_string(), retry_s })
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

/// What chooses the endpoint under `balance: hash`.
pub(super) fn hash_of(exchange: &Exchange, upstream: &Upstream) -> Option<u64> {
    let text = key_text(exchange, upstream.spec.hash_key.as_ref()?)?;
    Some(hash(text.as_bytes()))
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
