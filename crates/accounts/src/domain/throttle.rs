//! How often something may be tried: the generic cell rate algorithm (ITU-T I.371), whose whole state is one time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

/// So many at once, and then one in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many may come at once after a pause. 0 is taken as 1.
    pub burst: u32,
    /// How long until one more may come, seconds.
    pub every_s: u32,
}

impl Rate {
    /// The arrival time to keep where an attempt is let through.
    ///
    /// # Errors
    /// When to come again.
    pub fn attempt(self, arrival: Timestamp, now: Timestamp) -> Result<Timestamp, Timestamp> {
        let every = Duration::from_secs(u64::from(self.every_s));
        let tolerance = every.saturating_mul(self.burst.max(1) - 1);
        let expected = arrival.max(now);
        if expected > now.plus(tolerance) { Err(expected.minus(tolerance)) } else { Ok(expected.plus(every)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the gaps: in any span no more come through than the burst and what the span pays for.
        #[test]
        fn no_more_than_the_rate(gaps in prop::collection::vec(0_u64..90, 1..200), burst in 0_u32..8, every_s in 1_u32..40) {
            let rate = Rate { burst, every_s };
            let (start, mut now) = (Timestamp::from_micros(0), Timestamp::from_micros(0));
            let (mut arrival, mut through) = (Timestamp::from_micros(0), 0_u64);
            for gap in gaps {
                now = now.plus(Duration::from_secs(gap));
                match rate.attempt(arrival, now) {
                    Ok(next) => (arrival, through) = (next, through + 1),
                    Err(again) => {
                        prop_assert!(again > now);
                        prop_assert!(rate.attempt(arrival, again).is_ok(), "who comes when told is let through");
                    }
                }
                let paid = now.since(start).as_secs() / u64::from(every_s);
                prop_assert!(through <= u64::from(burst.max(1)) + paid);
            }
        }
    }

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let rate = Rate { burst: 3, every_s: 10 };
        let now = Timestamp::from_micros(1_000_000_000);
        let mut arrival = Timestamp::from_micros(0);
        for _ in 0..3 {
            arrival = rate.attempt(arrival, now).unwrap();
        }
        let again = rate.attempt(arrival, now).unwrap_err();
        assert_eq!(again.since(now), Duration::from_secs(10));
    }
}
