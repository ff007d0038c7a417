//! The index in memory: drivers by squares of 430 m ([`grid`]), all with the records that are kept of them.
//!
//! A record stays where it is while its driver is on duty ([`shard`]); the square a driver is in has only its number ([`tile`]). So a report
//! within a square writes three words, and who looks for the nearest waits for nobody but those who just leave a square. A batch
//! first touches all the memory that it needs, without locks, so that the processor waits for many places at a time instead of one
//! after the other: that is most of what a report costs (docs/adr/0011).
//!
//! Locks are taken in one order: the frame's, a driver's shard's, a tile's, never two of one kind at once. The frame is all that grows;
//! whoever reads or changes drivers shares it, and it is taken alone for new room only.

mod grid;
mod nearest;
mod shard;
mod tile;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tessera_kernel::Timestamp;

use self::grid::{Grid, Spot};
use self::shard::{Home, Key, LONGEST, NUMBER_BITS, Own, Record, Said, Shard, Slot};
use self::tile::Tile;
use super::cells::flat_m;
use super::rules::{self, Step};
use super::{Duty, Entry, Located, PARTS, Refusal, Report};
use crate::domain::area::area_of;
use crate::domain::bounds::Bounds;
use crate::domain::ids::DriverId;
use crate::domain::interval::Intervals;

/// Shards of drivers; a power of two.
const SHARDS: usize = 256;
/// Milliseconds in a tick, the unit of stored times: 32 bits of them are 6.8 years.
const TICK_MS: i64 = 50;
/// Reports of which the memory is touched at once: what the nearest cache has room for.
const AHEAD: usize = 128;

/// Drivers and where they are; shared by reference among all threads.
pub struct Index {
    frame: RwLock<Frame>,
    grid: Grid,
    intervals: Intervals,
    /// The unit of intervals in records, seconds.
    unit_s: u32,
    /// When time begins for it.
    epoch: Timestamp,
}

/// What grows.
struct Frame {
    shards: Vec<Shard>,
    #[expect(clippy::vec_box, reason = "a list that grows is copied: of the pointers that is little")]
    tiles: Vec<Box<Tile>>,
    /// Where in that a tile of the earth is.
    numbers: HashMap<u32, u32, ahash::RandomState>,
}

/// What there is no room for yet.
enum Missing {
    Tile(Spot),
    Driver(Key),
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("intervals", &self.intervals).finish_non_exhaustive()
    }
}

