//! The index in memory: drivers by H3 cell (resolution 8, about 0.7 km²).
//!
//! Two tables, each cut into shards with a lock of their own: which cell a driver is in and about where in it, and the drivers of
//! each cell. A report that stays in its cell writes a place and a record of 32 bytes and computes no cell: each cell knows how far
//! from its middle one is surely inside. Locks are taken in one order: a driver's shard, then the old cell's, then the new cell's, never two of one
//! table at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use h3o::CellIndex;
use hashbrown::HashTable;
use tessera_kernel::{Place, Timestamp};

use super::cells::{cell_of, flat_m, flat_m_squared, middle_of, narrow_at};
use super::rules::{self, Step};
use super::{Duty, Entry, Located, Near, PARTS, Refusal, Report};
use crate::domain::area::area_of;
use crate::domain::bounds::Bounds;
use crate::domain::ids::DriverId;
use crate::domain::interval::Intervals;

/// Shards of each table; a power of two.
const SHARDS: usize = 256;
/// Milliseconds in a tick, the unit of stored times: 32 bits of them are 6.8 years.
const TICK_MS: i64 = 50;
/// No point of a cell is further than this from its middle, metres (the largest cell's corner, and some room).
const CELL_REACH_M: f64 = 680.0;
/// Every point nearer to the middle of a cell than this is inside, metres (the smallest cell's side, less some room).
const SURELY_INSIDE_M: f64 = 300.0;
/// A driver further back in its cell is looked for there.
const FURTHEST: usize = 0xfff;
/// The number of a cell: 8 bits of its shard, and so many within it.
const SLOT_BITS: u32 = 20;
const CELL_BITS: u32 = 0x0fff_ffff;
/// Of an id as many bits are kept.
const PRINT_BITS: u32 = 0x00ff_ffff;
/// A heading that is not known.
const NO_HEADING: u16 = u16::MAX;

/// What is known of a driver besides the place.
#[derive(Clone, Copy, Debug)]
struct Record {
    driver: [u64; 2],
    /// When it was there, by the phone; ticks since the index began.
    at: u32,
    /// Since when it stands where it is, ticks.
    standing: u32,
    heading: u16,
    /// Ticks until the next report is due.
    interval: u16,
    /// How much later than `at` it was heard, by the clock here, ticks.
    lag: i16,
    duty: Duty,
    /// Whether it has reported since it came.
    reported: bool,
}

const _: () = assert!(size_of::<Record>() <= 32);

/// The drivers of a cell.
struct Cell {
    middle: Place,
    /// How much narrower a degree of longitude is there.
    narrow: f32,
    /// Where each of them is: who looks for the nearest reads a fifth of the memory.
    places: Vec<Place>,
    drivers: Vec<Record>,
}

const _: () = assert!(size_of::<Cell>() <= 64);

impl Cell {
    /// Where a driver is in it, which mostly is the number that was kept of it.
    fn position(&self, key: Key, kept: usize) -> Option<usize> {
        let is = |record: &Record| record.driver == key.id;
        if self.drivers.get(kept).is_some_and(is) { Some(kept) } else { self.drivers.iter().position(is) }
    }

    fn push(&mut self, place: Place, record: Record) {
        if self.drivers.len() == self.drivers.capacity() {
            // An eighth at a time: memory is what a million of them cost, and most cells have few.
            let more = (self.drivers.len() / 8).max(1);
            self.drivers.reserve_exact(more);
            self.places.reserve_exact(more);
        }
        self.places.push(place);
        self.drivers.push(record);
    }

    fn remove(&mut self, at: usize) -> (Place, Record) {
        (self.places.swap_remove(at), self.drivers.swap_remove(at))
    }

    fn all(&self) -> impl Iterator<Item = (Place, &Record)> {
        self.places.iter().copied().zip(&self.drivers)
    }
}

#[derive(Default)]
struct Cells {
    numbers: HashMap<CellIndex, u32, ahash::RandomState>,
    cells: Vec<Cell>,
}

