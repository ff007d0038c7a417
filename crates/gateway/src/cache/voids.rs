//! What was voided when: purged, or changed by an unsafe request.
//!
//! A table of fixed size instead of an index: each mark has two cells, and voiding it writes the number of this voiding
//! into both. An answer holds unless both cells of one of its marks are younger than the answer. Two marks that meet in
//! both cells void each other's answers, which costs a fetch and is never wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::Mark;

/// Cells; with two for each mark, a million voidings void about a tenth of what they should not.
const CELLS: usize = 1 << 20;

/// What was voided when.
#[derive(Debug)]
pub struct Voids {
    cells: Box<[AtomicU64]>,
    last: AtomicU64,
}

impl Default for Voids {
    fn default() -> Self {
        Self { cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(), last: AtomicU64::new(0) }
    }
}

impl Voids {
    /// The number of the last voiding. An answer has the one from before it was asked for: what is voided while it is on
    /// its way voids it too.
    pub fn now(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Voids all that has this mark and was asked for before. Gives the number of this voiding.
    pub fn void(&self, mark: Mark) -> u64 {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        self.restore(mark, number);
        number
    }

    /// A voiding of an earlier process.
    pub fn restore(&self, mark: Mark, number: u64) {
        self.last.fetch_max(number, Ordering::SeqCst);
        for cell in cells_of(mark) {
            self.cells[cell].fetch_max(number, Ordering::SeqCst);
        }
    }

    /// Whether an answer with these marks, asked for after voiding `since`, holds.
    pub fn spares(&self, marks: &[Mark], since: u64) -> bool {
        if self.now() <= since {
            return true;
        }
        let is_void = |mark: &Mark| cells_of(*mark).iter().all(|at| self.cells[*at].load(Ordering::SeqCst) > since);
        !marks.iter().any(is_void)
    }
}

fn cells_of(mark: Mark) -> [usize; 2] {
    [mark as usize % CELLS, (mark >> 32) as usize % CELLS]
}

#[cfg(test)]
mod tests {
    use super::super::key::tag;
    use super::*;

    #[test]
    fn what_was_asked_for_before_is_void_and_nothing_else() {
        let voids = Voids::default();
        let (a, b) = (tag("a"), tag("b"));
        let before = voids.now();
        assert!(voids.spares(&[a, b], before));
        voids.void(a);
        assert!(!voids.spares(&[a], before) && !voids.spares(&[b, a], before));
        assert!(voids.spares(&[b], before), "another mark");
        assert!(voids.spares(&[a], voids.now()), "asked for afterwards");
    }

    #[test]
    fn no_voiding_is_ever_forgotten() {
        let voids = Voids::default();
        let before = voids.now();
        for at in 0..20_000 {
            voids.void(tag(&format!("tag {at}")));
        }
        assert!((0..20_000).all(|at| !voids.spares(&[tag(&format!("tag {at}"))], before)));
        let others = (0..20_000).filter(|at| !voids.spares(&[tag(&format!("other {at}"))], before)).count();
        assert!(others < 200, "{others} of 20000 were voided with what they only meet in the table");
    }
}
