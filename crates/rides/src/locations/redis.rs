//! Positions in Redis, for several processes.
//!
//! - A driver's record ([`super::record`]) is a field of one of [`PARTS`] hashes, `rides:{d<part>}`. It is the truth about a
//!   driver: it is changed by comparing it with what was read, so of two changes at once one is done again on top of the other.
//! - The free drivers of an area are a GEO set, `rides:{<area>}free`, and all drivers by the small cell that they are counted in
//!   a sorted set, `rides:{<cell's parent>}all`. Both are made from the records and may lag behind one: what is found in them is
//!   looked up, and what does not belong there is taken out by who finds it.
//! - `rides:areas` names the areas that had such sets at any time.
//! - `rides:{free}counted` is how many free drivers were counted in each area ([`super::counted`]), `rides:{free}counting` that
//!   somebody counts, or did a moment ago.
//!
//! The tag in braces makes each key a matter of one slot of a cluster. A batch of reports is two round trips, whatever its
//! size: records and counts are read, the rules ([`super::rules`]) are applied here, and everything is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use h3o::CellIndex;
use tessera_kernel::{Place, Timestamp};
use tessera_store::redis::{Cmd, FromRedisValue, Redis, Value, from_redis_value};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::cells::{cell_of, flat_m, middle_of, narrow_at};
use super::counted;
use super::gather::{Answers, Gather};
use super::keys::{
    AREAS, COUNTED, COUNTING, all, around, at_the_most, command, counted_in, free, id_of, key_of, latitude, out_of,
    part_of,
};
use super::record::{Record, interval_ms, millis};
use super::rules::{self, Step};
use super::search::{AREA_REACH_M, Search};
use super::{Duty, Entry, FREE_COUNTED, Located, Near, PARTS, Refusal, Report, blocking};
use crate::Error;
use crate::domain::area::area_of;
use crate::domain::bounds::Bounds;
use crate::domain::ids::DriverId;
use crate::domain::interval::Intervals;

/// How often a change is tried that others are faster than. Each time one of them was done, so it is rarely more than one.
const TRIES: usize = 8;
/// Drivers of an area that are looked at beyond those that are wanted, as some may not fit.
const BESIDES: usize = 16;
/// How often an area is looked at again for more, four times as many each time.
const DEEPER: usize = 8;
/// How far is looked first, metres; then four times as far each time.
const FIRST_RADIUS_M: f64 = 500.0;
/// For how long it is known here that an area is named in `rides:areas`.
const NAMED: Duration = Duration::from_secs(10);
/// How long a count of the free drivers may take before another process counts.
const COUNT_DEADLINE: Duration = Duration::from_secs(30);
/// How much sooner than [`FREE_COUNTED`] the next one counts, so that the one who did before does it again.
const COUNT_EARLY: Duration = Duration::from_millis(500);
/// How long a count is good for those who did not count.
const COUNT_KEPT: Duration = Duration::from_secs(60);
/// KEYS: a part. ARGV: driver, record as it was read, record to be; nothing stands for none. Gives 1 for each that was so, else 0.
const CHANGE: &str = "local done = {}
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if known ~= ARGV[i + 1] then done[#done + 1] = 0
  else
    if ARGV[i + 2] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
    done[#done + 1] = 1
  end
end
return done";

/// Positions in Redis.
pub struct RedisIndex {
    redis: Redis,
    intervals: Intervals,
    /// Areas that were named lately, and since when.
    named: Mutex<(Instant, HashSet<u64>)>,
    breaker: Breaker,
    gather: Gather,
}

/// What becomes of a record.
enum Next {
    Stays,
    Is(Record),
    Gone,
}

/// How many drivers are in a cell.
type Counts = HashMap<CellIndex, u32>;

/// A record that is not what it was.
struct Change {
    driver: DriverId,
    before: Option<Record>,
    after: Option<Record>,
    /// As it was read; empty for none.
    known: Vec<u8>,
}

impl std::fmt::Debug for RedisIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisIndex").field("redis", &self.redis).finish_non_exhaustive()
    }
}

