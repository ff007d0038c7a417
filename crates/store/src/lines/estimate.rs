//! How long the wait may be: pure, so that who shows it decides what it has shown before.

use std::time::Duration;

/// The wait of somebody with so many ahead, at so many admissions a second; `shown` is what was shown last, from which
/// it never goes up. While nobody is admitted, or more slowly than was thought, it stands still. Nothing where nothing
/// is known.
pub fn wait(ahead: i64, per_second: f64, shown: Option<Duration>) -> Option<Duration> {
    let ahead = ahead.max(0) as f64;
    let estimate = (per_second > 0.0).then(|| Duration::try_from_secs_f64((ahead + 1.0) / per_second).ok()).flatten();
    match (estimate, shown) {
        (Some(estimate), Some(shown)) => Some(estimate.min(shown)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_up() {
        let mut shown = None;
        let mut last = Duration::MAX;
        for (ahead, per_second) in [(1_000, 10.0), (900, 5.0), (900, 0.0), (800, f64::NAN), (500, 20.0), (-3, 1e-300)] {
            shown = wait(ahead, per_second, shown);
            assert!(shown.unwrap() <= last);
            last = shown.unwrap();
        }
        assert_eq!(last, Duration::from_secs_f64(501.0 / 20.0));
        assert_eq!(wait(5, 0.0, None), None);
    }
}
