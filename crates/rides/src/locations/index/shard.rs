//! What is known of the drivers of a shard: a record of 40 bytes each, that stays where it is while the driver is on duty, and a table of
//! four bytes each that says which is whose.
//!
//! All of it is made of atomic words. Records are changed under the lock of their shard, and read without it by who looks for the
//! nearest: each word by itself is right. Who is changed at a time is who is looked up, so the words need no order among them.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_kernel::{Place, Uuid};

use crate::domain::ids::DriverId;
use crate::locations::Duty;

/// Bits of a record's number within its shard.
pub(super) const NUMBER_BITS: u32 = 20;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;
/// Records that are made at a time.
const PIECE: usize = 64;
/// The home of a record that is nobody's.
const NOWHERE: u32 = u32::MAX;
/// A heading that is not known.
const NO_HEADING: u64 = 0x1ff;
/// What is added to the time from `at` to when it was heard, so that it is no less than nothing: reports may be of 30 s later.
const LAG: i64 = 640;
const LAG_BITS: u32 = 11;
const INTERVAL_BITS: u32 = 10;
/// The longest interval that a record can say, in units of the index.
pub(super) const LONGEST: u32 = (1 << INTERVAL_BITS) - 1;

/// A driver's id, and where it is looked for.
#[derive(Clone, Copy)]
pub(super) struct Key {
    id: [u64; 2],
    hash: u64,
}

impl Key {
    pub(super) fn of(driver: DriverId) -> Self {
        let (high, low) = driver.uuid().as_u64_pair();
        Self::new([high, low])
    }

    fn new(id: [u64; 2]) -> Self {
        // Ids need not be random, so that their bits are mixed first.
        let mixed = (id[0] ^ id[1].rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self { id, hash: mixed ^ (mixed >> 32) }
    }

    /// Of so many shards, a power of two.
    pub(super) fn shard(self, shards: usize) -> usize {
        (self.hash >> 56) as usize & (shards - 1)
    }

    /// Where in a table its entry is looked for first.
    fn first(self, size: usize) -> usize {
        (((self.hash & 0xffff_ffff) * size as u64) >> 32) as usize
    }

    /// What an entry says of it besides the number.
    fn print(self) -> u32 {
        (self.hash >> 24) as u32 & !NUMBER
    }
}

/// What is known of a driver. Times are in ticks of the index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) place: Place,
    /// When it was there, by the phone.
    pub(super) at: u32,
    /// Since when it stands where it is.
    pub(super) standing: u32,
    pub(super) heading: Option<u16>,
    /// Until the next report is due, in units of the index.
    pub(super) interval: u32,
    /// When it was heard, by the clock here.
    pub(super) heard: u32,
    pub(super) duty: Duty,
    /// Whether it has reported since it came.
    pub(super) reported: bool,
    pub(super) home: Home,
}

/// The square that a driver is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home(u32);

impl Home {
    /// A square of a tile, by its number in the index.
    pub(super) fn new(tile: usize, square: usize) -> Self {
        Self((tile as u32) << 6 | square as u32)
    }

    pub(super) fn tile(self) -> usize {
        (self.0 >> 6) as usize
    }

    pub(super) fn square(self) -> usize {
        self.0 as usize & 63
    }
}

/// The word of a record that says what was reported last, and until when it counts.
#[derive(Clone, Copy)]
pub(super) struct Said(u64);

impl Said {
    fn new(record: &Record) -> Self {
        let heading = record.heading.map_or(NO_HEADING, u64::from);
        let lag = (i64::from(record.heard) - i64::from(record.at) + LAG).clamp(0, (1 << LAG_BITS) - 1);
        let marks = u64::from(record.duty == Duty::Busy) << 1 | u64::from(record.reported);
        let interval = u64::from(record.interval.min(LONGEST));
        Self(u64::from(record.at) << 32 | heading << 23 | (lag as u64) << 12 | interval << 2 | marks)
    }