impl RedisIndex {
    /// Positions behind a connection.
    pub(super) fn new(redis: Redis, intervals: Intervals) -> Self {
        Self {
            redis,
            intervals,
            named: Mutex::new((Instant::now(), HashSet::new())),
            breaker: Breaker::default(),
            gather: Gather::default(),
        }
    }

    /// Drivers come on duty. One who is already moves there whatever lies between, or where they `stay`, is left alone.
    pub(super) async fn enter(&self, entries: &[Entry], stay: bool) -> Result<(), Error> {
        let entry: HashMap<DriverId, &Entry> = entries.iter().map(|entry| (entry.driver, entry)).collect();
        let interval_ms = interval_ms(rules::first(&self.intervals));
        self.change(entry.keys().copied().collect(), &[], |driver, known, _| {
            let Some(entry) = entry.get(&driver).filter(|_| !stay || known.is_none()) else { return Next::Stays };
            let at_ms = millis(entry.at);
            Next::Is(Record {
                place: entry.place,
                heading: None,
                at_ms,
                standing_ms: at_ms,
                heard_ms: at_ms,
                interval_ms,
                duty: entry.duty,
                reported: false,
            })
        })
        .await
    }

    /// A free driver who was not heard since `before` has no position any more. Whether that is so.
    pub(super) async fn forget(&self, driver: DriverId, before: Timestamp) -> Result<bool, Error> {
        let mut lost = false;
        self.change(vec![driver], &[], |_, known, _| {
            lost = known.is_some_and(|known| known.duty == Duty::Free && known.heard_ms < millis(before));
            if lost { Next::Gone } else { Next::Stays }
        })
        .await?;
        Ok(lost)
    }

    pub(super) async fn leave(&self, driver: DriverId) -> Result<bool, Error> {
        let mut was_on = false;
        self.change(vec![driver], &[], |_, known, _| {
            was_on |= known.is_some();
            Next::Gone
        })
        .await?;
        Ok(was_on)
    }

    pub(super) async fn set_duty(&self, driver: DriverId, duty: Duty) -> Result<bool, Error> {
        let mut is_on = false;
        self.change(vec![driver], &[], |_, known, _| {
            is_on = known.is_some();
            known.filter(|known| known.duty != duty).map_or(Next::Stays, |known| Next::Is(Record { duty, ..*known }))
        })
        .await?;
        Ok(is_on)
    }

    pub(super) async fn report(self: &Arc<Self>, reports: &[Report], now: Timestamp) -> Result<Answers, Error> {
        let take = |reports: Vec<Report>| {
            let index = Arc::clone(self);
            async move { index.take(&reports, now).await }
        };
        self.gather.report(reports, take).await
    }

    /// Takes a batch of reports.
    async fn take(&self, reports: &[Report], now: Timestamp) -> Result<Answers, Error> {
        let mut answers: Vec<_> =
            reports.iter().map(|report| rules::timely(report.at, now).map(|()| Duration::ZERO)).collect();
        let mut of: HashMap<DriverId, Vec<usize>> = HashMap::new();
        let mut cells = HashSet::new();
        for (number, report) in reports.iter().enumerate().filter(|(number, _)| answers[*number].is_ok()) {
            of.entry(report.driver).or_default().push(number);
            cells.insert(cell_of(report.place));
        }
        let cells: Vec<CellIndex> = cells.into_iter().collect();
        self.change(of.keys().copied().collect(), &cells, |driver, known, counts| {
            let numbers = of.get(&driver).map(Vec::as_slice).unwrap_or_default();
            let mut record = known.copied();
            for number in numbers {
                answers[*number] = match &mut record {
                    None => Err(Refusal::OffDuty),
                    Some(record) => self.follow(record, &reports[*number], now, counts),
                };
            }
            match record {
                Some(record) if known != Some(&record) => Next::Is(record),
                _ => Next::Stays,
            }
        })
        .await?;
        Ok(answers)
    }