/// Which cell a driver is in, and where it was put there: others who leave the cell may have moved it. Of the id only some bits are kept:
/// two drivers may share them, so the cell is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whereabouts(u64);

impl Whereabouts {
    fn new(print: u32, cell: u32, at: usize) -> Self {
        let at = at.min(FURTHEST) as u64;
        Self(u64::from(print) << 40 | u64::from(cell) << 12 | at)
    }

    fn print(self) -> u32 {
        (self.0 >> 40) as u32
    }

    fn cell(self) -> u32 {
        (self.0 >> 12) as u32 & CELL_BITS
    }

    fn at(self) -> usize {
        (self.0 & FURTHEST as u64) as usize
    }
}

/// Drivers and where they are; shared by reference among all threads.
pub struct Index {
    drivers: Vec<Mutex<HashTable<Whereabouts>>>,
    cells: Vec<RwLock<Cells>>,
    intervals: Intervals,
    /// When time begins for it.
    epoch: Timestamp,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("intervals", &self.intervals).finish_non_exhaustive()
    }
}

impl Index {
    /// An empty one.
    pub fn new(intervals: Intervals, now: Timestamp) -> Self {
        Self {
            drivers: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            cells: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            intervals,
            // Room for what was taken shortly before.
            epoch: Timestamp::from_micros(now.micros() - 3_600_000_000),
        }
    }

    /// A driver comes on duty. One who is already moves there whatever lies between, or where it `stays`, is left alone.
    pub fn enter(&self, entry: &Entry, stays: bool) {
        let Entry { driver, place, duty, at } = *entry;
        let key = Key::of(driver);
        let mut table = self.table(key);
        let at = self.ticks(at);
        if let Some(known) = self.find(&table, key) {
            if stays && self.holds(known, key) {
                return;
            }
            self.take(&mut table, key, known);
        }
        let record = Record {
            driver: key.id,
            at,
            standing: at,
            heading: NO_HEADING,
            interval: ticks_of(rules::first(&self.intervals)),
            lag: 0,
            duty,
            reported: false,
        };
        self.put(&mut table, key, cell_of(place), (place, record));
    }

    /// A driver goes off duty. Whether it was on.
    pub fn leave(&self, driver: DriverId) -> bool {
        let key = Key::of(driver);
        let mut table = self.table(key);
        match self.find(&table, key) {
            Some(known) => self.take(&mut table, key, known).is_some(),
            None => false,
        }
    }

    /// A free driver who was not heard since `before` has no position any more. Whether that is so.
    pub(super) fn forget(&self, driver: DriverId, before: Timestamp) -> bool {
        let key = Key::of(driver);
        let mut table = self.table(key);
        let Some(known) = self.find(&table, key) else { return false };
        let before = self.ticks(before);
        let is_lost = |record: &mut Record| record.duty == Duty::Free && record.heard() < before;
        let lost = record_mut(&mut self.write(shard_of(known.cell())), known, key).is_some_and(is_lost);
        lost && self.take(&mut table, key, known).is_some()
    }

    /// A driver gets busy or free. Whether it is on duty.
    pub fn set_duty(&self, driver: DriverId, duty: Duty) -> bool {
        let key = Key::of(driver);
        let table = self.table(key);
        let Some(known) = self.find(&table, key) else { return false };
        let mut cells = self.write(shard_of(known.cell()));
        match record_mut(&mut cells, known, key) {
            Some(record) => {
                record.duty = duty;
                true
            }
            None => false,
        }
    }

