//! Who is in the squares of a tile: one list, square by square without gaps, so that a square takes four bytes and those of a row lie
//! one behind the other.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::grid::{SIDE, SQUARES};

/// A tile.
pub(super) struct Tile {
    /// Which of the earth.
    pub(super) number: u32,
    /// The row of that.
    pub(super) row: u32,
    /// Where each square's part of the list ends. Changed under the lock of the list, read without it where the count need not be exact.
    ends: [AtomicU32; SQUARES],
    members: RwLock<Vec<u32>>,
}

impl Tile {
    pub(super) fn new(number: u32, row: u32) -> Self {
        Self { number, row, ends: [const { AtomicU32::new(0) }; SQUARES], members: RwLock::default() }
    }

    /// The list, and with it the right to read parts of it.
    pub(super) fn read(&self) -> Members<'_> {
        Members { tile: self, all: self.members.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// About how many are in the four squares that make a cell of the rules.
    pub(super) fn neighbours(&self, square: usize) -> u32 {
        let corner = square & !(SIDE + 1);
        let pair = |first: usize| self.end(first + 1).saturating_sub(self.start(first));
        pair(corner) + pair(corner + SIDE)
    }

    /// Reads what a report from a square needs.
    pub(super) fn fetch(&self, square: usize) {
        black_box((self.number, self.neighbours(square)));
    }

    pub(super) fn add(&self, square: usize, member: u32) {
        let mut all = self.write();
        if all.len() == all.capacity() {
            // An eighth at a time: memory is what a million of them cost, and most tiles have few.
            let more = (all.len() / 8).max(4);
            all.reserve_exact(more);
        }
        all.push(member);
        let hole = all.len() - 1;
        self.up(&mut all, hole, square, SQUARES, member);
    }

    pub(super) fn remove(&self, square: usize, member: u32) {
        let mut all = self.write();
        let Some(at) = self.position(&all, square, member) else { return };
        let hole = self.give_last(&mut all, at, square);
        self.down(&mut all, hole, square + 1..SQUARES);
        all.pop();
    }

    /// One goes from a square to another.
    pub(super) fn shift(&self, from: usize, to: usize, member: u32) {
        let mut all = self.write();
        let Some(at) = self.position(&all, from, member) else { return };
        if from < to {
            let hole = self.give_last(&mut all, at, from);
            let hole = self.down(&mut all, hole, from + 1..to);
            all[hole] = member;
        } else if to < from {
            let hole = self.start(from) as usize;
            all[at] = all[hole];
            self.up(&mut all, hole, to, from, member);
        }
    }

    /// Takes one out of its square; its last one takes the place. Where the last one was.
    fn give_last(&self, all: &mut [u32], at: usize, square: usize) -> usize {
        let last = self.end(square) as usize - 1;
        all[at] = all[last];
        self.set_end(square, last);
        last
    }

    /// A hole before these squares goes behind them: the last one of each becomes its first.
    fn down(&self, all: &mut [u32], mut hole: usize, squares: Range<usize>) -> usize {
        for square in squares {
            let last = self.end(square) as usize - 1;
            all[hole] = all[last];
            self.set_end(square, last);
            hole = last;
        }
        hole
    }

    /// A hole behind the squares before `end` goes down to the end of one of them, and who comes is put there.
    fn up(&self, all: &mut [u32], mut hole: usize, to: usize, end: usize, member: u32) {
        for square in (to + 1..end).rev() {
            let first = self.start(square) as usize;
            all[hole] = all[first];
            self.set_end(square, hole + 1);
            hole = first;
        }
        all[hole] = member;
        self.set_end(to, hole + 1);
    }

    fn position(&self, all: &[u32], square: usize, member: u32) -> Option<usize> {
        let (start, end) = (self.start(square) as usize, self.end(square) as usize);
        all[start..end].iter().position(|other| *other == member).map(|at| start + at)
    }

    fn start(&self, square: usize) -> u32 {
        if square == 0 { 0 } else { self.end(square - 1) }
    }

    fn end(&self, square: usize) -> u32 {
        self.ends[square].load(Relaxed)
    }

    fn set_end(&self, square: usize, end: usize) {
        self.ends[square].store(end as u32, Relaxed);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<u32>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list of a tile, which nobody changes meanwhile.
pub(super) struct Members<'a> {
    tile: &'a Tile,
    all: RwLockReadGuard<'a, Vec<u32>>,
}

impl Members<'_> {
    /// Those of some squares.
    pub(super) fn of(&self, squares: Range<usize>) -> &[u32] {
        if squares.is_empty() {
            return &[];
        }
        &self.all[self.tile.start(squares.start) as usize..self.tile.end(squares.end - 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever comes, goes and moves: each is in its square and nowhere else.
        #[test]
        fn everybody_is_in_one_square(steps in proptest::collection::vec((0..30_u32, 0..SQUARES, 0..4_u8), 1..200)) {
            let (tile, mut squares) = (Tile::new(7, 0), vec![BTreeSet::new(); SQUARES]);
            for (member, square, what) in steps {
                let known = squares.iter().position(|members| members.contains(&member));
                match (known, what) {
                    (None, _) => tile.add(square, member),
                    (Some(known), 0) => tile.remove(known, member),
                    (Some(known), _) => tile.shift(known, square, member),
                }
                known.map(|known| squares[known].remove(&member));
                if known.is_none() || what > 0 {
                    squares[square].insert(member);
                }
                let members = tile.read();
                for (square, expected) in squares.iter().enumerate() {
                    let found = members.of(square..square + 1);
                    prop_assert_eq!(found.len(), expected.len());
                    prop_assert_eq!(&found.iter().copied().collect::<BTreeSet<_>>(), expected);
                    let (row, column) = (square / SIDE / 2 * 2, square % SIDE / 2 * 2);
                    let cell = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(up, right)| (row + up) * SIDE + column + right);
                    let neighbours: usize = cell.iter().map(|square| squares[*square].len()).sum();
                    prop_assert_eq!(tile.neighbours(square) as usize, neighbours);
                }
                prop_assert_eq!(members.of(0..SQUARES).len(), squares.iter().map(BTreeSet::len).sum::<usize>());
            }
        }
    }
}