    /// Takes a report into a record.
    fn follow(
        &self,
        record: &mut Record,
        report: &Report,
        now: Timestamp,
        counts: &Counts,
    ) -> Result<Duration, Refusal> {
        let metres = flat_m(record.place, report.place, narrow_at(record.place));
        let (at_ms, stood_ms) = (millis(report.at), record.at_ms - record.standing_ms);
        let taken = rules::take(Step { metres, passed_ms: at_ms - record.at_ms, stood_ms, first: !record.reported })?;
        let home = cell_of(report.place);
        let there = counts.get(&home).copied().unwrap_or(0);
        // Who comes from elsewhere is not counted there yet.
        let neighbours = there + u32::from(home != cell_of(record.place));
        let interval = rules::next(&self.intervals, record.duty == Duty::Busy, neighbours, &taken);
        *record = Record {
            place: report.place,
            heading: report.heading.map(|heading| heading % 360),
            at_ms,
            standing_ms: if taken.moved { at_ms } else { record.standing_ms },
            heard_ms: millis(now),
            interval_ms: interval_ms(interval),
            duty: record.duty,
            reported: true,
        };
        Ok(interval)
    }

    pub(super) async fn get(&self, drivers: &[DriverId]) -> Result<Vec<Option<Located>>, Error> {
        let records = self.records(drivers.to_vec()).await?;
        Ok(drivers.iter().map(|driver| Some(records.get(driver)?.located(*driver))).collect())
    }

    pub(super) async fn nearest(
        &self,
        place: Place,
        most: usize,
        radius_m: f64,
        now: Timestamp,
        fits: impl Fn(DriverId) -> bool,
    ) -> Result<Vec<Near>, Error> {
        let mut search =
            Search { place, most, radius_m: radius_m.min(FIRST_RADIUS_M), now_ms: millis(now), near: Vec::new() };
        loop {
            self.look(&mut search, &fits).await?;
            if search.near.len() == most || search.radius_m >= radius_m {
                return Ok(search.near);
            }
            search.radius_m = radius_m.min(search.radius_m * 4.0);
            search.near.clear();
        }
    }

    /// Looks for drivers within the radius, and again for more where those that were found do not fit.
    async fn look(&self, search: &mut Search, fits: &impl Fn(DriverId) -> bool) -> Result<(), Error> {
        let (mut areas, mut count) = (search.areas(), search.most + BESIDES);
        for _ in 0..DEEPER {
            let ask = areas.iter().map(|area| around(*area, search.place, search.bound(), count)).collect();
            let found: Vec<Vec<(Vec<u8>, f64)>> = self.send(ask).await?;
            let members = areas
                .iter()
                .zip(&found)
                .flat_map(|(area, found)| found.iter().filter_map(|(member, _)| Some((*area, id_of(member)?))));
            let members: Vec<(u64, DriverId)> = members.collect();
            let records = self.records(members.iter().map(|(_, driver)| *driver).collect()).await?;
            let mut strangers = Vec::new();
            for (area, driver) in members {
                let belongs = |record: &&Record| record.duty == Duty::Free && area_of(record.place) == area;
                match records.get(&driver).filter(belongs) {
                    Some(record) => search.add(driver, record, fits),
                    None => strangers.push(out_of(free(area), driver)),
                }
            }
            self.send::<i64>(strangers).await?;
            // Where there may be more, and near enough to count.
            let bound = at_the_most(search.bound());
            let more =
                |found: &[(Vec<u8>, f64)]| found.len() == count && found.last().is_some_and(|(_, far)| *far <= bound);
            areas = areas.iter().zip(&found).filter(|(_, found)| more(found)).map(|(area, _)| *area).collect();
            if areas.is_empty() {
                break;
            }
            count *= 4;
        }
        Ok(())
    }