    /// Takes a report. Gives when the next is due.
    ///
    /// # Errors
    /// Why it changed nothing.
    pub fn report(&self, report: &Report, now: Timestamp) -> Result<Duration, Refusal> {
        rules::timely(report.at, now)?;
        let key = Key::of(report.driver);
        let mut table = self.table(key);
        let known = self.find(&table, key).ok_or(Refusal::OffDuty)?;
        let at = self.ticks(report.at);
        let mut cells = self.write(shard_of(known.cell()));
        let cell = cells.cells.get_mut(slot_of(known.cell())).ok_or(Refusal::OffDuty)?;
        let (middle, narrow, neighbours) = (cell.middle, f64::from(cell.narrow), cell.drivers.len() as u32);
        let position = cell.position(key, known.at()).ok_or(Refusal::OffDuty)?;
        let (place, record) = (&mut cell.places[position], &mut cell.drivers[position]);
        let metres = flat_m(*place, report.place, narrow);
        let (passed_ms, stood_ms) = (millis(record.at, at), millis(record.standing, record.at));
        let lag = i64::from(self.ticks(now)) - i64::from(at);
        let taken = rules::take(Step { metres, passed_ms, stood_ms, first: !record.reported })?;
        let busy = record.duty == Duty::Busy;
        let interval = rules::next(&self.intervals, busy, neighbours, &taken);
        *place = report.place;
        *record = Record {
            at,
            standing: if taken.moved { at } else { record.standing },
            heading: report.heading.map_or(NO_HEADING, |heading| heading % 360),
            interval: ticks_of(interval),
            // A minute at the most, as the report is of the present.
            lag: lag as i16,
            reported: true,
            ..*record
        };
        drop(cells);
        let known = if position.min(FURTHEST) == known.at() { known } else { moved(&mut table, key, known, position) };
        if flat_m(middle, report.place, narrow) < SURELY_INSIDE_M {
            return Ok(interval);
        }
        let home = cell_of(report.place);
        let (there, others) = self.number(home);
        if there == Some(known.cell()) {
            return Ok(interval);
        }
        let Some((place, record)) = self.take(&mut table, key, known) else { return Ok(interval) };
        // Who lives there counts.
        let interval = rules::next(&self.intervals, busy, others + 1, &taken);
        self.put(&mut table, key, home, (place, Record { interval: ticks_of(interval), ..record }));
        Ok(interval)
    }

    /// What is known of a driver; `None` off duty.
    pub fn get(&self, driver: DriverId) -> Option<Located> {
        let key = Key::of(driver);
        let table = self.table(key);
        let known = self.find(&table, key)?;
        let cells = self.read(shard_of(known.cell()));
        let cell = cells.cells.get(slot_of(known.cell()))?;
        let at = cell.position(key, known.at())?;
        Some(self.located(cell.places[at], &cell.drivers[at]))
    }

    /// The nearest free drivers within `radius_m` of a place whose reports are not overdue three times, nearest first, at most
    /// `most`. `fits` says who may be among them.
    pub fn nearest(
        &self,
        place: Place,
        most: usize,
        radius_m: f64,
        now: Timestamp,
        fits: impl Fn(DriverId) -> bool,
    ) -> Vec<Near> {
        let now = self.ticks(now);
        let narrow = narrow_at(place);
        let middle = cell_of(place);
        // Distances are compared squared.
        let mut near: Vec<(f64, Place, Record)> = Vec::with_capacity(most + 1);
        let mut bound = radius_m * radius_m;
        for ring in 0.. {
            let mut reached = false;
            for index in middle.grid_ring::<Vec<_>>(ring) {
                let within_m = bound.sqrt() + CELL_REACH_M;
                let cells = self.read(shard_of_cell(index));
                let Some(cell) = cells.numbers.get(&index).and_then(|number| cells.cells.get(slot_of(*number))) else {
                    drop(cells);
                    reached |= middle_of(index).is_some_and(|middle| flat_m(middle, place, narrow) <= within_m);
                    continue;
                };
                if flat_m(cell.middle, place, narrow) > within_m {
                    continue;
                }
                reached = true;
                for (at, there) in cell.places.iter().enumerate() {
                    let far = flat_m_squared(*there, place, narrow);
                    if far > bound {
                        continue;
                    }
                    let record = &cell.drivers[at];
                    if !record.is_free(now) || !fits(record.id()) {
                        continue;
                    }
                    let at = near.partition_point(|(other, ..)| *other <= far);
                    near.insert(at, (far, *there, *record));
                    near.truncate(most);
                    if let (true, Some((furthest, ..))) = (near.len() == most, near.last()) {
                        bound = *furthest;
                    }
                }
            }
            if !reached && ring > 0 {
                break;
            }
        }
        let known = |(far, place, record): (f64, Place, Record)| {
            let located = self.located(place, &record);
            Near { driver: located.driver, place: located.place, distance_m: far.sqrt() }
        };
        near.into_iter().map(known).collect()
    }

