//! When things come into being: a steady beat with jitter, computable both ways (number → time, time → number), so that
//! any page of a million rows is found without making the rows before it.

use super::draw::draw;

/// One second in the shop's unit, microseconds.
pub(super) const SECOND: i64 = 1_000_000;
/// One minute.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// One day.
pub(super) const DAY: i64 = 24 * 60 * MINUTE;

/// How long before it opened the shop's history begins.
const HISTORY: i64 = 730 * DAY;
/// The last hour before the opening is quiet, so that the short life cycles of the history are over when it opens.
const QUIET: i64 = 60 * MINUTE;

/// The moments of things number 0, 1, 2 …: one in each slot of `span / rows`, at a jittered place within its slot, hence in order.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    seed: u64,
    salt: u64,
    start: i64,
    span: i128,
    rows: i128,
    limit: u64,
}

impl Calendar {
    /// `rows` moments spread over the two years before the opening, beginning `earlier` before that.
    pub(super) fn history(seed: u64, salt: u64, opened_at: i64, rows: u64, earlier: i64) -> Self {
        let span = i128::from(HISTORY - QUIET);
        Self { seed, salt, start: opened_at - HISTORY - earlier, span, rows: i128::from(rows.max(1)), limit: rows }
    }

    /// `rows` moments in every `span` from the opening on, up to `limit` of them; none where `rows` is 0.
    pub(super) fn live(seed: u64, salt: u64, opened_at: i64, rows: u32, span: i64, limit: u64) -> Self {
        let limit = if rows == 0 { 0 } else { limit };
        Self { seed, salt, start: opened_at, span: i128::from(span), rows: i128::from(rows.max(1)), limit }
    }

    /// How many there will ever be.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// The moment of number `index`.
    pub(super) fn at(&self, index: u64) -> i64 {
        let slot = u64::try_from(self.span / self.rows).unwrap_or(1).max(1);
        let base = i128::from(index) * self.span / self.rows + i128::from(draw(self.seed, self.salt, index) % slot);
        self.start.saturating_add(i64::try_from(base).unwrap_or(i64::MAX))
    }

    /// How many are at or before `moment`.
    pub(super) fn until(&self, moment: i64) -> u64 {
        if self.limit == 0 || moment < self.start {
            return 0;
        }
        // Slot `i` begins at `i·span/rows` (cut off), so the slots begun number ceil((passed + 1)·rows / span).
        let passed = i128::from(moment) - i128::from(self.start);
        let begun = ((passed + 1) * self.rows + self.span - 1) / self.span;
        match u64::try_from(begun).unwrap_or(u64::MAX) {
            begun if begun > self.limit => self.limit,
            begun if self.at(begun - 1) <= moment => begun,
            begun => begun - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(calendar: &Calendar, count: u64) {
        for index in 0..count {
            let at = calendar.at(index);
            assert_eq!(calendar.until(at), index + 1, "{calendar:?} at {index}");
            assert_eq!(calendar.until(at - 1), index, "{calendar:?} before {index}");
        }
    }

    #[test]
    fn numbers_and_moments_are_inverse() {
        for (seed, rows) in [(1, 1), (2, 7), (3, 1000), (4, 99_991)] {
            let calendar = Calendar::history(seed, 5, 1_700_000_000 * SECOND, rows, 0);
            check(&calendar, rows.min(3000));
            assert_eq!(calendar.until(i64::MAX / 2), rows);
            assert!(calendar.at(rows - 1) <= 1_700_000_000 * SECOND - QUIET);
        }
        for rows in [1, 7, 60, 6001] {
            check(&Calendar::live(1, 2, 0, rows, MINUTE, u64::MAX), 3000);
        }
        assert_eq!(Calendar::live(1, 2, 0, 0, MINUTE, u64::MAX).until(i64::MAX), 0);
        assert_eq!(Calendar::live(1, 2, 0, 60, MINUTE, 10).until(DAY), 10);
    }
}
