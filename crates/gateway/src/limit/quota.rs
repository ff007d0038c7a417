//! Quotas: how many requests a consumer has in each hour or day of the calendar (UTC).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Outcome, Remote};
use crate::domain::gcra::Verdict;
use crate::spec::PerTime;

/// A consumer's quota.
#[derive(Debug)]
pub struct Quota {
    /// Whose it is, among all quotas.
    pub name: Arc<str>,
    /// How many in which time.
    pub spec: PerTime,
    /// The number of the period in the upper half, what was used of it in the lower.
    used: AtomicU64,
}

impl Quota {
    /// Of which nothing is used.
    pub fn new(name: &str, spec: PerTime) -> Self {
        Self { name: name.into(), spec, used: AtomicU64::new(0) }
    }

    /// Uses one at this time, in seconds since the epoch. What is refused uses up nothing.
    pub fn take(&self, now_s: u64) -> Outcome {
        let period = self.period(now_s) << 32;
        let take = |used: u64| {
            let used = if used & !u64::from(u32::MAX) == period { used } else { period };
            Some(used + u64::from(used & u64::from(u32::MAX) < self.spec.count))
        };
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let before = before.ok().filter(|used| used & !u64::from(u32::MAX) == period).unwrap_or(period);
        self.outcome((before & u64::from(u32::MAX)) + 1, now_s)
    }

    /// Uses one of what all gateways count together, or of what this one counts where Redis is away.
    pub async fn take_shared(&self, remote: &Remote, now_s: u64, handle: &tokio::runtime::Handle) -> Outcome {
        let name = format!("{} {}", self.name, self.spec);
        match remote.count(&name, self.ends_s(now_s), handle).await {
            Some(count) => self.outcome(count, now_s),
            None => self.take(now_s),
        }
    }

    fn period_s(&self) -> u64 {
        self.spec.period.0.as_secs().max(1)
    }

    fn period(&self, now_s: u64) -> u64 {
        now_s / self.period_s()
    }

    fn ends_s(&self, now_s: u64) -> u64 {
        (self.period(now_s) + 1) * self.period_s()
    }

    fn outcome(&self, used: u64, now_s: u64) -> Outcome {
        let left_us = (self.ends_s(now_s) - now_s).saturating_mul(1_000_000);
        let passes = used <= self.spec.count;
        let remaining = self.spec.count.saturating_sub(used);
        let verdict = Verdict { passes, remaining, reset_us: left_us, retry_us: if passes { 0 } else { left_us } };
        Outcome { verdict, burst: self.spec.count, window_s: self.period_s() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_so_many_and_the_next_one_again() {
        let quota = Quota::new("shop", "2/m".parse().unwrap());
        let seen: Vec<_> = [60, 61, 119, 119].map(|now_s| quota.take(now_s).verdict).into();
        assert_eq!(seen.iter().map(|verdict| verdict.passes).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!((seen[0].remaining, seen[1].remaining, seen[2].retry_us), (1, 0, 1_000_000));
        assert!(quota.take(120).verdict.passes && quota.take(179).verdict.passes && !quota.take(179).verdict.passes);
    }
}
