//! The multiple of the price in an area: from who waits and who is free, smoothed and capped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fare::Surge;

/// The rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Never more than this, in hundredths.
    pub most: u16,
    /// Requests for a hundred free drivers from which on it begins.
    pub from: u16,
    /// How much each further request for a free driver adds, in hundredths.
    pub slope: u16,
    /// In how long half of a change is made, seconds.
    pub half_life_s: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { most: 250, from: 100, slope: 50, half_life_s: 120 }
    }
}

impl Rules {
    /// Where the multiple would settle with so many waiting and so many free.
    pub fn target(&self, waiting: u32, free: u32) -> f64 {
        let ratio = f64::from(waiting) / f64::from(free.max(1));
        let over = (ratio - f64::from(self.from) / 100.0).max(0.0);
        // One request and no driver is not a rush.
        let rush = if waiting < 2 { 0.0 } else { over };
        (100.0 + rush * f64::from(self.slope)).min(f64::from(self.most.max(100)))
    }

    /// The multiple after `passed`, from the one before towards the target.
    pub fn smooth(&self, before: f64, target: f64, passed: Duration) -> f64 {
        let halves = passed.as_secs_f64() / f64::from(self.half_life_s.max(1));
        target + (before - target) * 0.5_f64.powf(halves)
    }

    /// As it is shown and charged: in steps of five hundredths.
    pub fn shown(&self, multiple: f64) -> Surge {
        let stepped = ((multiple / 5.0).round() * 5.0) as u16;
        Surge(stepped.clamp(100, self.most.max(100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_demand_slowly_and_has_an_end() {
        let rules = Rules::default();
        assert_eq!(rules.target(0, 0), 100.0);
        assert_eq!(rules.target(1, 0), 100.0);
        assert_eq!(rules.target(10, 10), 100.0);
        assert_eq!(rules.target(20, 10), 150.0);
        assert_eq!(rules.target(1_000, 1), 250.0);
        let half = rules.smooth(100.0, 200.0, Duration::from_secs(120));
        assert!((half - 150.0).abs() < 1e-9);
        assert_eq!(rules.smooth(100.0, 200.0, Duration::ZERO), 100.0);
        assert_eq!([rules.shown(101.0), rules.shown(148.0), rules.shown(900.0)], [Surge(100), Surge(150), Surge(250)]);
    }
}