    fn at(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn heading(self) -> Option<u16> {
        let heading = self.0 >> 23 & 0x1ff;
        (heading != NO_HEADING).then_some(heading as u16)
    }

    pub(super) fn heard(self) -> u32 {
        let lag = (self.0 >> 12 & ((1 << LAG_BITS) - 1)) as i64 - LAG;
        (i64::from(self.at()) + lag).clamp(0, u32::MAX.into()) as u32
    }

    pub(super) fn interval(self) -> u32 {
        (self.0 >> 2) as u32 & LONGEST
    }

    pub(super) fn duty(self) -> Duty {
        if self.0 & 2 == 0 { Duty::Free } else { Duty::Busy }
    }

    fn reported(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A record, or room for one.
pub(super) struct Slot {
    id: [AtomicU64; 2],
    place: AtomicU64,
    said: AtomicU64,
    /// Since when it stands, and its home.
    stands: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 40);

impl Slot {
    fn empty() -> Self {
        let zero = || AtomicU64::new(0);
        Self { id: [zero(), zero()], place: zero(), said: zero(), stands: AtomicU64::new(NOWHERE.into()) }
    }

    fn id(&self) -> [u64; 2] {
        [self.id[0].load(Relaxed), self.id[1].load(Relaxed)]
    }

    pub(super) fn driver(&self) -> DriverId {
        let [high, low] = self.id();
        DriverId::from(Uuid::from_u64_pair(high, low))
    }

    /// Latitude and longitude, 1e-7 degree.
    pub(super) fn position(&self) -> (i32, i32) {
        let place = self.place.load(Relaxed);
        ((place >> 32) as i32, place as i32)
    }

    pub(super) fn said(&self) -> Said {
        Said(self.said.load(Relaxed))
    }

    /// `None` where it is nobody's.
    pub(super) fn home(&self) -> Option<Home> {
        let home = self.stands.load(Relaxed) as u32;
        (home != NOWHERE).then_some(Home(home))
    }

    /// The same, and reads the first word, too: a record may lie in two lines of memory.
    pub(super) fn fetch(&self) -> Option<Home> {
        black_box(self.id[0].load(Relaxed));
        self.home()
    }

    /// `None` where it is nobody's.
    pub(super) fn read(&self) -> Option<Record> {
        let ((lat, lng), said) = (self.position(), self.said());
        Some(Record {
            place: Place::from_e7(lat, lng).ok()?,
            at: said.at(),
            standing: (self.stands.load(Relaxed) >> 32) as u32,
            heading: said.heading(),
            interval: said.interval(),
            heard: said.heard(),
            duty: said.duty(),
            reported: said.reported(),
            home: self.home()?,
        })
    }

    pub(super) fn write(&self, record: &Record) {
        let (lat, lng) = (record.place.lat_e7() as u32, record.place.lng_e7() as u32);
        self.place.store(u64::from(lat) << 32 | u64::from(lng), Relaxed);
        self.said.store(Said::new(record).0, Relaxed);
        self.stands.store(u64::from(record.standing) << 32 | u64::from(record.home.0), Relaxed);
    }
}

/// Drivers of whom a part of the hash is the same.
#[derive(Default)]
pub(super) struct Shard {
    own: Mutex<Own>,
    /// Numbers of records with some bits of the hash, each as near behind its first place as there was room; 0 is none.
    table: Box<[AtomicU32]>,
    /// In pieces, so that none has to move for others.
    #[expect(clippy::vec_box, reason = "a list that grows is copied: of the pointers that is little")]
    slots: Vec<Box<[Slot; PIECE]>>,
}

/// What only who has the lock knows.
#[derive(Default)]
pub(super) struct Own {
    /// Slots that are nobody's.
    free: Vec<u32>,
    count: usize,
}

impl Shard {
    /// Nobody else changes its drivers until that goes.
    pub(super) fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().count
    }

    /// The number of a driver's record.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.entry(key).map(|(_, number)| number)
    }

    /// The record that is likely its, without a look at it.
    pub(super) fn guess(&self, key: Key) -> Option<&Slot> {
        let (_, number) = self.look(key, |_| true)?;
        self.slots.get(number as usize / PIECE).map(|piece| &piece[number as usize % PIECE])
    }

    /// Reads the entry that is looked at first.
    pub(super) fn fetch(&self, key: Key) {
        black_box(self.table.get(key.first(self.table.len())).map(|entry| entry.load(Relaxed)));
    }

    pub(super) fn slot(&self, number: u32) -> &Slot {
        &self.slots[number as usize / PIECE][number as usize % PIECE]
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flat_map(|piece| &**piece)
    }

    /// Whether one more driver has room.
    pub(super) fn has_room(&self, own: &Own) -> bool {
        !own.free.is_empty() && own.count < most(self.table.len())
    }

    /// Puts a driver in who is not there; `None` where it has no room.
    pub(super) fn insert(&self, own: &mut Own, key: Key, record: &Record) -> Option<u32> {
        if !self.has_room(own) {
            return None;
        }
        let number = own.free.pop()?;
        let slot = self.slot(number);
        slot.id[0].store(key.id[0], Relaxed);
        slot.id[1].store(key.id[1], Relaxed);
        slot.write(record);
        own.count += 1;
        put(&self.table, key, number);
        Some(number)
    }

    /// Takes a driver out who is in no square any more.
    pub(super) fn remove(&self, own: &mut Own, key: Key) {
        let Some((mut hole, number)) = self.entry(key) else { return };
        self.slot(number).stands.store(NOWHERE.into(), Relaxed);
        own.free.push(number);
        own.count -= 1;
        // Who is behind the hole and was looked for first before it or in it comes nearer.
        let size = self.table.len();
        let mut at = hole;
        loop {
            at = (at + 1) % size;
            let entry = self.table[at].load(Relaxed);
            if entry == 0 {
                break;
            }
            let first = Key::new(self.slot(number_of(entry)).id()).first(size);
            let (from_first, from_hole) = ((at + size - first) % size, (at + size - hole) % size);
            if from_first >= from_hole {
                self.table[hole].store(entry, Relaxed);
                hole = at;
            }
        }
        self.table[hole].store(0, Relaxed);
    }

    /// Makes room for some more, where there is none. Whether there is now: a million have room at the most.
    pub(super) fn grow(&mut self) -> bool {
        let own = self.own.get_mut().unwrap_or_else(PoisonError::into_inner);
        let first = (self.slots.len() * PIECE) as u32;
        if own.free.is_empty() && first + PIECE as u32 <= NUMBER {
            self.slots.push(Box::new(std::array::from_fn(|_| Slot::empty())));
            own.free.extend((first..first + PIECE as u32).rev());
        }
        let size = self.table.len();
        if own.count >= most(size) {
            let table: Box<[AtomicU32]> = (0..size + (size / 4).max(8)).map(|_| AtomicU32::new(0)).collect();
            for number in self.table.iter().map(|entry| entry.load(Relaxed)).filter(|entry| *entry != 0).map(number_of)
            {
                let slot = &self.slots[number as usize / PIECE][number as usize % PIECE];
                put(&table, Key::new(slot.id()), number);
            }
            self.table = table;
        }
        !own.free.is_empty()
    }

    /// Where in the table a driver is, and the number of its record.
    fn entry(&self, key: Key) -> Option<(usize, u32)> {
        self.look(key, |number| self.slot(number).id() == key.id)
    }

    fn look(&self, key: Key, is: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let (size, print) = (self.table.len(), key.print());
        let mut at = key.first(size);
        // Some entries are free always.
        for _ in 0..size {
            let entry = self.table[at].load(Relaxed);
            if entry == 0 {
                return None;
            }
            if entry & !NUMBER == print && is(number_of(entry)) {
                return Some((at, number_of(entry)));
            }
            at = if at + 1 == size { 0 } else { at + 1 };
        }
        None
    }
}

/// How many drivers a table of a size takes: seven of eight, so that the next free entry is near.
fn most(size: usize) -> usize {
    size / 8 * 7
}

/// Entries say one more than the number, as 0 is none.
fn number_of(entry: u32) -> u32 {
    (entry & NUMBER) - 1
}

fn put(table: &[AtomicU32], key: Key, number: u32) {
    let first = key.first(table.len());
    let free = table[first..].iter().chain(&table[..first]).find(|entry| entry.load(Relaxed) == 0);
    if let Some(entry) = free {
        entry.store(key.print() | (number + 1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(n: u32) -> Record {
        Record {
            place: Place::from_e7(-(n as i32), 1_800_000_000 - n as i32).unwrap(),
            at: 72_000 + n,
            standing: u32::MAX - n,
            heading: (!n.is_multiple_of(3)).then_some((n % 360) as u16),
            interval: n % (LONGEST + 1),
            heard: 72_000 + n * 2 - 300,
            duty: if n.is_multiple_of(2) { Duty::Free } else { Duty::Busy },
            reported: n.is_multiple_of(5),
            home: Home::new(n as usize, n as usize % 64),
        }
    }

    proptest! {
        /// Whoever comes and goes: each is found, with what is known of it, and nobody else is.
        #[test]
        fn everybody_is_found(steps in proptest::collection::vec((0..400_u32, any::<bool>()), 1..1_500)) {
            let (mut shard, mut list) = (Shard::default(), BTreeMap::new());
            let key = |n: u32| Key::of(DriverId::from(Uuid::from_u64_pair(7, n.into())));
            for (n, comes) in steps {
                if comes && !list.contains_key(&n) {
                    if !shard.has_room(&shard.lock()) {
                        prop_assert!(shard.grow());
                    }
                    let number = shard.insert(&mut shard.lock(), key(n), &record(n)).unwrap();
                    list.insert(n, number);
                } else if !comes {
                    shard.remove(&mut shard.lock(), key(n));
                    list.remove(&n);
                }
            }
            prop_assert_eq!(shard.len(), list.len());
            prop_assert_eq!(shard.slots().filter(|slot| slot.home().is_some()).count(), list.len());
            for n in 0..400 {
                prop_assert_eq!(shard.find(key(n)), list.get(&n).copied());
                if let Some(number) = list.get(&n) {
                    let slot = shard.slot(*number);
                    prop_assert_eq!(slot.read(), Some(record(n)));
                    prop_assert_eq!(Key::of(slot.driver()).id, key(n).id);
                    prop_assert!(shard.guess(key(n)).is_some());
                }
            }
        }
    }
}