    /// By the records, not by the sets of areas: in those are also the silent, and some whom nobody has taken out yet.
    pub(super) async fn free_by_area(&self, now: Timestamp) -> Result<HashMap<u64, u32>, Error> {
        let now_ms = millis(now);
        let mut free = HashMap::new();
        // One at a time, so that others are answered between them.
        for part in 0..PARTS {
            let records: Vec<Vec<Vec<u8>>> = self.send(vec![command("HVALS", &key_of(part))]).await?;
            free = blocking(move || {
                let records = records.iter().flatten().filter_map(|record| Record::read(record));
                for record in records.filter(|record| record.is_free(now_ms)) {
                    *free.entry(area_of(record.place)).or_default() += 1;
                }
                free
            })
            .await?;
        }
        Ok(free)
    }

    /// Whoever finds that nobody has counted lately does, and leaves it to the others.
    pub(super) async fn free_lately(&self, now: Timestamp) -> Result<Option<HashMap<u64, u32>>, Error> {
        let mut begin = command("SET", COUNTING);
        begin.arg(1).arg("NX").arg("PX").arg(COUNT_DEADLINE.as_millis() as u64);
        let answers: Vec<Value> = self.send(vec![begin, command("GET", COUNTED)]).await?;
        let mut answers = answers.into_iter();
        let (begun, known) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
        if begun == Value::Nil {
            let known: Option<Vec<u8>> = parsed(known)?;
            return Ok(known.and_then(|known| counted::read(&known)));
        }
        let free = self.free_by_area(now).await?;
        let mut leave = command("SET", COUNTED);
        leave.arg(counted::write(&free).as_slice()).arg("PX").arg(COUNT_KEPT.as_millis() as u64);
        let mut again = command("PEXPIRE", COUNTING);
        again.arg((FREE_COUNTED - COUNT_EARLY).as_millis() as u64);
        self.send::<Value>(vec![leave, again]).await?;
        Ok(Some(free))
    }

    pub(super) async fn within(&self, bounds: &Bounds, most: usize) -> Result<Vec<Located>, Error> {
        let mut areas = self.areas().await?;
        areas.retain(|area| {
            // Drivers are counted by cells whose corners stand out of the area a little.
            let middle = CellIndex::try_from(*area).ok().and_then(middle_of);
            middle.is_some_and(|middle| bounds.distance_m(middle) <= AREA_REACH_M * 1.5)
        });
        let mut inside = Vec::new();
        for areas in areas.chunks(32) {
            let ask = |area: &u64| {
                let mut ask = command("ZRANGE", &all(*area));
                ask.arg(0).arg(-1);
                ask
            };
            let members: Vec<Vec<Vec<u8>>> = self.send(areas.iter().map(ask).collect()).await?;
            let members = areas
                .iter()
                .zip(&members)
                .flat_map(|(area, members)| members.iter().filter_map(|member| Some((*area, id_of(member)?))));
            let members: Vec<(u64, DriverId)> = members.collect();
            let records = self.records(members.iter().map(|(_, driver)| *driver).collect()).await?;
            let mut strangers = Vec::new();
            for (area, driver) in members {
                match records.get(&driver).filter(|record| counted_in(cell_of(record.place)).0 == area) {
                    Some(record) if bounds.contains(record.place) && inside.len() < most => {
                        inside.push(record.located(driver));
                    }
                    Some(_) => {}
                    None => strangers.push(out_of(all(area), driver)),
                }
            }
            self.send::<i64>(strangers).await?;
            if inside.len() == most {
                break;
            }
        }
        Ok(inside)
    }

    pub(super) async fn part(&self, part: usize) -> Result<Vec<Located>, Error> {
        let ask = command("HGETALL", &key_of(part % PARTS));
        let fields: Vec<HashMap<Vec<u8>, Vec<u8>>> = self.send(vec![ask]).await?;
        let located = |(member, record): (Vec<u8>, Vec<u8>)| Some(Record::read(&record)?.located(id_of(&member)?));
        Ok(fields.into_iter().flatten().filter_map(located).collect())
    }