impl Index {
    /// An empty one.
    pub fn new(intervals: Intervals, now: Timestamp) -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        let longest_s = [intervals.dense_s, intervals.sparse_s, intervals.trip_s, intervals.longest_s];
        Self {
            frame: RwLock::new(Frame { shards, tiles: Vec::new(), numbers: HashMap::default() }),
            grid: Grid::new(),
            unit_s: longest_s.into_iter().max().unwrap_or(1).div_ceil(LONGEST).max(1),
            intervals,
            // Room for what was taken shortly before.
            epoch: Timestamp::from_micros(now.micros() - 3_600_000_000),
        }
    }

    /// A driver comes on duty. One who is already moves there whatever lies between, or where it `stays`, is left alone.
    pub fn enter(&self, entry: &Entry, stays: bool) {
        let mut frame = self.read();
        while let Err(missing) = self.try_enter(&frame, entry, stays) {
            drop(frame);
            if !self.make_room(missing) {
                // A quarter of a billion are there: this one has no position.
                return;
            }
            frame = self.read();
        }
    }

    fn try_enter(&self, frame: &Frame, entry: &Entry, stays: bool) -> Result<(), Missing> {
        let Entry { driver, place, duty, at } = *entry;
        let (key, spot, at) = (Key::of(driver), self.grid.spot(place), self.ticks(at));
        let shard = frame.shard(key);
        let mut own = shard.lock();
        let known = shard.find(key);
        if known.is_some() && stays {
            return Ok(());
        }
        let tile = frame.number(spot)?;
        if known.is_none() && !shard.has_room(&own) {
            return Err(Missing::Driver(key));
        }
        frame.remove(&mut own, key);
        let home = Home::new(tile, spot.square);
        let record = Record {
            place,
            at,
            standing: at,
            heading: None,
            interval: self.units(rules::first(&self.intervals)),
            heard: at,
            duty,
            reported: false,
            home,
        };
        if let Some(number) = shard.insert(&mut own, key, &record) {
            frame.tiles[tile].add(spot.square, member(key, number));
        }
        Ok(())
    }

    /// A driver goes off duty. Whether it was on.
    pub fn leave(&self, driver: DriverId) -> bool {
        let (key, frame) = (Key::of(driver), self.read());
        frame.remove(&mut frame.shard(key).lock(), key)
    }

    /// A free driver who was not heard since `before` has no position any more. Whether that is so.
    pub(super) fn forget(&self, driver: DriverId, before: Timestamp) -> bool {
        let (key, frame) = (Key::of(driver), self.read());
        let shard = frame.shard(key);
        let mut own = shard.lock();
        let before = self.ticks(before);
        let said = shard.find(key).map(|number| shard.slot(number).said());
        let is_lost = said.is_some_and(|said| said.duty() == Duty::Free && said.heard() < before);
        is_lost && frame.remove(&mut own, key)
    }

    /// A driver gets busy or free. Whether it is on duty.
    pub fn set_duty(&self, driver: DriverId, duty: Duty) -> bool {
        let (key, frame) = (Key::of(driver), self.read());
        let shard = frame.shard(key);
        let _own = shard.lock();
        let slot = shard.find(key).map(|number| shard.slot(number));
        let known = slot.and_then(|slot| Some((slot, slot.read()?)));
        known.map(|(slot, record)| slot.write(&Record { duty, ..record })).is_some()
    }

    /// Takes a report. Gives when the next is due.
    ///
    /// # Errors
    /// Why it changed nothing.
    pub fn report(&self, report: &Report, now: Timestamp) -> Result<Duration, Refusal> {
        self.report_all(std::slice::from_ref(report), now).pop().unwrap_or(Err(Refusal::OffDuty))
    }

    /// Takes reports in their order, each on its own: when the next one is due, or why it changed nothing.
    pub fn report_all(&self, reports: &[Report], now: Timestamp) -> Vec<Result<Duration, Refusal>> {
        let mut answers = Vec::with_capacity(reports.len());
        for reports in reports.chunks(AHEAD) {
            let mut frame = self.read();
            if reports.len() > 1 {
                frame.touch(reports);
            }
            for report in reports {
                let answer = loop {
                    match self.take(&frame, report, now) {
                        Ok(answer) => break answer,
                        Err(missing) => {
                            drop(frame);
                            self.make_room(missing);
                            frame = self.read();
                        }
                    }
                };
                answers.push(answer);
            }
        }
        answers
    }

    fn take(&self, frame: &Frame, report: &Report, now: Timestamp) -> Result<Result<Duration, Refusal>, Missing> {
        if let Err(refusal) = rules::timely(report.at, now) {
            return Ok(Err(refusal));
        }
        let key = Key::of(report.driver);
        let shard = frame.shard(key);
        let _own = shard.lock();
        let known = shard.find(key).and_then(|number| Some((number, shard.slot(number).read()?)));
        let Some((number, known)) = known else { return Ok(Err(Refusal::OffDuty)) };
        let spot = self.grid.spot(report.place);
        let at = self.ticks(report.at);
        let step = Step {
            metres: flat_m(known.place, report.place, self.grid.narrow(spot.row)),
            passed_ms: millis(known.at, at),
            stood_ms: millis(known.standing, known.at),
            first: !known.reported,
        };
        let taken = match rules::take(step) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let home = frame.moved(key, number, known.home, spot)?;
        // Who lives there counts.
        let neighbours = frame.tiles[home.tile()].neighbours(home.square());
        let interval = rules::next(&self.intervals, known.duty == Duty::Busy, neighbours, &taken);
        shard.slot(number).write(&Record {
            place: report.place,
            at,
            standing: if taken.moved { at } else { known.standing },
            heading: report.heading.map(|heading| heading % 360),
            interval: self.units(interval),
            heard: self.ticks(now),
            duty: known.duty,
            reported: true,
            home,
        });
        Ok(Ok(interval))
    }

    /// What is known of a driver; `None` off duty.
    pub fn get(&self, driver: DriverId) -> Option<Located> {
        let (key, frame) = (Key::of(driver), self.read());
        let shard = frame.shard(key);
        let _own = shard.lock();
        self.located(shard.slot(shard.find(key)?))
    }

    /// The drivers of one of [`PARTS`] parts.
    pub(super) fn part(&self, part: usize) -> Vec<Located> {
        let mut all = Vec::new();
        for shard in (part % PARTS..SHARDS).step_by(PARTS) {
            self.each(shard, |slot| all.extend(self.located(slot)));
        }
        all
    }

    /// At most `most` drivers within bounds.
    pub(super) fn within(&self, bounds: &Bounds, most: usize) -> Vec<Located> {
        let mut inside = Vec::new();
        for shard in 0..SHARDS {
            if inside.len() >= most {
                break;
            }
            self.each(shard, |slot| {
                inside.extend(self.located(slot).filter(|located| bounds.contains(located.place)));
            });
        }
        inside.truncate(most);
        inside
    }

    /// How many free drivers who are not silent are in each area.
    pub(super) fn free_by_area(&self, now: Timestamp) -> HashMap<u64, u32> {
        let now = self.ticks(now);
        let mut free = HashMap::new();
        for shard in 0..SHARDS {
            let mut places = Vec::new();
            self.each(shard, |slot| {
                if self.is_free(slot.said(), now) {
                    places.extend(slot.read().map(|record| record.place));
                }
            });
            // Nobody waits for that.
            for place in places {
                *free.entry(area_of(place)).or_default() += 1;
            }
        }
        free
    }

    /// Each driver of a shard.
    fn each(&self, shard: usize, mut one: impl FnMut(&Slot)) {
        let frame = self.read();
        let shard = &frame.shards[shard];
        let _own = shard.lock();
        shard.slots().filter(|slot| slot.home().is_some()).for_each(&mut one);
    }

    /// How many drivers are on duty.
    pub fn len(&self) -> usize {
        self.read().shards.iter().map(Shard::len).sum()
    }

    /// Whether nobody is on duty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn located(&self, slot: &Slot) -> Option<Located> {
        let Record { place, heading, at, heard, duty, .. } = slot.read()?;
        Some(Located { driver: slot.driver(), place, heading, at: self.time(at), heard: self.time(heard), duty })
    }

    /// Whether a driver may be offered rides.
    fn is_free(&self, said: Said, now: u32) -> bool {
        let interval_ms = i64::from(said.interval()) * i64::from(self.unit_s) * 1_000;
        said.duty() == Duty::Free && !rules::is_silent(millis(said.heard(), now), interval_ms)
    }

    fn time(&self, ticks: u32) -> Timestamp {
        Timestamp::from_micros(self.epoch.micros() + i64::from(ticks) * TICK_MS * 1_000)
    }

    fn ticks(&self, at: Timestamp) -> u32 {
        let ticks = (at.micros() - self.epoch.micros()) / (TICK_MS * 1_000);
        u32::try_from(ticks.max(0)).unwrap_or(u32::MAX)
    }

    /// An interval as records have it.
    fn units(&self, interval: Duration) -> u32 {
        (interval.as_secs() as u32).div_ceil(self.unit_s)
    }

    fn read(&self) -> RwLockReadGuard<'_, Frame> {
        self.frame.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room now.
    fn make_room(&self, missing: Missing) -> bool {
        let mut frame = self.frame.write().unwrap_or_else(PoisonError::into_inner);
        match missing {
            Missing::Driver(key) => frame.shards[key.shard(SHARDS)].grow(),
            Missing::Tile(spot) => {
                let Frame { tiles, numbers, .. } = &mut *frame;
                numbers.entry(spot.tile).or_insert_with(|| {
                    tiles.push(Box::new(Tile::new(spot.tile, spot.row)));
                    tiles.len() as u32 - 1
                });
                true
            }
        }
    }
}

