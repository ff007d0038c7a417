//! One reading of a list in pages that are counted, and whether the list moved meanwhile: a row that leaves an earlier
//! page pulls another one over the border of two pages, where it is missed. Such a list is read again; rows of one key
//! become one at the commit, so that what any reading saw is kept.

use serde::{Deserialize, Serialize};

use crate::source::Page;

/// How often a list that moves is read at the most: a list that never stands still must not hold up the run.
pub const PASSES: u32 = 3;

/// What one reading of a stream has seen of its list so far. Part of a position, so that a resumed reading knows it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Readings before it.
    pub number: u32,
    /// A page was found by counting: others can shift over its border.
    counts: bool,
    /// Rows so far.
    rows: u64,
    /// The API's total, last seen.
    total: Option<u64>,
    /// The API's number of pages, last seen.
    pages: Option<u64>,
    /// The API's figures grew between two pages.
    grew: bool,
    /// They fell.
    shrank: bool,
    /// Rows and total at the end of the reading before.
    before: Option<(u64, u64)>,
}

impl Pass {
    /// The beginning.
    pub const FIRST: Self =
        Self { number: 0, counts: false, rows: 0, total: None, pages: None, grew: false, shrank: false, before: None };

    /// Takes a page into account. `counts`: the next one is found by counting.
    pub fn see(&mut self, rows: usize, page: &Page, counts: bool) {
        self.counts |= counts;
        self.rows += rows as u64;
        for (known, now) in [(&mut self.total, page.total), (&mut self.pages, page.total_pages)] {
            let Some(now) = now else { continue };
            self.grew |= known.is_some_and(|known| now > known);
            self.shrank |= known.is_some_and(|known| now < known);
            *known = Some(now);
        }
    }

    /// Whether rows left the list while it was read, so that others may have been missed.
    pub fn shrank(&self) -> bool {
        self.counts && self.shrank
    }

    /// The reading that shall follow this one at its end; none when there is no reason, or `most` are done.
    pub fn again(&self, most: u32) -> Option<Self> {
        let ended = self.total.map(|total| (self.rows, total));
        // Figures that differ alike twice are no movement: the API counts something else.
        let differs = ended.is_some_and(|(rows, total)| rows != total) && self.before != ended;
        // A list that only seems to grow may have lost rows too. One more reading, since a busy list never stops growing.
        let grew = self.grew && self.number == 0;
        let wanted = self.shrank || differs || grew;
        (self.counts && wanted && self.number + 1 < most).then(|| Self {
            number: self.number + 1,
            before: ended,
            ..Self::FIRST
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading of these pages, as (rows, total).
    fn read(mut pass: Pass, pages: &[(usize, Option<u64>)]) -> Pass {
        pages.iter().for_each(|(rows, total)| pass.see(*rows, &Page { total: *total, ..Page::default() }, true));
        pass
    }

    #[test]
    fn a_list_that_stood_still_is_read_once() {
        for pages in [&[(2, Some(3)), (1, Some(3))][..], &[(2, None), (1, None)], &[(2, Some(3)), (1, None)]] {
            assert_eq!(read(Pass::FIRST, pages).again(PASSES), None);
        }
    }

    #[test]
    fn a_list_that_shrank_is_read_until_it_stands_still_or_it_is_enough() {
        let shrinking = [(2, Some(4)), (1, Some(3))];
        let first = read(Pass::FIRST, &shrinking);
        assert!(first.shrank());
        assert_eq!(first.again(1), None, "without a key nothing is read twice");
        let second = first.again(PASSES).unwrap();
        assert_eq!(read(second, &[(2, Some(3)), (1, Some(3))]).again(PASSES), None);
        let third = read(second, &shrinking).again(PASSES).unwrap();
        assert_eq!(read(third, &shrinking).again(PASSES), None);
    }

    #[test]
    fn pages_that_are_not_counted_do_not_shift() {
        let mut pass = Pass::FIRST;
        [4, 3].iter().for_each(|total| pass.see(1, &Page { total: Some(*total), ..Page::default() }, false));
        assert_eq!((pass.again(PASSES), pass.shrank()), (None, false));
    }

    #[test]
    fn a_list_that_grows_is_read_twice() {
        let growing = [(2, Some(3)), (2, Some(4))];
        let second = read(Pass::FIRST, &growing).again(PASSES).unwrap();
        assert_eq!(read(second, &growing).again(PASSES), None);
    }

    #[test]
    fn a_total_that_is_always_wrong_is_asked_twice() {
        let wrong = [(2, Some(9)), (1, Some(9))];
        let second = read(Pass::FIRST, &wrong).again(PASSES).unwrap();
        assert_eq!(read(second, &wrong).again(PASSES), None);
    }
}
