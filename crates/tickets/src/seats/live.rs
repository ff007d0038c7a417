//! The events that this process has in memory, and those who watch them.
//!
//! Committed changes come in two ways: from this process's own writes as they are answered, and from the feed in the
//! database, which others write too. Both carry the sequence of the event's feed; one that is not the next waits for the
//! feed to be read. What watchers get is merged and rendered once a pulse for each part of them, however many they are:
//! in parts, so that a crowd of watchers is not woken all at once, with everything else waiting behind them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, Timestamp};
use tokio::sync::{OnceCell, broadcast};

use super::delta::{Change, ChangeTo};
use super::states::{SeatState, States};
use crate::Error;
use crate::domain::event::Event;
use crate::domain::ids::{EventId, SeatNumber};
use crate::domain::inventory::Inventory;
use crate::domain::plan::SeatPlan;
use crate::store::Store;

/// Parts of an event's watchers.
pub const PARTS: usize = 4;
/// Pulses that a slow watcher may be behind before it is told to start over.
const PULSES_KEPT: usize = 64;
/// Events in memory; the one not asked for the longest makes room. A stadium takes about 3 MB.
const MAX_EVENTS: usize = 256;
/// How long lapsed holds are told to those who begin to watch: a lapse is in no feed, and it may have come between the
/// picture of all seats that they have and their first change.
const LAPSES_KEPT: Duration = Duration::from_secs(10);
/// Feed rows read at a time.
const FEED_ROWS: i64 = 1_000;

/// What is sent to watchers: all changes since the pulse before, rendered once for all of them.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Up to which change of the feed.
    pub seq: i64,
    /// `{"seq":…,"free":[…],"held":[[number,until_ms],…],"booked":[…]}`
    pub json: Utf8Bytes,
    /// The same as a server-sent event.
    pub sse: Bytes,
}

impl Tick {
    /// Renders changes.
    pub fn new(seq: i64, changes: &BTreeMap<SeatNumber, ChangeTo>) -> Self {
        let json = render(seq, changes);
        let sse = format!("id: {seq}\nevent: seats\ndata: {json}\n\n").into();
        Self { seq, json: json.into(), sse }
    }
}

/// The events in memory. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    store: Store,
    clock: Arc<dyn Clock>,
    events: Mutex<Events>,
}

#[derive(Default)]
struct Events {
    asked: u64,
    by_id: HashMap<EventId, Entry>,
}

struct Entry {
    asked: u64,
    cell: Arc<OnceCell<Arc<LiveEvent>>>,
}

/// One event in memory.
pub struct LiveEvent {
    id: EventId,
    inner: Mutex<Inner>,
    /// To each part of the watchers.
    ticks: [broadcast::Sender<Tick>; PARTS],
    /// Into which part the next watcher goes.
    next: AtomicUsize,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    plan_page: tokio::sync::Mutex<Option<(i64, Bytes)>>,
}

/// How all seats stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Up to which change of the feed.
    pub seq: i64,
    /// As sent; see [`super::delta`].
    pub bytes: Bytes,
    /// A digest of them.
    pub digest: [u8; 12],
    settled: Option<u64>,
}

struct Inner {
    event: Arc<Event>,
    plan: Option<Arc<SeatPlan>>,
    states: States,
    /// Changes that came before their turn.
    early: BTreeMap<i64, Arc<[Change]>>,
    fresh: Fresh,
    /// Holds that lapsed a little while ago.
    lapsed: VecDeque<(Timestamp, SeatNumber)>,
}

/// Changes that not all parts of the watchers were sent.
#[derive(Debug, Default)]
struct Fresh {
    changes: VecDeque<(SeatNumber, ChangeTo)>,
    /// How many there were before these.
    before: usize,
    /// How many each part was sent, from the first on.
    sent: [usize; PARTS],
}

impl Fresh {
    fn push(&mut self, seat: SeatNumber, to: ChangeTo) {
        self.changes.push_back((seat, to));
    }

    /// What a part is to be sent now: of each seat the last change.
    fn take(&mut self, part: usize) -> BTreeMap<SeatNumber, ChangeTo> {
        let all = self.before + self.changes.len();
        let Some(sent) = self.sent.get_mut(part) else { return BTreeMap::new() };
        let fresh = self.changes.iter().skip(*sent - self.before).copied().collect();
        *sent = all;
        let sent_to_all = self.sent.iter().copied().min().unwrap_or(all);
        self.changes.drain(..sent_to_all - self.before);
        self.before = sent_to_all;
        fresh
    }

