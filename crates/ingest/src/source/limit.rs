//! How fast and how much at once: our own budget, what the API says of its limits, and what its errors tell.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use tessera_kernel::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::spec::Source;

/// Longest pause that an API's word is taken for.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Admits requests: at our own rate, and as many at once as the API bears. Concurrency halves on 429, falls by a fifth
/// on 5xx and broken connections, and grows by one a round trip (additive increase, multiplicative decrease).
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<DefaultDirectRateLimiter>,
    most: f64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    allowed: f64,
    in_flight: u32,
    not_before: Instant,
    reduced_at: Option<Instant>,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Permit(Arc<Limiter>);

impl Limiter {
    pub(super) fn new(source: &Source) -> Arc<Self> {
        let rate = source.rate_limit.as_ref().map(|limit| {
            let period = Duration::from_secs_f64(1.0 / limit.requests_per_second);
            let quota = Quota::with_period(period.max(Duration::from_nanos(1)));
            let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(quota.unwrap_or(Quota::per_second(burst)).allow_burst(burst))
        });
        let most = f64::from(source.concurrency);
        let state = State { allowed: most, in_flight: 0, not_before: Instant::now(), reduced_at: None };
        Arc::new(Self { rate, most, state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, then for the rate.
    pub(super) async fn admit(self: &Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut state = self.state();
                let now = Instant::now();
                if state.not_before > now {
                    Some(state.not_before)
                } else if f64::from(state.in_flight) < state.allowed.max(1.0).floor() {
                    state.in_flight += 1;
                    break;
                } else {
                    None
                }
            };
            match wait {
                Some(until) => sleep_until(until).await,
                None => changed.await,
            }
        }
        let permit = Permit(Arc::clone(self));
        if let Some(rate) = &self.rate {
            rate.until_ready().await;
        }
        permit
    }

    /// The API bore this one.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.allowed = (state.allowed + 1.0 / state.allowed.max(1.0)).min(self.most);
    }

    /// The API says that it is too much: half as many at once.
    pub(super) fn throttled(&self) {
        self.reduce(0.5);
    }

    /// The API is struggling: fewer at once.
    pub(super) fn struggled(&self) {
        self.reduce(0.8);
    }

    /// At most once a quarter of a second, so that one hiccup of many requests counts once.
    fn reduce(&self, factor: f64) {
        let mut state = self.state();
        let now = Instant::now();
        if state.reduced_at.is_none_or(|at| now.duration_since(at) > Duration::from_millis(250)) {
            state.allowed = (state.allowed * factor).max(1.0);
            state.reduced_at = Some(now);
        }
    }

    /// Nothing is sent for this long.
    pub(super) fn pause(&self, pause: Duration) {
        let mut state = self.state();
        state.not_before = state.not_before.max(Instant::now() + pause.min(LONGEST_PAUSE));
    }

    /// Requests that may be in flight at present.
    #[cfg(test)]
    fn allowed(&self) -> u32 {
        self.state().allowed.floor() as u32
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.changed.notify_one();
    }
}

/// How long the API asks to wait: `Retry-After` in seconds or as a date, or the reset of an exhausted `X-RateLimit-*`
/// or `RateLimit-*`. Zero, or a time gone by, is no hint.
pub(super) fn asked_pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |at: Timestamp| at.since(now);
    let retry_after = text("retry-after").and_then(|value| match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Some(Duration::from_secs_f64(seconds.min(86_400.0))),
        Ok(_) => None,
        Err(_) => Some(until(Timestamp::from_utc(chrono::DateTime::parse_from_rfc2822(value).ok()?.to_utc()))),
    });
    let exhausted = || {
        let first = |names: [&str; 3]| names.into_iter().find_map(text);
        let remaining = first(["x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining"])?;
        if remaining.parse::<f64>().ok()? >= 1.0 {
            return None;
        }
        let reset: f64 = first(["x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"])?.parse().ok()?;
        // Some tell the moment, some the seconds left.
        let pause = match reset {
            moment if moment > 1e12 => until(Timestamp::from_micros((moment * 1e3) as i64)),
            moment if moment > 1e9 => until(Timestamp::from_micros((moment * 1e6) as i64)),
            seconds if seconds > 0.0 => Duration::from_secs_f64(seconds),
            _ => return None,
        };
        Some(pause)
    };
    retry_after.filter(|pause| !pause.is_zero()).or_else(|| exhausted().filter(|pause| !pause.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn reads_every_way_of_asking_to_wait() {
        let now: Timestamp = "2024-01-31T00:00:00Z".parse().unwrap();
        let pause = |pairs: &[(&'static str, &str)]| asked_pause(&headers(pairs), now).map(|pause| pause.as_secs());
        assert_eq!(pause(&[("retry-after", "7")]), Some(7));
        assert_eq!(pause(&[("retry-after", "Wed, 31 Jan 2024 00:00:30 GMT")]), Some(30));
        assert_eq!(pause(&[("retry-after", "0")]), None);
        assert_eq!(pause(&[("retry-after", "Wed, 31 Jan 2024 00:00:00 GMT")]), None);
        assert_eq!(pause(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")]), Some(12));
        assert_eq!(pause(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1706659260")]), Some(60));
        assert_eq!(pause(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "12")]), None);
        assert_eq!(pause(&[("retry-after", "soon")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_halves_and_grows_again() {
        let source: Source =
            serde_json::from_value(serde_json::json!({ "base_url": "http://x", "concurrency": 16 })).unwrap();
        let limiter = Limiter::new(&source);
        assert_eq!(limiter.allowed(), 16);
        limiter.throttled();
        limiter.throttled();
        assert_eq!(limiter.allowed(), 8);
        tokio::time::advance(Duration::from_secs(1)).await;
        limiter.struggled();
        assert_eq!(limiter.allowed(), 6);
        for _ in 0..400 {
            limiter.succeeded();
        }
        assert_eq!(limiter.allowed(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_admitted_during_a_pause_or_beyond_the_limit() {
        let source: Source =
            serde_json::from_value(serde_json::json!({ "base_url": "http://x", "concurrency": 1 })).unwrap();
        let limiter = Limiter::new(&source);
        limiter.pause(Duration::from_secs(5));
        let began = Instant::now();
        let first = limiter.admit().await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        assert!(tokio::time::timeout(Duration::from_secs(1), limiter.admit()).await.is_err());
        drop(first);
        limiter.admit().await;
    }
}
