//! How long an answer may be used again: the rules of a shared cache (RFC 9111), over headers and times alone.
//!
//! What cannot be read counts against the answer: a malformed `max-age` or `expires` makes it stale, never fresh.

use std::time::Duration;

use chrono::NaiveDateTime;
use http::header::{AGE, CACHE_CONTROL, COOKIE, DATE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, StatusCode};
use tessera_kernel::Timestamp;

use super::directives::{Directives, MOST_SECONDS, Scope, digits, is_dictionary};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// What an upstream says to the cache in front of it alone; it goes no further.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// Of the time since its last change, an answer that says nothing else is fresh for this part.
const HEURISTIC_PART: i64 = 10;
/// And no longer than this.
const MOST_HEURISTIC: Duration = Duration::from_secs(24 * 3600);

/// What a caller wants of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Only what was validated now.
    pub no_cache: bool,
    /// That nothing of this exchange is kept.
    pub no_store: bool,
    /// Nothing from the upstream.
    pub only_if_cached: bool,
    /// Nothing older, in seconds.
    pub max_age_s: Option<u64>,
    /// What stays fresh for so long, in seconds.
    pub min_fresh_s: Option<u64>,
    /// What is stale for at most so long is good too.
    pub max_stale_s: Option<u64>,
    /// The same, if the upstream fails.
    pub stale_if_error_s: Option<u64>,
}

impl Wishes {
    /// As the headers of a request have them.
    pub fn of(headers: &HeaderMap) -> Self {
        let said = Directives::of(headers, &CACHE_CONTROL);
        if said.is_empty() {
            let no_cache = headers.contains_key(PRAGMA) && Directives::of(headers, &PRAGMA).has("no-cache");
            return Self { no_cache, ..Self::default() };
        }
        let any_stale = said.is_bare("max-stale");
        Self {
            no_cache: said.has("no-cache"),
            no_store: said.has("no-store"),
            only_if_cached: said.has("only-if-cached"),
            max_age_s: said.seconds("max-age"),
            min_fresh_s: said.seconds("min-fresh"),
            max_stale_s: if any_stale { Some(MOST_SECONDS) } else { said.seconds("max-stale") },
            stale_if_error_s: said.seconds("stale-if-error"),
        }
    }
}

/// What of a request counts for whether its answer may be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker {
    /// It has `authorization`, or the gateway knows who asks, and the answer would be shared with others.
    pub is_somebody: bool,
    /// It has cookies.
    pub has_cookies: bool,
}

impl Asker {
    /// Of a request; `is_known` where the gateway found out who asks.
    pub fn of(headers: &HeaderMap, is_known: bool) -> Self {
        let is_somebody = is_known || headers.contains_key(http::header::AUTHORIZATION);
        Self { is_somebody, has_cookies: headers.contains_key(COOKIE) }
    }
}

/// What a route says where the answer says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// How long an answer is fresh.
    pub lifetime: Option<Duration>,
    /// How long it may be used stale while it is fetched anew.
    pub stale_while_revalidate: Option<Duration>,
    /// How long it may be used stale where the upstream fails.
    pub stale_if_error: Option<Duration>,
    /// Whether answers that set cookies are kept.
    pub set_cookie: bool,
}

/// The life of an answer that is kept. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Life {
    /// When it came.
    pub got_us: i64,
    /// How old it was then.
    pub initial_age_us: i64,
    /// How old it may get.
    pub lifetime_us: i64,
    /// It must be validated before each use.
    pub no_cache: bool,
    /// It must not be used stale.
    pub never_stale: bool,
    /// How long it may be used stale while it is fetched anew.
    pub while_us: i64,
    /// How long it may be used stale where the upstream fails.
    pub error_us: i64,
}

/// What may be done with an answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is fresh.
    Fresh,
    /// It is stale, and the caller takes it so.
    Stale,
    /// It is stale, may be used, and is to be fetched anew meanwhile.
    StaleWhile,
    /// The upstream must be asked whether it still holds.
    Validate,
}

const SECOND_US: i64 = 1_000_000;

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds.min(MOST_SECONDS)).unwrap_or(0) * SECOND_US
}

