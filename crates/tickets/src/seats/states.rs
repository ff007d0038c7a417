//! How each seat of one event stands.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use tessera_kernel::Timestamp;

use super::delta::{Change, ChangeTo, snapshot};
use crate::domain::ids::SeatNumber;
use crate::domain::inventory::Inventory;

/// How a seat stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatState {
    /// It can be had.
    Free,
    /// It is kept for somebody until then.
    Held(Timestamp),
    /// It is sold.
    Booked,
    /// It is not there, or not for sale.
    NotSold,
}

impl SeatState {
    /// Two bits for the snapshot.
    pub const fn code(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Held(_) => 1,
            Self::Booked => 2,
            Self::NotSold => 3,
        }
    }
}

const FREE: i64 = 0;
const BOOKED: i64 = i64::MAX;
const NOT_SOLD: i64 = -1;

/// The seats of one event. Each is one number: free, booked, not sold, or the end of its hold.
#[derive(Debug)]
pub struct States {
    inventory: Arc<Inventory>,
    seq: i64,
    seats: Vec<i64>,
    /// The ends of holds, the earliest first; those of holds that are over otherwise are passed over.
    ends: BinaryHeap<Reverse<(i64, u32)>>,
    /// Seats that this process is about to ask for: others choose differently.
    wanted: HashSet<u32>,
    /// Free seats of each row, by the last lapse seen.
    row_free: Vec<u32>,
}

/// How many seats there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that are sold, held or free.
    pub total: u32,
    /// Free ones.
    pub free: u32,
    /// Held ones.
    pub held: u32,
    /// Booked ones.
    pub booked: u32,
}

impl States {
    /// All free, at the beginning of the feed.
    pub fn new(inventory: Arc<Inventory>) -> Self {
        let sold = |number| if inventory.level(SeatNumber(number)).is_some() { FREE } else { NOT_SOLD };
        let seats: Vec<i64> = (0..inventory.len()).map(sold).collect();
        let free_in = |first: u32, count: u32| {
            seats[first as usize..(first + count) as usize].iter().filter(|seat| **seat == FREE).count() as u32
        };
        let row_free = inventory.rows().iter().map(|row| free_in(row.first, row.count)).collect();
        Self { seq: 0, seats, ends: BinaryHeap::new(), wanted: HashSet::new(), row_free, inventory }
    }

    /// What there is.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// Up to which change of the feed this is.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// Where the feed stood when this was read from the database.
    pub fn set_seq(&mut self, seq: i64) {
        self.seq = seq;
    }

    /// How a seat stands.
    pub fn get(&self, seat: SeatNumber, now: Timestamp) -> SeatState {
        match self.seats.get(seat.0 as usize) {
            None | Some(&NOT_SOLD) => SeatState::NotSold,
            Some(&BOOKED) => SeatState::Booked,
            Some(&until) if until > now.micros() => SeatState::Held(Timestamp::from_micros(until)),
            Some(_) => SeatState::Free,
        }
    }

    /// Whether a seat can be had and nobody in this process is asking for it.
    pub fn is_open(&self, seat: SeatNumber, now: Timestamp) -> bool {
        self.get(seat, now) == SeatState::Free && !self.wanted.contains(&seat.0)
    }

    /// Whether a row may have a free seat.
    pub fn row_has_free(&self, row: usize) -> bool {
        self.row_free.get(row).is_some_and(|free| *free > 0)
    }

    /// Notes that these are being asked for, until [`States::unwant`].
    pub fn want(&mut self, seats: &[SeatNumber]) {
        self.wanted.extend(seats.iter().map(|seat| seat.0));
    }

    /// They have been asked for.
    pub fn unwant(&mut self, seats: &[SeatNumber]) {
        for seat in seats {
            self.wanted.remove(&seat.0);
        }
    }

    /// Applies changes, absolute as they are: applying them twice is applying them once.
    pub fn apply(&mut self, changes: &[Change]) {
        for Change { seat, to } in changes {
            let to = match to {
                ChangeTo::Free => FREE,
                ChangeTo::Held(until) => until.micros(),
                ChangeTo::Booked => BOOKED,
            };
            self.set(*seat, to);
            if (FREE + 1..BOOKED).contains(&to) {
                self.ends.push(Reverse((to, seat.0)));
            }
        }
    }

    /// Frees what has lapsed, and names it.
    pub fn lapse(&mut self, now: Timestamp) -> Vec<SeatNumber> {
        let mut lapsed = Vec::new();
        while let Some(Reverse((until, number))) =
            self.ends.peek().copied().filter(|Reverse((at, _))| *at <= now.micros())
        {
            self.ends.pop();
            if self.seats.get(number as usize) == Some(&until) {
                self.set(SeatNumber(number), FREE);
                lapsed.push(SeatNumber(number));
            }
        }
        lapsed
    }

    fn set(&mut self, seat: SeatNumber, to: i64) {
        // A seat that is not sold any more may still be held or booked from before; it does not become free then.
        let to = if to == FREE && self.inventory.level(seat).is_none() { NOT_SOLD } else { to };
        let Some(was) = self.seats.get_mut(seat.0 as usize) else { return };
        let freed = i64::from(to == FREE) - i64::from(*was == FREE);
        *was = to;
        if freed != 0 {
            let row = self.inventory.row_index(seat);
            if let Some(free) = row.and_then(|row| self.row_free.get_mut(row)) {
                *free = free.saturating_add_signed(freed as i32);
            }
        }
    }

    /// How many of each kind.
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        (0..self.seats.len() as u32).for_each(|number| counts.add(self.get(SeatNumber(number), now)));
        counts
    }

    /// How many of each kind, by price level.
    pub fn counts_by_level(&self, levels: usize, now: Timestamp) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); levels];
        for number in (0..self.seats.len() as u32).map(SeatNumber) {
            let level = self.inventory.level(number).and_then(|level| counts.get_mut(level));
            if let Some(level) = level {
                level.add(self.get(number, now));
            }
        }
        counts
    }

    /// How many of the numbers in a range are of each kind.
    pub fn counts_in(&self, first: u32, count: u32, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        (first..first.saturating_add(count)).for_each(|number| counts.add(self.get(SeatNumber(number), now)));
        counts
    }

    /// The snapshot as sent.
    pub fn snapshot(&self, now: Timestamp) -> Vec<u8> {
        let codes = (0..self.seats.len() as u32).map(|number| self.get(SeatNumber(number), now).code());
        snapshot(self.seq, self.seats.len(), codes)
    }
}

impl Counts {
    fn add(&mut self, state: SeatState) {
        match state {
            SeatState::Free => self.free += 1,
            SeatState::Held(_) => self.held += 1,
            SeatState::Booked => self.booked += 1,
            SeatState::NotSold => return,
        }
        self.total += 1;
    }
}
