//! What a report comes to, wherever positions are kept: whether it counts, whether the driver moved, when the next is due.

use std::time::Duration;

use tessera_kernel::Timestamp;

use super::Refusal;
use crate::domain::interval::{Intervals, STANDING_M};

/// A report older than this does not count.
const OLDEST: Duration = Duration::from_secs(60);
/// How far a phone's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(30);
/// Faster than this is no car, metres a second.
const FASTEST: f64 = 70.0;
/// A step that is never too far, metres: a GPS that finds itself.
const STEP_M: f64 = 500.0;
/// After so many intervals without a report a driver is silent.
const SILENT_INTERVALS: i64 = 3;

/// A report beside what was known of its driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// From the last place to this one.
    pub(super) metres: f64,
    /// From the last report to this one, milliseconds.
    pub(super) passed_ms: i64,
    /// How long the driver stood at the last place, milliseconds.
    pub(super) stood_ms: i64,
    /// Whether it is the first report since the driver came, which was at the time of the clock here, not of the phone's.
    pub(super) first: bool,
}

/// What a report that counts says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether the driver moved, so that it stands from now on.
    pub(super) moved: bool,
    /// How long it stands where it is.
    standing: Duration,
    /// How long it stood where it was.
    stood: Duration,
}

/// Whether a report is of the present.
pub(super) fn timely(at: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if at.micros() < now.micros() - OLDEST.as_micros() as i64 {
        return Err(Refusal::Past);
    }
    if at.micros() > now.micros() + AHEAD.as_micros() as i64 {
        return Err(Refusal::Future);
    }
    Ok(())
}

/// Whether a report counts beside what was known.
pub(super) fn take(step: Step) -> Result<Taken, Refusal> {
    let Step { metres, stood_ms, .. } = step;
    let passed_ms = step.passed_ms + if step.first { OLDEST.as_millis() as i64 } else { 0 };
    if passed_ms <= 0 {
        return Err(Refusal::Stale);
    }
    let seconds = passed_ms as f64 / 1_000.0;
    if metres > STEP_M && metres > seconds * FASTEST {
        return Err(Refusal::Jump);
    }
    let moved = metres > STANDING_M || (metres > STANDING_M / 3.0 && metres > seconds * 2.0);
    let standing_ms = if moved { 0 } else { stood_ms + passed_ms };
    let since = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    Ok(Taken { moved, standing: since(standing_ms), stood: since(stood_ms) })
}

/// When the next report is due; `neighbours` are the drivers in the cell where it is now, this one included.
pub(super) fn next(intervals: &Intervals, busy: bool, neighbours: u32, taken: &Taken) -> Duration {
    let parked = taken.stood.as_secs() >= u64::from(intervals.parked_s);
    if taken.moved && parked && !busy {
        // Where it goes is not known yet.
        return first(intervals);
    }
    intervals.next(busy, neighbours, taken.standing)
}

/// The interval of a driver who comes on duty, before its first report.
pub(super) fn first(intervals: &Intervals) -> Duration {
    intervals.next(false, u32::MAX, Duration::ZERO)
}

/// Whether a driver who was heard so long ago, by the clock here, is not offered rides.
pub(super) fn is_silent(heard_ms_ago: i64, interval_ms: i64) -> bool {
    heard_ms_ago > SILENT_INTERVALS * interval_ms
}