impl Frame {
    fn shard(&self, key: Key) -> &Shard {
        &self.shards[key.shard(SHARDS)]
    }

    /// The record of one who is in a square.
    fn slot(&self, member: u32) -> &Slot {
        self.shards[(member >> NUMBER_BITS) as usize % SHARDS].slot(member & ((1 << NUMBER_BITS) - 1))
    }

    fn tile(&self, tile: u32) -> Option<&Tile> {
        self.numbers.get(&tile).map(|number| &*self.tiles[*number as usize])
    }

    fn number(&self, spot: Spot) -> Result<usize, Missing> {
        self.numbers.get(&spot.tile).map(|number| *number as usize).ok_or(Missing::Tile(spot))
    }

    /// Reads a word of each line of memory that reports need, and takes no lock, so that none waits for the one before.
    fn touch(&self, reports: &[Report]) {
        let keys = || reports.iter().map(|report| Key::of(report.driver));
        keys().for_each(|key| self.shard(key).fetch(key));
        let mut slots: [Option<&Slot>; AHEAD] = [None; AHEAD];
        slots.iter_mut().zip(keys()).for_each(|(slot, key)| *slot = self.shard(key).guess(key));
        let homes = slots.map(|slot| slot.and_then(Slot::fetch));
        let tiles = homes.iter().flatten().filter_map(|home| Some((self.tiles.get(home.tile())?, home.square())));
        tiles.for_each(|(tile, square)| tile.fetch(square));
    }

    /// Where a driver lives who is in a square now, with the lock of its shard.
    fn moved(&self, key: Key, number: u32, known: Home, spot: Spot) -> Result<Home, Missing> {
        let tile = &self.tiles[known.tile()];
        if tile.number == spot.tile {
            if known.square() != spot.square {
                tile.shift(known.square(), spot.square, member(key, number));
            }
            return Ok(Home::new(known.tile(), spot.square));
        }
        let next = self.number(spot)?;
        tile.remove(known.square(), member(key, number));
        self.tiles[next].add(spot.square, member(key, number));
        Ok(Home::new(next, spot.square))
    }

    /// Takes a driver out, with the lock of its shard. Whether it was there.
    fn remove(&self, own: &mut Own, key: Key) -> bool {
        let shard = self.shard(key);
        let known = shard.find(key).and_then(|number| Some((number, shard.slot(number).home()?)));
        let Some((number, home)) = known else { return false };
        // First of the square: who is there is on duty.
        self.tiles[home.tile()].remove(home.square(), member(key, number));
        shard.remove(own, key);
        true
    }
}

/// A driver as squares know it: its shard, and the number of its record there.
fn member(key: Key, number: u32) -> u32 {
    (key.shard(SHARDS) as u32) << NUMBER_BITS | number
}

/// Milliseconds from one tick to another.
fn millis(from: u32, to: u32) -> i64 {
    (i64::from(to) - i64::from(from)) * TICK_MS
}

#[cfg(test)]
mod tests;
