//! Latencies counted in buckets that grow with them: 32 to each doubling, so that a percentile is at most 3 % too high.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets to a doubling, as a power of two.
const FINE_BITS: u32 = 5;
/// Values up to 2^40 µs, twelve days.
const BUCKETS: usize = 36 << FINE_BITS;

/// Counts of one sort of call. Many threads add to it at once.
pub struct Latencies {
    counts: Vec<AtomicU64>,
    longest_us: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), longest_us: AtomicU64::new(0) }
    }
}

/// What one sort of call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there were.
    pub count: u64,
    /// Half were faster.
    pub p50: Duration,
    /// Nine of ten were faster.
    pub p90: Duration,
    /// All but one of a hundred were faster.
    pub p99: Duration,
    /// All but one of a thousand were faster.
    pub p999: Duration,
    /// The slowest.
    pub longest: Duration,
}

impl Latencies {
    /// Counts one.
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
    }

    /// What was counted up to now.
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let longest = Duration::from_micros(self.longest_us.load(Ordering::Relaxed));
        let at = |thousandths: u64| {
            let rank = (count * thousandths).div_ceil(1000).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(Duration::ZERO, |bucket| Duration::from_micros(highest_in(bucket)).min(longest))
        };
        Summary { count, p50: at(500), p90: at(900), p99: at(990), p999: at(999), longest }
    }
}

fn bucket(us: u64) -> usize {
    let fine = 1_u64 << FINE_BITS;
    if us < fine {
        return us as usize;
    }
    let doublings = us.ilog2() - FINE_BITS;
    let within = (us >> doublings) - fine;
    (((u64::from(doublings) + 1) << FINE_BITS) + within).min(BUCKETS as u64 - 1) as usize
}

fn highest_in(bucket: usize) -> u64 {
    let (fine, bucket) = (1_u64 << FINE_BITS, bucket as u64);
    if bucket < fine {
        return bucket;
    }
    let doublings = (bucket >> FINE_BITS) - 1;
    ((fine + (bucket & (fine - 1)) + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_thirtieth_too_high() {
        let latencies = Latencies::default();
        assert_eq!(latencies.summary(), Summary::default());
        (1..=100_000).for_each(|us| latencies.add(Duration::from_micros(us)));
        let Summary { count, p50, p90, p99, p999, longest } = latencies.summary();
        assert_eq!((count, longest), (100_000, Duration::from_micros(100_000)));
        for (at, us) in [(p50, 50_000), (p90, 90_000), (p99, 99_000), (p999, 99_900)] {
            let at = at.as_micros();
            assert!((us..=us + us / 30).contains(&at), "{at} for {us}");
        }
        latencies.add(Duration::MAX);
        assert_eq!(latencies.summary().count, 100_001);
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        for us in 0..200_000 {
            assert!(us <= highest_in(bucket(us)) && (us == 0 || bucket(us) - bucket(us - 1) <= 1), "{us}");
            assert_eq!(bucket(highest_in(bucket(us))), bucket(us));
        }
    }
}
