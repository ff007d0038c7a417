//! The generic cell rate algorithm (ITU-T I.371): a rate and a burst from one number per caller, the time at which the
//! caller's bucket would be empty again. It neither has windows with edges nor needs a timer.

/// A rate: `count` in `period_us`, of which `burst` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in the period.
    pub count: u64,
    /// The period, in microseconds.
    pub period_us: u64,
    /// How many at once.
    pub burst: u64,
}

/// What is said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It may pass.
    pub passes: bool,
    /// How many more may come now.
    pub remaining: u64,
    /// When the whole burst is there again, in microseconds from now.
    pub reset_us: u64,
    /// When the next one would pass, in microseconds from now; zero where it passes now.
    pub retry_us: u64,
}

impl Rate {
    /// Nanoseconds that one request uses up, rounded up: in microseconds a million in a second would be any number.
    fn interval_ns(self) -> u64 {
        self.period_us.saturating_mul(1_000).div_ceil(self.count.max(1)).max(1)
    }

    /// Judges a request at `now_us` of a caller whose mark was `mark_ns` (0 for one not seen before), and gives the new
    /// mark, in nanoseconds on the same clock. A refused request uses up nothing.
    pub fn judge(self, mark_ns: u64, now_us: u64) -> (u64, Verdict) {
        let interval = self.interval_ns();
        let tolerance = interval.saturating_mul(self.burst.max(1));
        let now = now_us.saturating_mul(1_000);
        let mark = mark_ns.max(now);
        let next = mark.saturating_add(interval);
        let used = next - now;
        let in_us = |nanoseconds: u64| nanoseconds.div_ceil(1_000);
        if used > tolerance {
            let (reset_us, retry_us) = (in_us(mark - now), in_us(used - tolerance));
            return (mark_ns, Verdict { passes: false, remaining: 0, reset_us, retry_us });
        }
        let remaining = (tolerance - used) / interval;
        (next, Verdict { passes: true, remaining, reset_us: in_us(used), retry_us: 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate { count: 10, period_us: 1_000_000, burst: 3 };
        let mut mark = 0;
        let mut at = |now| {
            let (next, verdict) = rate.judge(mark, now);
            mark = next;
            verdict
        };
        assert_eq!([at(0), at(0), at(0)].map(|verdict| verdict.remaining), [2, 1, 0]);
        let refused = at(0);
        assert_eq!((refused.passes, refused.retry_us, refused.reset_us), (false, 100_000, 300_000));
        assert!(!at(99_999).passes && at(100_000).passes && !at(100_000).passes);
    }

    #[test]
    fn a_high_rate_is_kept_to_the_letter() {
        for (count, in_10_ms) in [(600_000, 6_000), (3_000_000, 30_000), (70_000, 700)] {
            let rate = Rate { count, period_us: 1_000_000, burst: 4 };
            let (mut mark, mut passed) = (0, 0_u64);
            for now_us in 1_000_000..1_010_000 {
                for _ in 0..4 {
                    let (next, verdict) = rate.judge(mark, now_us);
                    mark = next;
                    passed += u64::from(verdict.passes);
                }
            }
            assert!(passed <= in_10_ms + 4, "{passed} of {count}/s");
            assert!(passed * 100 >= in_10_ms.min(10_000) * 95, "{passed} of {count}/s");
        }
    }

    proptest! {
        #[test]
        fn no_more_than_burst_and_rate_ever_pass(
            count in 1_u64..50, burst in 1_u64..20, gaps in proptest::collection::vec(0_u64..200_000, 1..200),
        ) {
            let rate = Rate { count, period_us: 1_000_000, burst };
            let (mut mark, mut now, mut passed) = (0, 1_000_000, 0_u64);
            let began = now;
            for gap in gaps {
                now += gap;
                let (next, verdict) = rate.judge(mark, now);
                mark = next;
                passed += u64::from(verdict.passes);
                let allowed = burst + (now - began) / (1_000_000 / count) ;
                prop_assert!(passed <= allowed, "{} of {}", passed, allowed);
                prop_assert_eq!(verdict.passes, verdict.retry_us == 0);
            }
        }
    }
}