    /// The drivers of one of [`PARTS`] parts.
    pub(super) fn part(&self, part: usize) -> Vec<Located> {
        let mut all = Vec::new();
        for shard in (part % PARTS..SHARDS).step_by(PARTS) {
            for cell in &self.read(shard).cells {
                all.extend(cell.all().map(|(place, record)| self.located(place, record)));
            }
        }
        all
    }

    /// At most `most` drivers within bounds.
    pub(super) fn within(&self, bounds: &Bounds, most: usize) -> Vec<Located> {
        let mut inside = Vec::new();
        for shard in 0..SHARDS {
            for cell in &self.read(shard).cells {
                let known = cell.all().filter(|(place, _)| bounds.contains(*place));
                inside.extend(known.take(most - inside.len()).map(|(place, record)| self.located(place, record)));
                if inside.len() == most {
                    return inside;
                }
            }
        }
        inside
    }

    /// How many free drivers who are not silent are in each area.
    pub(super) fn free_by_area(&self, now: Timestamp) -> HashMap<u64, u32> {
        let now = self.ticks(now);
        let mut free = HashMap::new();
        for shard in 0..SHARDS {
            for cell in &self.read(shard).cells {
                for (place, _) in cell.all().filter(|(_, record)| record.is_free(now)) {
                    *free.entry(area_of(place)).or_default() += 1;
                }
            }
        }
        free
    }

