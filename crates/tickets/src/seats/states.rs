//! How each seat of one event stands.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use tessera_kernel::Timestamp;

use super::delta::{Change, ChangeTo, packed_snapshot, snapshot};
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
    /// Two bits a seat, as in the snapshot, by the last lapse seen.
    codes: Vec<u8>,
    /// How often a seat changed.
    changes: u64,
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
        let mut codes = vec![0; seats.len().div_ceil(4)];
        for (number, _) in seats.iter().enumerate().filter(|(_, seat)| **seat == NOT_SOLD) {
            set_code(&mut codes, number, SeatState::NotSold.code());
        }
        let (ends, wanted) = (BinaryHeap::new(), HashSet::new());
        Self { seq: 0, seats, ends, wanted, row_free, codes, changes: 0, inventory }
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
        self.changes += 1;
        let code = match to {
            FREE => 0,
            NOT_SOLD => SeatState::NotSold.code(),
            BOOKED => SeatState::Booked.code(),
            until => SeatState::Held(Timestamp::from_micros(until)).code(),
        };
        set_code(&mut self.codes, seat.0 as usize, code);
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

    /// Takes the place of states that were read before: what they said is settled is not so any more.
    pub fn replace(&mut self, before: &Self) {
        self.changes += before.changes + 1;
    }

    /// A number that stays while the snapshot does; `None` where a hold has lapsed that is not taken in yet.
    pub fn settled(&self, now: Timestamp) -> Option<u64> {
        let lapses = self.ends.peek().is_some_and(|Reverse((until, _))| *until <= now.micros());
        (!lapses).then_some(self.changes)
    }

    /// The snapshot as sent.
    pub fn snapshot(&self, now: Timestamp) -> Vec<u8> {
        if self.settled(now).is_some() {
            return packed_snapshot(self.seq, self.seats.len(), &self.codes);
        }
        let codes = (0..self.seats.len() as u32).map(|number| self.get(SeatNumber(number), now).code());
        snapshot(self.seq, self.seats.len(), codes)
    }
}

/// Sets the two bits of a seat.
fn set_code(codes: &mut [u8], number: usize, code: u8) {
    if let Some(byte) = codes.get_mut(number / 4) {
        let shift = 2 * (number % 4);
        *byte = *byte & !(3 << shift) | (code & 3) << shift;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::{Details, PriceLevel};
    use crate::domain::generate::{Generate, HouseKind};

    fn small_house() -> Arc<Inventory> {
        let plan = Generate { kind: HouseKind::Theatre, seats: 50, name: None }.plan().unwrap();
        let level = PriceLevel {
            key: "all".into(),
            name: "All".into(),
            price: 1_000,
            color: "#336699".into(),
            categories: plan.categories.iter().map(|category| category.name.clone()).collect(),
        };
        let details = Details { price_levels: vec![level], ..Details::default() };
        Arc::new(Inventory::new(Some(&plan), &details).unwrap())
    }

    proptest! {
        /// The states that are kept packed are those of the seats, whatever changed and lapsed before.
        #[test]
        fn the_snapshot_is_that_of_each_seat(
            steps in prop::collection::vec((0_u32..52, 0..4_i64, 0_i64..100), 1..60), now in 0_i64..100,
        ) {
            let mut states = States::new(small_house());
            let mut latest = 0;
            for (number, kind, at) in steps {
                let to = match kind {
                    0 => ChangeTo::Free,
                    1 => ChangeTo::Booked,
                    _ => ChangeTo::Held(Timestamp::from_micros(at + 1)),
                };
                states.apply(&[Change { seat: SeatNumber(number), to }]);
                if kind == 3 {
                    latest = at;
                    states.lapse(Timestamp::from_micros(at));
                }
            }
            let now = Timestamp::from_micros(now.max(latest));
            let codes = (0..50).map(|number| states.get(SeatNumber(number), now).code());
            prop_assert_eq!(states.snapshot(now), snapshot(0, 50, codes));
            states.lapse(now);
            let codes = (0..50).map(|number| states.get(SeatNumber(number), now).code());
            prop_assert!(states.settled(now).is_some());
            prop_assert_eq!(states.snapshot(now), snapshot(0, 50, codes));
        }
    }
}