    /// A part has nobody in it.
    fn skip(&mut self, part: usize) {
        self.take(part);
    }
}

impl Live {
    /// None yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { store, clock, events: Mutex::default() }))
    }

    /// An event, read from the database where it is not in memory; however many ask at once, it is read once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn event(&self, id: EventId) -> Result<Arc<LiveEvent>, Error> {
        let cell = self.entry(id);
        let loaded = cell.get_or_try_init(|| async { Ok::<_, Error>(Arc::new(self.load(id).await?)) }).await;
        if loaded.is_err() {
            let mut events = self.events();
            // Who waits for it tries again: what he gets must be the one that is kept.
            let is_last = |entry: &Entry| Arc::ptr_eq(&entry.cell, &cell) && Arc::strong_count(&cell) == 2;
            if events.by_id.get(&id).is_some_and(is_last) {
                events.by_id.remove(&id);
            }
        }
        loaded.cloned()
    }

    fn entry(&self, id: EventId) -> Arc<OnceCell<Arc<LiveEvent>>> {
        let mut events = self.events();
        events.asked += 1;
        let asked = events.asked;
        if events.by_id.len() >= MAX_EVENTS && !events.by_id.contains_key(&id) {
            // Those that somebody watches stay.
            let watched = |entry: &Entry| entry.cell.get().is_some_and(|event| event.is_watched());
            let idle = events.by_id.iter().filter(|(_, entry)| !watched(entry)).min_by_key(|(_, entry)| entry.asked);
            if let Some(oldest) = idle.map(|(id, _)| *id) {
                events.by_id.remove(&oldest);
            }
        }
        let entry = events.by_id.entry(id).or_insert_with(|| Entry { asked, cell: Arc::default() });
        entry.asked = asked;
        Arc::clone(&entry.cell)
    }

    async fn load(&self, id: EventId) -> Result<LiveEvent, Error> {
        let inner = self.read(id).await?;
        let ticks = std::array::from_fn(|_| broadcast::channel(PULSES_KEPT).0);
        let next = AtomicUsize::new(0);
        Ok(LiveEvent {
            id,
            inner: Mutex::new(inner),
            ticks,
            next,
            snapshot: Mutex::default(),
            plan_page: tokio::sync::Mutex::default(),
        })
    }

    async fn read(&self, id: EventId) -> Result<Inner, Error> {
        let store = &self.0.store;
        let event = store.event(id).await?;
        let plan = match event.plan {
            Some(plan) => Some(store.plan(plan).await?),
            None => None,
        };
        let inventory = Arc::new(Inventory::new(plan.as_deref(), &event.details)?);
        let mut states = States::new(inventory);
        let (seq, changes) = store.seats_of(id).await?;
        states.apply(&changes);
        states.set_seq(seq);
        let (early, fresh, lapsed) = (BTreeMap::new(), Fresh::default(), VecDeque::new());
        Ok(Inner { event: Arc::new(event), plan, states, early, fresh, lapsed })
    }

    /// Takes in changes that were committed under this sequence, unless the event is not in memory.
    pub fn committed(&self, id: EventId, seq: i64, changes: &Arc<[Change]>) {
        if let Some(event) = self.in_memory(id) {
            event.take(seq, changes);
        }
    }

    fn in_memory(&self, id: EventId) -> Option<Arc<LiveEvent>> {
        self.events().by_id.get(&id)?.cell.get().cloned()
    }

    /// Every event in memory.
    pub fn loaded(&self) -> Vec<Arc<LiveEvent>> {
        self.events().by_id.values().filter_map(|entry| entry.cell.get().cloned()).collect()
    }

    /// Reads what others committed, and events that were changed. One that cannot be read holds up no others.
    ///
    /// # Errors
    /// Those of the database; [`Error::Corrupt`].
    pub async fn follow(&self) -> Result<(), Error> {
        let loaded = self.loaded();
        self.bring_up(&loaded.iter().map(|event| &**event).collect::<Vec<_>>()).await
    }

    /// The same for one event.
    ///
    /// # Errors
    /// Those of [`Live::follow`].
    pub async fn follow_event(&self, event: &LiveEvent) -> Result<(), Error> {
        self.bring_up(&[event]).await
    }

    async fn bring_up(&self, events: &[&LiveEvent]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
        let heads = self.0.store.heads(&ids).await?;
        let mut failed = Ok(());
        for event in events {
            let read = match heads.get(&event.id) {
                // It was deleted.
                None => {
                    self.events().by_id.remove(&event.id);
                    Ok(())
                }
                Some(head) if head.version != event.event().version => self.reload(event).await,
                Some(head) if head.seq > event.seq() => self.catch_up(event).await,
                Some(_) => Ok(()),
            };
            failed = failed.and(read);
        }
        failed
    }

    /// Reads an event anew after it was changed, if it is in memory.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh(&self, id: EventId) -> Result<(), Error> {
        match self.in_memory(id) {
            Some(event) => self.reload(&event).await,
            None => Ok(()),
        }
    }

    async fn reload(&self, event: &LiveEvent) -> Result<(), Error> {
        let mut read = self.read(event.id).await?;
        let mut inner = event.inner();
        read.states.replace(&inner.states);
        let (early, fresh) = (std::mem::take(&mut inner.early), std::mem::take(&mut inner.fresh));
        let lapsed = std::mem::take(&mut inner.lapsed);
        *inner = Inner { early, fresh, lapsed, ..read };
        inner.take_early();
        Ok(())
    }

    async fn catch_up(&self, event: &LiveEvent) -> Result<(), Error> {
        loop {
            let after = event.seq();
            let rows = self.0.store.feed_after(event.id, after, FEED_ROWS).await?;
            match rows.first() {
                None => return Ok(()),
                // The rows in between were swept away: what they changed is in the tables.
                Some((first, _)) if *first > after + 1 => return self.reload(event).await,
                Some(_) => {}
            }
            let all = (rows.len() as i64) < FEED_ROWS;
            for (seq, changes) in rows {
                event.take(seq, &changes.into());
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Sends all watchers the changes that they were not sent yet, lapsed holds included.
    pub fn pulse(&self) {
        (0..PARTS).for_each(|part| self.pulse_part(part));
    }

    /// The same to one part of the watchers of each event.
    pub fn pulse_part(&self, part: usize) {
        let now = self.0.clock.now();
        self.loaded().iter().for_each(|event| event.pulse(part, now));
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("events", &self.events().by_id.len()).finish_non_exhaustive()
    }
}

impl LiveEvent {
    /// Which event.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The event as last read.
    pub fn event(&self) -> Arc<Event> {
        Arc::clone(&self.inner().event)
    }

    /// Its seat plan.
    pub fn plan(&self) -> Option<Arc<SeatPlan>> {
        self.inner().plan.clone()
    }

    /// What there is to sell.
    pub fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(self.inner().states.inventory())
    }

    /// Up to which change of the feed it is.
    pub fn seq(&self) -> i64 {
        self.inner().states.seq()
    }

    /// Looks at the seats. No other work is done meanwhile: be brief.
    pub fn with<R>(&self, look: impl FnOnce(&mut States) -> R) -> R {
        look(&mut self.inner().states)
    }

    /// From now on, what changes.
    pub fn watch(&self) -> broadcast::Receiver<Tick> {
        let part = self.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        self.ticks[part].subscribe()
    }

    /// Seats whose holds lapsed a little while ago and that are still free.
    pub fn lapsed(&self, now: Timestamp) -> Vec<SeatNumber> {
        let inner = self.inner();
        let seats = inner.lapsed.iter().map(|(_, seat)| *seat);
        seats.filter(|seat| inner.states.get(*seat, now) == SeatState::Free).collect()
    }

    /// How all seats stand, rendered once until something changes.
    pub fn snapshot(&self, now: Timestamp) -> Arc<Snapshot> {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let (settled, seq, bytes) = {
            let inner = self.inner();
            let (settled, seq) = (inner.states.settled(now), inner.states.seq());
            let is_kept = |kept: &&Arc<Snapshot>| settled.is_some() && (kept.settled, kept.seq) == (settled, seq);
            if let Some(snapshot) = kept.as_ref().filter(is_kept) {
                return Arc::clone(snapshot);
            }
            (settled, seq, Bytes::from(inner.states.snapshot(now)))
        };
        let mut digest = [0; 12];
        digest.copy_from_slice(&Sha256::digest(&bytes)[..12]);
        let snapshot = Arc::new(Snapshot { seq, bytes, digest, settled });
        *kept = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// The page of the plan, rendered once for each version of the event, on a thread of its own: a stadium's takes some
    /// tens of milliseconds.
    ///
    /// # Errors
    /// [`Error::Corrupt`], where it could not be rendered.
    pub async fn plan_page(
        &self,
        render: fn(&Event, Option<&SeatPlan>, &Inventory) -> Bytes,
    ) -> Result<(i64, Bytes), Error> {
        let mut kept = self.plan_page.lock().await;
        let (event, plan, inventory) = {
            let inner = self.inner();
            (Arc::clone(&inner.event), inner.plan.clone(), Arc::clone(inner.states.inventory()))
        };
        let version = event.version;
        if let Some((of, page)) = kept.as_ref()
            && *of == version
        {
            return Ok((version, page.clone()));
        }
        let id = event.id;
        let rendered = tokio::task::spawn_blocking(move || render(&event, plan.as_deref(), &inventory)).await;
        let page = rendered
            .map_err(|error| Error::Corrupt { what: format!("the plan of event `{id}`"), reason: error.to_string() })?;
        *kept = Some((version, page.clone()));
        Ok((version, page))
    }

    fn is_watched(&self) -> bool {
        self.ticks.iter().any(|ticks| ticks.receiver_count() > 0)
    }

    fn take(&self, seq: i64, changes: &Arc<[Change]>) {
        let mut inner = self.inner();
        if seq <= inner.states.seq() {
            return;
        }
        inner.early.insert(seq, Arc::clone(changes));
        inner.take_early();
    }

    fn pulse(&self, part: usize, now: Timestamp) {
        let Some(ticks) = self.ticks.get(part) else { return };
        let mut inner = self.inner();
        for seat in inner.states.lapse(now) {
            inner.fresh.push(seat, ChangeTo::Free);
            inner.lapsed.push_back((now, seat));
        }
        while inner.lapsed.front().is_some_and(|(at, _)| at.plus(LAPSES_KEPT) < now) {
            inner.lapsed.pop_front();
        }
        if ticks.receiver_count() == 0 {
            inner.fresh.skip(part);
            return;
        }
        let fresh = inner.fresh.take(part);
        if fresh.is_empty() {
            return;
        }
        let seq = inner.states.seq();
        drop(inner);
        // Nobody watching any more is no fault.
        let _ = ticks.send(Tick::new(seq, &fresh));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LiveEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveEvent").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Inner {
    /// Applies what has its turn.
    fn take_early(&mut self) {
        while let Some(entry) = self.early.first_entry() {
            let seq = *entry.key();
            if seq > self.states.seq() + 1 {
                return;
            }
            let changes = entry.remove();
            if seq == self.states.seq() + 1 {
                self.states.apply(&changes);
                self.states.set_seq(seq);
                changes.iter().for_each(|change| self.fresh.push(change.seat, change.to));
            }
        }
    }
}

fn render(seq: i64, changes: &BTreeMap<SeatNumber, ChangeTo>) -> String {
    use std::fmt::Write;
    let (mut free, mut held, mut booked) = (String::new(), String::new(), String::new());
    for (SeatNumber(number), to) in changes {
        // Writing into a `String` cannot fail.
        let _ = match to {
            ChangeTo::Free => write!(free, "{number},"),
            ChangeTo::Held(until) => write!(held, "[{number},{}],", until.micros() / 1_000),
            ChangeTo::Booked => write!(booked, "{number},"),
        };
    }
    for list in [&mut free, &mut held, &mut booked] {
        list.pop();
    }
    format!("{{\"seq\":{seq},\"free\":[{free}],\"held\":[{held}],\"booked\":[{booked}]}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_sent_each_change_once() {
        let mut fresh = Fresh::default();
        let seat = SeatNumber;
        fresh.push(seat(1), ChangeTo::Booked);
        assert_eq!(fresh.take(0).len(), 1);
        fresh.push(seat(2), ChangeTo::Booked);
        fresh.push(seat(2), ChangeTo::Free);
        let of_part = fresh.take(1);
        assert_eq!(of_part.into_iter().collect::<Vec<_>>(), [(seat(1), ChangeTo::Booked), (seat(2), ChangeTo::Free)]);
        assert_eq!(fresh.take(0).into_iter().collect::<Vec<_>>(), [(seat(2), ChangeTo::Free)]);
        assert!(fresh.take(0).is_empty());
        (2..PARTS).for_each(|part| fresh.skip(part));
        assert!(fresh.changes.is_empty(), "what all were sent is not kept");
        fresh.push(seat(3), ChangeTo::Free);
        assert!((0..PARTS).all(|part| fresh.take(part).len() == 1));
        assert!(fresh.changes.is_empty());
    }
}