    /// How many drivers are on duty.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|shard| self.read(shard).cells.iter().map(|cell| cell.drivers.len()).sum::<usize>()).sum()
    }

    /// Whether nobody is on duty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn located(&self, place: Place, record: &Record) -> Located {
        Located {
            driver: record.id(),
            place,
            heading: (record.heading != NO_HEADING).then_some(record.heading),
            at: self.time(record.at),
            heard: self.time(record.heard()),
            duty: record.duty,
        }
    }

    fn time(&self, ticks: u32) -> Timestamp {
        Timestamp::from_micros(self.epoch.micros() + i64::from(ticks) * TICK_MS * 1_000)
    }

    fn ticks(&self, at: Timestamp) -> u32 {
        let ticks = (at.micros() - self.epoch.micros()) / (TICK_MS * 1_000);
        u32::try_from(ticks.max(0)).unwrap_or(u32::MAX)
    }

    fn table(&self, key: Key) -> MutexGuard<'_, HashTable<Whereabouts>> {
        self.drivers[key.shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Cells> {
        self.cells[shard].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Cells> {
        self.cells[shard].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a cell, and how many drivers are in it.
    fn number(&self, index: CellIndex) -> (Option<u32>, u32) {
        let cells = self.read(shard_of_cell(index));
        let number = cells.numbers.get(&index).copied();
        let cell = number.and_then(|number| cells.cells.get(slot_of(number)));
        (number, cell.map_or(0, |cell| cell.drivers.len() as u32))
    }

    /// Where a driver is, if anywhere.
    fn find(&self, table: &HashTable<Whereabouts>, key: Key) -> Option<Whereabouts> {
        let mut alike = table.iter_hash(key.hash()).filter(|known| known.print() == key.print).copied();
        let first = alike.next()?;
        // Rarely another has the same bits; then their cells are asked.
        let Some(second) = alike.next() else { return Some(first) };
        [first, second].into_iter().chain(alike).find(|known| self.holds(*known, key))
    }

    fn holds(&self, known: Whereabouts, key: Key) -> bool {
        let cells = self.read(shard_of(known.cell()));
        cells.cells.get(slot_of(known.cell())).is_some_and(|cell| cell.position(key, known.at()).is_some())
    }

    /// Takes a driver out of its cell.
    fn take(&self, table: &mut HashTable<Whereabouts>, key: Key, known: Whereabouts) -> Option<(Place, Record)> {
        let mut cells = self.write(shard_of(known.cell()));
        let cell = cells.cells.get_mut(slot_of(known.cell()))?;
        // Who is not here may look like one who is.
        let at = cell.position(key, known.at())?;
        if let Ok(entry) = table.find_entry(key.hash(), |other| *other == known) {
            entry.remove();
        }
        Some(cell.remove(at))
    }

    /// Puts a driver into a cell.
    fn put(&self, table: &mut HashTable<Whereabouts>, key: Key, index: CellIndex, driver: (Place, Record)) {
        let (place, record) = driver;
        let shard = shard_of_cell(index);
        let mut cells = self.write(shard);
        let number = match cells.numbers.get(&index) {
            Some(number) => *number,
            None => {
                let number = ((shard as u32) << SLOT_BITS) | cells.cells.len() as u32;
                let middle = middle_of(index).unwrap_or(place);
                let narrow = narrow_at(middle) as f32;
                let cell = Cell { middle, narrow, places: Vec::new(), drivers: Vec::new() };
                cells.cells.push(cell);
                cells.numbers.insert(index, number);
                number
            }
        };
        let cell = &mut cells.cells[slot_of(number)];
        let known = Whereabouts::new(key.print, number, cell.drivers.len());
        cell.push(place, record);
        drop(cells);
        table.insert_unique(key.hash(), known, |known| hash(known.print()));
    }
}

impl Record {
    fn id(&self) -> DriverId {
        DriverId::from(tessera_kernel::Uuid::from_u64_pair(self.driver[0], self.driver[1]))
    }

    /// When it was heard, by the clock here.
    fn heard(&self) -> u32 {
        self.at.saturating_add_signed(self.lag.into())
    }

    /// Whether it may be offered rides.
    fn is_free(&self, now: u32) -> bool {
        let silent = rules::is_silent(millis(self.heard(), now), i64::from(self.interval) * TICK_MS);
        self.duty == Duty::Free && !silent
    }
}

/// A driver's id, and where it is looked for.
#[derive(Clone, Copy)]
struct Key {
    id: [u64; 2],
    shard: usize,
    print: u32,
}

impl Key {
    fn of(driver: DriverId) -> Self {
        let (high, low) = driver.uuid().as_u64_pair();
        // Ids need not be random, so that their bits are mixed first.
        let mixed = (high ^ low.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self { id: [high, low], shard: (mixed >> 56) as usize % SHARDS, print: mixed as u32 & PRINT_BITS }
    }

    fn hash(self) -> u64 {
        hash(self.print)
    }
}

fn hash(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn shard_of_cell(index: CellIndex) -> usize {
    (u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % SHARDS
}

fn shard_of(number: u32) -> usize {
    (number >> SLOT_BITS) as usize
}

fn slot_of(number: u32) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}

fn record_mut(cells: &mut Cells, known: Whereabouts, key: Key) -> Option<&mut Record> {
    let cell = cells.cells.get_mut(slot_of(known.cell()))?;
    let at = cell.position(key, known.at())?;
    cell.drivers.get_mut(at)
}

/// A driver is elsewhere in its cell than was kept.
fn moved(table: &mut HashTable<Whereabouts>, key: Key, known: Whereabouts, at: usize) -> Whereabouts {
    let new = Whereabouts::new(key.print, known.cell(), at);
    if let Some(entry) = table.find_mut(key.hash(), |other| *other == known) {
        *entry = new;
    }
    new
}

fn ticks_of(interval: Duration) -> u16 {
    u16::try_from(interval.as_millis() as i64 / TICK_MS).unwrap_or(u16::MAX)
}

/// Milliseconds from one tick to another.
fn millis(from: u32, to: u32) -> i64 {
    (i64::from(to) - i64::from(from)) * TICK_MS
}

#[cfg(test)]
mod tests;