    pub(super) async fn len(&self) -> Result<usize, Error> {
        let counts: Vec<usize> = self.send((0..PARTS).map(|part| command("HLEN", &key_of(part))).collect()).await?;
        Ok(counts.into_iter().sum())
    }

    async fn areas(&self) -> Result<Vec<u64>, Error> {
        let areas: Vec<Vec<u64>> = self.send(vec![command("SMEMBERS", AREAS)]).await?;
        let mut areas: Vec<u64> = areas.into_iter().flatten().collect();
        areas.sort_unstable();
        Ok(areas)
    }

    /// The records of these drivers; who has none is left out.
    async fn records(&self, drivers: Vec<DriverId>) -> Result<HashMap<DriverId, Record>, Error> {
        let (known, _) = self.read(&drivers, &[]).await?;
        let read = |(driver, bytes): (DriverId, Vec<u8>)| Some((driver, Record::read(&bytes)?));
        Ok(known.into_iter().filter_map(read).collect())
    }

    /// Records as they are kept, and how many drivers are in each of these cells.
    async fn read(
        &self,
        drivers: &[DriverId],
        cells: &[CellIndex],
    ) -> Result<(HashMap<DriverId, Vec<u8>>, Counts), Error> {
        let mut parts: BTreeMap<usize, Vec<DriverId>> = BTreeMap::new();
        for driver in drivers {
            parts.entry(part_of(*driver)).or_default().push(*driver);
        }
        let records = parts.iter().map(|(part, drivers)| {
            let mut ask = command("HMGET", &key_of(*part));
            drivers.iter().for_each(|driver| {
                ask.arg(driver.uuid().as_bytes());
            });
            ask
        });
        let counts = cells.iter().map(|cell| {
            let (area, number) = counted_in(*cell);
            let mut ask = command("ZCOUNT", &all(area));
            ask.arg(number).arg(number);
            ask
        });
        let mut answers = self.send::<Value>(records.chain(counts).collect()).await?.into_iter();
        let mut known = HashMap::with_capacity(drivers.len());
        for (drivers, answer) in parts.values().zip(answers.by_ref()) {
            let values: Vec<Option<Vec<u8>>> = parsed(answer)?;
            known.extend(drivers.iter().zip(values).filter_map(|(driver, value)| Some((*driver, value?))));
        }
        let counts: Result<Counts, Error> =
            cells.iter().zip(answers).map(|(cell, answer)| Ok((*cell, parsed(answer)?))).collect();
        Ok((known, counts?))
    }