fn span_us(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Life {
    /// Its age.
    pub fn age_us(&self, now: Timestamp) -> i64 {
        self.initial_age_us.saturating_add((now.micros() - self.got_us).max(0))
    }

    /// How long it stays fresh; below 0, how long it has been stale.
    pub fn left_us(&self, now: Timestamp) -> i64 {
        self.lifetime_us.saturating_sub(self.age_us(now))
    }

    /// What may be done with it.
    pub fn judge(&self, wishes: &Wishes, now: Timestamp) -> Use {
        let (age, left) = (self.age_us(now), self.left_us(now));
        if self.no_cache || wishes.no_cache || wishes.max_age_s.is_some_and(|most| age > micros(most)) {
            return Use::Validate;
        }
        if left > 0 && wishes.min_fresh_s.is_none_or(|least| left >= micros(least)) {
            return Use::Fresh;
        }
        let stale = -left;
        if wishes.min_fresh_s.is_some() || stale < 0 {
            return Use::Validate;
        }
        if !self.never_stale && wishes.max_stale_s.is_some_and(|most| stale <= micros(most)) {
            return Use::Stale;
        }
        // `max-age` of a caller says that nothing stale is wanted.
        if stale < self.while_us && wishes.max_age_s.is_none() { Use::StaleWhile } else { Use::Validate }
    }

    /// Whether it may be used because the upstream failed.
    pub fn holds_on_error(&self, wishes: &Wishes, now: Timestamp) -> bool {
        let stale = -self.left_us(now);
        let wished = wishes.stale_if_error_s.map_or(0, micros);
        let may = if self.never_stale { self.error_us } else { self.error_us.max(wished) };
        !self.no_cache && !wishes.no_cache && stale < may
    }

    /// Whether keeping it is of any use: it is fresh for a while, may be used stale, or can be validated.
    fn is_of_use(&self, headers: &HeaderMap) -> bool {
        let can_validate = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        can_validate || (!self.no_cache && self.lifetime_us.max(self.while_us).max(self.error_us) > 0)
    }
}

/// Whose code is known well enough to be kept where the answer says nothing about it (RFC 9110, 15.1).
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn is_understood(status: StatusCode) -> bool {
    is_heuristic(status) || matches!(status.as_u16(), 302 | 303 | 307 | 400 | 403 | 500 | 502 | 503 | 504)
}

/// The life of an answer to a GET, or `None` where it must not or need not be kept.
pub fn life(
    status: StatusCode,
    headers: &HeaderMap,
    asker: Asker,
    defaults: &Defaults,
    asked: Timestamp,
    got: Timestamp,
) -> Option<Life> {
    if status.is_informational() || matches!(status.as_u16(), 206 | 304 | 101) || varies_by_all(headers) {
        return None;
    }
    let targeted = targeted(headers);
    let is_targeted = targeted.is_some();
    let said = targeted.unwrap_or_else(|| Directives::of(headers, &CACHE_CONTROL));
    let must_understand = said.has("must-understand");
    if (must_understand && !is_understood(status))
        || (said.has("no-store") && !must_understand)
        || said.scope("private") == Scope::Whole
    {
        return None;
    }
    let shared_age = said.seconds("s-maxage");
    let is_public = said.has("public") || shared_age.is_some();
    if asker.is_somebody && !(is_public || said.has("must-revalidate")) {
        return None;
    }
    if headers.contains_key(SET_COOKIE) && !(defaults.set_cookie || is_public) {
        return None;
    }
    let date_us = date(headers, &DATE).unwrap_or(got.micros());
    let explicit = shared_age.or_else(|| said.seconds("max-age")).map(micros);
    let explicit = explicit.or_else(|| {
        let expires = (!is_targeted && headers.contains_key(EXPIRES)).then(|| date(headers, &EXPIRES));
        // A date that cannot be read is one in the past.
        expires.map(|expires| expires.map_or(0, |expires| (expires - date_us).max(0)))
    });
    let may_guess = is_heuristic(status) || said.has("public");
    let lifetime_us = match explicit {
        Some(known) => known,
        // What was asked for with cookies may be for their owner; only the answer itself can say that it is not.
        None if !may_guess || (asker.has_cookies && !is_public) => 0,
        None => defaults.lifetime.map(span_us).or_else(|| guess(headers, date_us)).unwrap_or(0),
    };
    if explicit.is_none() && lifetime_us == 0 && !said.has("no-cache") {
        return None;
    }
    let is_strict = ["must-revalidate", "proxy-revalidate"].iter().any(|name| said.has(name));
    // `s-maxage` alone forbids stale answers too; one that allows them in so many words is believed.
    let never_stale = is_strict || shared_age.is_some();
    let stale = |name: &str, default: Option<Duration>| match said.seconds(name) {
        _ if is_strict => 0,
        Some(seconds) => micros(seconds),
        None if never_stale => 0,
        None => default.map_or(0, span_us),
    };
    let life = Life {
        got_us: got.micros(),
        initial_age_us: initial_age(headers, date_us, asked, got),
        lifetime_us,
        no_cache: said.scope("no-cache") == Scope::Whole,
        never_stale,
        while_us: stale("stale-while-revalidate", defaults.stale_while_revalidate),
        error_us: stale("stale-if-error", defaults.stale_if_error),
    };
    life.is_of_use(headers).then_some(life)
}

/// What is said to caches of our kind alone, and goes before everything else (RFC 9213).
fn targeted(headers: &HeaderMap) -> Option<Directives> {
    let said = Directives::of(headers, &CDN_CACHE_CONTROL);
    let lines = headers.get_all(CDN_CACHE_CONTROL).iter().map(|line| line.to_str().unwrap_or("&"));
    if !said.is_empty() && is_dictionary(&lines.collect::<Vec<_>>().join(",")) {
        return Some(said);
    }
    Some(Directives::of(headers, &SURROGATE_CONTROL)).filter(|said| !said.is_empty())
}

fn varies_by_all(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(VARY).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).any(|name| name.trim_ascii() == b"*")
}

