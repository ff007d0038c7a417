//! The events that this process has in memory, and those who watch them.
//!
//! Committed changes come in two ways: from this process's own writes as they are answered, and from the feed in the
//! database, which others write too. Both carry the sequence of the event's feed; one that is not the next waits for the
//! feed to be read. What watchers get is merged and rendered once a pulse, however many they are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use tessera_kernel::{Clock, Timestamp};
use tokio::sync::{OnceCell, broadcast};

use super::delta::{Change, ChangeTo};
use super::states::States;
use crate::Error;
use crate::domain::event::Event;
use crate::domain::ids::{EventId, SeatNumber};
use crate::domain::inventory::Inventory;
use crate::domain::plan::SeatPlan;
use crate::store::Store;

/// Pulses that a slow watcher may be behind before it is told to start over.
const PULSES_KEPT: usize = 64;
/// Events in memory; the one not asked for the longest makes room. A stadium takes about 3 MB.
const MAX_EVENTS: usize = 256;
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
    ticks: broadcast::Sender<Tick>,
}

struct Inner {
    event: Arc<Event>,
    plan: Option<Arc<SeatPlan>>,
    states: States,
    /// Changes that came before their turn.
    early: BTreeMap<i64, Arc<[Change]>>,
    /// Changes since the last pulse.
    fresh: BTreeMap<SeatNumber, ChangeTo>,
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
            self.events().by_id.remove(&id);
        }
        loaded.cloned()
    }

    fn entry(&self, id: EventId) -> Arc<OnceCell<Arc<LiveEvent>>> {
        let mut events = self.events();
        events.asked += 1;
        let asked = events.asked;
        if events.by_id.len() >= MAX_EVENTS && !events.by_id.contains_key(&id) {
            // Those that somebody watches stay.
            let watched = |entry: &Entry| entry.cell.get().is_some_and(|event| event.ticks.receiver_count() > 0);
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
        Ok(LiveEvent { id, inner: Mutex::new(inner), ticks: broadcast::channel(PULSES_KEPT).0 })
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
        Ok(Inner { event: Arc::new(event), plan, states, early: BTreeMap::new(), fresh: BTreeMap::new() })
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

    /// Reads what others committed, and events that were changed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow(&self) -> Result<(), Error> {
        let loaded = self.loaded();
        if loaded.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = loaded.iter().map(|event| event.id).collect();
        let heads = self.0.store.heads(&ids).await?;
        for event in loaded {
            let Some(head) = heads.get(&event.id) else { continue };
            if head.version != event.event().version {
                self.reload(&event).await?;
            } else if head.seq > event.seq() {
                self.catch_up(&event).await?;
            }
        }
        Ok(())
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
        let read = self.read(event.id).await?;
        let mut inner = event.inner();
        let (early, fresh) = (std::mem::take(&mut inner.early), std::mem::take(&mut inner.fresh));
        *inner = Inner { early, fresh, ..read };
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

    /// Sends each watched event's changes since the last pulse, lapsed holds included.
    pub fn pulse(&self) {
        let now = self.0.clock.now();
        self.loaded().iter().for_each(|event| event.pulse(now));
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
        self.ticks.subscribe()
    }

    fn take(&self, seq: i64, changes: &Arc<[Change]>) {
        let mut inner = self.inner();
        if seq <= inner.states.seq() {
            return;
        }
        inner.early.insert(seq, Arc::clone(changes));
        inner.take_early();
    }

    fn pulse(&self, now: Timestamp) {
        let mut inner = self.inner();
        let lapsed = inner.states.lapse(now);
        if self.ticks.receiver_count() == 0 {
            inner.fresh.clear();
            return;
        }
        inner.fresh.extend(lapsed.into_iter().map(|seat| (seat, ChangeTo::Free)));
        if inner.fresh.is_empty() {
            return;
        }
        let seq = inner.states.seq();
        let fresh = std::mem::take(&mut inner.fresh);
        drop(inner);
        // Nobody watching any more is no fault.
        let _ = self.ticks.send(Tick::new(seq, &fresh));
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
                self.fresh.extend(changes.iter().map(|change| (change.seat, change.to)));
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
