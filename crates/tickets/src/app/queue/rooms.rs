//! Waiting rooms in memory: what everyone is told, read once for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tessera_kernel::{Timestamp, Uuid};
use tessera_service::Keys;
use tessera_store::lines::{Line, Lines, Phase};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::passes::Passes;
use crate::Error;
use crate::domain::ids::EventId;
use crate::domain::queue::{Settings, State};

/// How old a view may be that somebody is answered from.
pub(super) const FRESH: Duration = Duration::from_millis(500);
/// How old it may be while it is being read anew.
pub(super) const USABLE: Duration = Duration::from_secs(3);
/// How old it may be when it cannot be read anew.
pub(super) const STALE: Duration = Duration::from_secs(60);
/// Rooms in memory; those that nobody asked for are forgotten when there are more.
const MAX_ROOMS: usize = 4_096;
/// What arrives is counted over so long at the least.
const COUNTED_OVER: Duration = Duration::from_millis(500);

/// The waiting rooms of this process. Cheap to clone.
#[derive(Clone)]
pub struct Queues(Arc<Shared>);

struct Shared {
    lines: Arc<dyn Lines>,
    passes: Passes,
    rooms: RwLock<HashMap<EventId, Arc<Room>>>,
    /// By which other processes tell this one.
    process: OnceLock<u64>,
}

impl Queues {
    /// None yet. Who waits is kept in `lines`.
    pub fn new(lines: Arc<dyn Lines>, keys: Keys) -> Self {
        let shared = Shared { lines, passes: Passes::new(keys), rooms: RwLock::default(), process: OnceLock::new() };
        Self(Arc::new(shared))
    }

    pub(super) fn lines(&self) -> &dyn Lines {
        &*self.0.lines
    }

    pub(super) fn passes(&self) -> &Passes {
        &self.0.passes
    }

    pub(super) fn process(&self, mint: impl FnOnce() -> u64) -> u64 {
        *self.0.process.get_or_init(mint)
    }

    /// The room of an event, whether it has one or not.
    pub fn room(&self, event: EventId) -> Arc<Room> {
        let rooms = self.0.rooms.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(&event) {
            return Arc::clone(room);
        }
        drop(rooms);
        let mut rooms = self.0.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() >= MAX_ROOMS {
            rooms.retain(|_, room| room.is_wanted());
        }
        Arc::clone(rooms.entry(event).or_insert_with(|| Arc::new(Room::new(event))))
    }

    /// Forgets a room that is none.
    pub(super) fn forget(&self, event: EventId) {
        self.0.rooms.write().unwrap_or_else(PoisonError::into_inner).remove(&event);
    }

    /// How many rooms are open, who waits in them, who is inside, and who arrives a second, as this process knew it a
    /// moment ago.
    pub(crate) fn crowd(&self) -> [i64; 4] {
        let rooms = self.0.rooms.read().unwrap_or_else(PoisonError::into_inner);
        let mut crowd = [0; 4];
        for view in rooms.values().filter_map(|room| room.no_older_than(STALE)) {
            if matches!(view.stage, Stage::Before | Stage::Open) {
                let (waiting, inside) = view.stands.as_ref().map_or((0, 0), |line| (line.waiting, line.inside));
                let more = [1, waiting, inside, i64::from(view.arrivals_per_second)];
                crowd.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
        }
        crowd
    }

    /// Those that somebody watches.
    pub(super) fn watched(&self) -> Vec<Arc<Room>> {
        let rooms = self.0.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.values().filter(|room| room.view.receiver_count() > 0).cloned().collect()
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// The waiting room of one event in memory.
#[derive(Debug)]
pub struct Room {
    pub(super) event: EventId,
    pub(super) view: watch::Sender<Option<Arc<View>>>,
    /// One at a time reads it anew.
    pub(super) reading: tokio::sync::Mutex<()>,
    arrivals: AtomicU64,
    counted: Mutex<Counted>,
    /// Let in by this process since it last said so.
    pub(super) admitted: AtomicI64,
}

#[derive(Debug)]
struct Counted {
    at: Instant,
    per_second: u32,
}

impl Room {
    fn new(event: EventId) -> Self {
        Self {
            event,
            view: watch::channel(None).0,
            reading: tokio::sync::Mutex::default(),
            arrivals: AtomicU64::new(0),
            counted: Mutex::new(Counted { at: Instant::now(), per_second: 0 }),
            admitted: AtomicI64::new(0),
        }
    }

    /// Somebody wants in.
    pub(super) fn arrived(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }

    /// How many arrive a second at this process, as last counted.
    pub(super) fn arrivals_per_second(&self) -> u32 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = counted.at.elapsed();
        if passed >= COUNTED_OVER {
            let count = self.arrivals.swap(0, Ordering::Relaxed);
            let per_second = count as f64 / passed.as_secs_f64();
            *counted = Counted { at: Instant::now(), per_second: per_second as u32 };
        }
        counted.per_second
    }

    pub(super) fn no_older_than(&self, age: Duration) -> Option<Arc<View>> {
        self.view.borrow().as_ref().filter(|view| view.read_at.elapsed() <= age).cloned()
    }

    fn is_wanted(&self) -> bool {
        self.view.receiver_count() > 0 || self.no_older_than(STALE).is_some()
    }
}

/// Whether an event has a waiting room at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has none: everyone may reserve.
    None,
    /// It has had one; the sale is over, for this reason.
    Over(String),
    /// Before the doors open.
    Before,
    /// The doors are open.
    Open,
}

/// A waiting room as it was a moment ago.
#[derive(Debug)]
pub struct View {
    /// Of which event.
    pub event: EventId,
    /// Whether there is one.
    pub stage: Stage,
    /// What holds.
    pub settings: Settings,
    /// What processes share.
    pub state: State,
    /// The line's id.
    pub line: Uuid,
    /// The line, where there is one.
    pub stands: Option<Line>,
    /// Of the seed of its lottery, where there may be one: before there is a line too.
    pub commitment: Option<[u8; 32]>,
    /// How many arrive a second at this process.
    pub arrivals_per_second: u32,
    /// By the clock of this process.
    pub at: Timestamp,
    pub(super) read_at: Instant,
    pub(super) rendered: OnceLock<Bytes>,
}

impl View {
    /// The serving number.
    pub fn serving(&self) -> i64 {
        self.stands.as_ref().map_or(0, |line| line.serving)
    }

    /// The number of an entry, once the doors are open.
    pub fn number(&self, entry: i64) -> Option<i64> {
        match &self.stands.as_ref()?.phase {
            Phase::Gathering => None,
            Phase::Open { drawn, seed: Some(seed) } => Some(seed.number(*drawn, entry)),
            Phase::Open { seed: None, .. } => Some(entry),
        }
    }

    /// When the doors open, or opened.
    pub fn opens_at(&self) -> Option<Timestamp> {
        self.stands.as_ref().map(|line| line.opens_at).or(self.settings.doors_open_at)
    }

    /// What all are sent, rendered once.
    pub fn rendered(&self, render: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(self)).clone()
    }

    pub(super) fn check_joinable(&self) -> Result<(), Error> {
        match &self.stage {
            Stage::Before | Stage::Open => Ok(()),
            Stage::Over(reason) => Err(Error::NotOnSale { event: self.event, reason: reason.clone() }),
            Stage::None => {
                let reason = format!("nobody has to wait for event `{}` now; reserve at once", self.event);
                Err(Error::NotNow { reason })
            }
        }
    }
}