    /// Changes records: `decide` is told what is known of a driver and how many are in each of `cells`, and is asked again where
    /// somebody else was faster.
    async fn change(
        &self,
        mut drivers: Vec<DriverId>,
        cells: &[CellIndex],
        mut decide: impl FnMut(DriverId, Option<&Record>, &Counts) -> Next,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            if drivers.is_empty() {
                return Ok(());
            }
            let (mut known, counts) = self.read(&drivers, cells).await?;
            let mut changes = Vec::with_capacity(drivers.len());
            for driver in drivers {
                let known = known.remove(&driver).unwrap_or_default();
                let before = Record::read(&known);
                let after = match decide(driver, before.as_ref(), &counts) {
                    Next::Stays => continue,
                    Next::Is(record) => Some(record),
                    Next::Gone => None,
                };
                changes.push(Change { driver, before, after, known });
            }
            drivers = self.write(changes).await?;
        }
        let reason = format!("{} changed again and again while they were being written", drivers.len());
        if drivers.is_empty() { Ok(()) } else { Err(Error::Locations { reason }) }
    }

    /// Writes changes, and gives the drivers whose records were not what they had been.
    async fn write(&self, changes: Vec<Change>) -> Result<Vec<DriverId>, Error> {
        let mut parts: BTreeMap<usize, Vec<&Change>> = BTreeMap::new();
        for change in &changes {
            parts.entry(part_of(change.driver)).or_default().push(change);
        }
        let mut commands: Vec<Cmd> = Vec::with_capacity(parts.len() * 2);
        for (part, changes) in &parts {
            let mut ask = Cmd::new();
            ask.arg("EVAL").arg(CHANGE).arg(1).arg(key_of(*part));
            for change in changes {
                ask.arg(change.driver.uuid().as_bytes()).arg(change.known.as_slice());
                match &change.after {
                    Some(record) => ask.arg(record.write().as_slice()),
                    None => ask.arg(""),
                };
            }
            commands.push(ask);
        }
        self.file(&changes, &mut commands);
        let answers: Vec<Value> = self.send(commands).await?;
        let mut lost = Vec::new();
        for (changes, answer) in parts.values().zip(answers) {
            let done: Vec<i64> = parsed(answer)?;
            let failed = changes.iter().zip(done).filter(|(_, done)| *done == 0);
            lost.extend(failed.map(|(change, _)| change.driver));
        }
        Ok(lost)
    }

    /// Puts changed drivers into the sets where they belong, and takes them out of others.
    fn file(&self, changes: &[Change], commands: &mut Vec<Cmd>) {
        let mut geo: BTreeMap<u64, Cmd> = BTreeMap::new();
        let mut counted: BTreeMap<u64, Cmd> = BTreeMap::new();
        let mut gone: BTreeMap<String, Cmd> = BTreeMap::new();
        for Change { driver, before, after, .. } in changes {
            let member = driver.uuid();
            let filed = |record: &Record| {
                let (area, _) = counted_in(cell_of(record.place));
                (area, (record.duty == Duty::Free).then(|| area_of(record.place)))
            };
            let (before, filed_after) = (before.as_ref().map(filed), after.as_ref().map(filed));
            let mut remove = |key: String| {
                let ask = gone.entry(key).or_insert_with_key(|key| command("ZREM", key));
                ask.arg(member.as_bytes());
            };
            if let Some((area, free_in)) = before {
                if filed_after.is_none_or(|(after, _)| after != area) {
                    remove(all(area));
                }
                if let Some(area) = free_in.filter(|_| filed_after.is_none_or(|(_, after)| after != free_in)) {
                    remove(free(area));
                }
            }
            if let (Some(record), Some((area, free_in))) = (after, filed_after) {
                let (_, number) = counted_in(cell_of(record.place));
                let ask = counted.entry(area).or_insert_with(|| command("ZADD", &all(area)));
                ask.arg(number).arg(member.as_bytes());
                if let Some(area) = free_in {
                    let ask = geo.entry(area).or_insert_with(|| command("GEOADD", &free(area)));
                    ask.arg(record.place.lng()).arg(latitude(record.place)).arg(member.as_bytes());
                }
            }
        }
        let new = self.unnamed(counted.keys().chain(geo.keys()).copied());
        if !new.is_empty() {
            let mut ask = command("SADD", AREAS);
            ask.arg(new);
            commands.push(ask);
        }
        commands.extend(gone.into_values().chain(counted.into_values()).chain(geo.into_values()));
    }

    /// Which of these areas were not named lately.
    fn unnamed(&self, areas: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, known) = &mut *named;
        if since.elapsed() > NAMED {
            *since = Instant::now();
            known.clear();
        }
        areas.filter(|area| known.insert(*area)).collect()
    }

    /// Sends commands. Where Redis did not answer a moment ago only one caller at a time tries, so that not everybody waits for
    /// the end of its patience.
    async fn send<T: FromRedisValue>(&self, commands: Vec<Cmd>) -> Result<Vec<T>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let trying = self.breaker.begin()?;
        let sent = self.redis.send(commands).await;
        trying.end(sent.is_ok());
        sent.map_err(|error| Error::Locations { reason: error.to_string() })
    }
}

fn parsed<T: FromRedisValue>(answer: Value) -> Result<T, Error> {
    from_redis_value(answer).map_err(|error| Error::Locations { reason: error.to_string() })
}