fn guess(headers: &HeaderMap, date_us: i64) -> Option<i64> {
    let changed = date(headers, &LAST_MODIFIED)?;
    Some(((date_us - changed).max(0) / HEURISTIC_PART).min(span_us(MOST_HEURISTIC)))
}

/// How old an answer was when it came (RFC 9111, 4.2.3). Of several ages the first counts; one that cannot be read does not
/// (5.1).
fn initial_age(headers: &HeaderMap, date_us: i64, asked: Timestamp, got: Timestamp) -> i64 {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.split(',').next()).and_then(|age| digits(age.trim()));
    let apparent = (got.micros() - date_us).max(0);
    apparent.max(age.map_or(0, micros) + (got.micros() - asked.micros()).max(0))
}

/// A date of a header in microseconds since the epoch; `None` where it is missing or cannot be read. Its three forms are read
/// in any case (RFC 9111, 4.2), and the day of the week is not held against the rest.
pub fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    // The forms have fixed lengths; the parser alone would take other numbers of digits and spaces too.
    let read = |text: &str, form: &str, length: usize| {
        NaiveDateTime::parse_from_str(text, form).ok().filter(|_| text.len() == length)
    };
    let (_, rest) = text.split_once(' ')?;
    let at = if text.contains(',') {
        let (rest, _) = rest.rsplit_once(' ').filter(|(_, zone)| zone.eq_ignore_ascii_case("GMT"))?;
        read(rest, "%d %b %Y %H:%M:%S", 20).or_else(|| read(rest, "%d-%b-%y %H:%M:%S", 18))
    } else {
        read(rest, "%b %e %H:%M:%S %Y", 20)
    };
    Some(at?.and_utc().timestamp_micros())
}

/// A date as headers have it.
pub fn http_date(at: Timestamp) -> String {
    at.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The headers that `no-cache` and `private` name: they are not kept.
pub fn withheld(headers: &HeaderMap) -> Vec<HeaderName> {
    let said = Directives::of(headers, &CACHE_CONTROL);
    let named = [said.scope("no-cache"), said.scope("private")].into_iter().flat_map(|scope| match scope {
        Scope::Fields(fields) => fields,
        Scope::Nothing | Scope::Whole => Vec::new(),
    });
    named.filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
