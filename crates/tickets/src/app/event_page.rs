//! The page of an event: rendered once for everyone, and again when it is a second old or the event was changed here.
//!
//! However many ask while it is rendered, it is rendered once; those who come meanwhile get the one before, if that is
//! hardly older, or wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tessera_kernel::Timestamp;

use super::App;
use super::queue::Stage;
use crate::Error;
use crate::domain::catalogue::{Performer, Venue};
use crate::domain::event::{Event, QueueMode};
use crate::domain::ids::{EventId, SeatNumber};
use crate::domain::inventory::Inventory;
use crate::seats::states::Counts;

/// How old a page may be.
const FRESH: Duration = Duration::from_secs(1);
/// How old a page may be that is given out while the next one is being rendered.
const BRIDGING: Duration = Duration::from_secs(2);
/// Pages in memory. A plain one is some kilobytes, one with all seats of a stadium four megabytes.
const MAX_PAGES: usize = 4_096;
/// Pages with all seats in memory.
const MAX_LISTS: usize = 16;

/// What a page has of the tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Counts only.
    Counts,
    /// Each seat with its label and state, by section and row.
    List,
    /// Two bits a seat, in the order of their numbers.
    Bitmap,
}

/// A rendered page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The JSON.
    pub body: Bytes,
    /// Changes with the body.
    pub etag: HeaderValue,
    /// What a cache in front can throw the page away by.
    pub surrogate_key: HeaderValue,
}

/// All that a page shows.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The event.
    pub event: Arc<Event>,
    /// Where.
    pub venue: Venue,
    /// Who plays, in the order of the bill.
    pub performers: Vec<Performer>,
    /// Its seats and places.
    pub inventory: Arc<Inventory>,
    /// Whether it is sold at this moment.
    pub on_sale: bool,
    /// Whether it has a waiting room.
    pub queue_mode: QueueMode,
    /// Whether one has to wait at this moment.
    pub queue_active: bool,
    /// Up to which change of its feed this is.
    pub seq: i64,
    /// Two bits a seat, see `seats::delta`.
    pub states: Bytes,
}

/// The pages of this process.
#[derive(Default)]
pub struct Pages {
    inner: Mutex<Inner>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// Goes up when something is forgotten: what was rendered from before is not kept.
    generation: u64,
    entries: HashMap<(EventId, Form), Entry>,
}

#[derive(Default)]
struct Entry {
    page: Option<(Timestamp, Arc<Page>)>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

enum Look {
    Fresh(Arc<Page>),
    Stale { turn: Arc<tokio::sync::Mutex<()>>, bridge: Option<Arc<Page>>, generation: u64 },
}

impl Pages {
    /// The event was changed.
    pub fn forget(&self, id: EventId) {
        let mut inner = self.inner();
        inner.generation += 1;
        for form in [Form::Counts, Form::List, Form::Bitmap] {
            inner.entries.remove(&(id, form));
        }
    }

    /// How many were given from memory, and how many rendered.
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    fn look(&self, key: (EventId, Form), now: Timestamp) -> Look {
        let mut inner = self.inner();
        if let Some(page) = inner.fresh(key, now) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Look::Fresh(page);
        }
        inner.make_room(key, now);
        let generation = inner.generation;
        let entry = inner.entries.entry(key).or_default();
        let bridge = entry.page.as_ref().filter(|(at, _)| age(*at, now) < BRIDGING).map(|(_, page)| Arc::clone(page));
        Look::Stale { turn: Arc::clone(&entry.turn), bridge, generation }
    }

    fn keep(&self, key: (EventId, Form), generation: u64, at: Timestamp, page: &Arc<Page>) {
        let mut inner = self.inner();
        if inner.generation == generation {
            inner.entries.entry(key).or_default().page = Some((at, Arc::clone(page)));
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page from the future, as after a clock was set back, is as good as none.
fn age(at: Timestamp, now: Timestamp) -> Duration {
    if at > now { Duration::MAX } else { now.since(at) }
}

impl Inner {
    fn fresh(&self, key: (EventId, Form), now: Timestamp) -> Option<Arc<Page>> {
        let (at, page) = self.entries.get(&key)?.page.as_ref()?;
        (age(*at, now) < FRESH).then(|| Arc::clone(page))
    }

    fn make_room(&mut self, key: (EventId, Form), now: Timestamp) {
        let most = if key.1 == Form::List { MAX_LISTS } else { MAX_PAGES };
        let same = |other: &(EventId, Form)| (other.1 == Form::List) == (key.1 == Form::List);
        if self.entries.contains_key(&key) || self.entries.keys().filter(|other| same(other)).count() < most {
            return;
        }
        let over = |entry: &Entry| entry.page.as_ref().is_none_or(|(at, _)| age(*at, now) >= FRESH);
        self.entries.retain(|other, entry| !same(other) || !over(entry));
        if self.entries.keys().filter(|other| same(other)).count() >= most {
            self.entries.retain(|other, _| !same(other));
        }
    }
}

impl App {
    /// The page of an event, where it is in memory and fresh.
    pub fn fresh_page(&self, id: EventId, form: Form) -> Option<Arc<Page>> {
        let page = self.pages().inner().fresh((id, form), self.clock.now())?;
        self.pages().hits.fetch_add(1, Ordering::Relaxed);
        Some(page)
    }

    /// The page of an event that everyone may see. `render` is only called where there is no fresh one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn event_page(
        &self,
        id: EventId,
        form: Form,
        render: fn(&EventView, Form) -> Page,
    ) -> Result<Arc<Page>, Error> {
        let key = (id, form);
        let (turn, bridge) = match self.pages().look(key, self.clock.now()) {
            Look::Fresh(page) => return Ok(page),
            Look::Stale { turn, bridge, .. } => (turn, bridge),
        };
        let _turn = match (turn.try_lock(), bridge) {
            (Ok(guard), _) => guard,
            (Err(_), Some(page)) => {
                self.pages().hits.fetch_add(1, Ordering::Relaxed);
                return Ok(page);
            }
            (Err(_), None) => turn.lock().await,
        };
        // Whoever had the turn before may have rendered it.
        let now = self.clock.now();
        let generation = match self.pages().look(key, now) {
            Look::Fresh(page) => return Ok(page),
            Look::Stale { generation, .. } => generation,
        };
        self.pages().misses.fetch_add(1, Ordering::Relaxed);
        let view = self.view_event(id).await?;
        let page = match form {
            Form::Counts => render(&view, form),
            // All seats of a stadium take some tens of milliseconds.
            Form::List | Form::Bitmap => {
                let rendered = tokio::task::spawn_blocking(move || render(&view, form)).await;
                rendered.map_err(|error| Error::Corrupt { what: format!("event `{id}`"), reason: error.to_string() })?
            }
        };
        let page = Arc::new(page);
        self.pages().keep(key, generation, now, &page);
        Ok(page)
    }

    /// All that a page shows of an event.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn view_event(&self, id: EventId) -> Result<EventView, Error> {
        let live = self.public_event(id).await?;
        let event = live.event();
        let venue = self.store.venue(event.venue).await?;
        let mut performers = self.store.performers(&event.performers).await?;
        let place = |performer: &Performer| event.performers.iter().position(|id| *id == performer.id);
        performers.sort_by_key(place);
        let now = self.clock.now();
        // Counted from a copy: whoever holds seats waits for this lock.
        let (inventory, seq, snapshot) =
            live.with(|states| (Arc::clone(states.inventory()), states.seq(), states.snapshot(now)));
        let states = Bytes::from(snapshot).split_off(SNAPSHOT_HEADER);
        let on_sale = event.check_on_sale(now).is_ok();
        let room = self.queue(id).await?;
        let queue_active = matches!(room.stage, Stage::Before | Stage::Open);
        let queue_mode = room.settings.mode;
        Ok(EventView { event, venue, performers, inventory, on_sale, queue_mode, queue_active, seq, states })
    }
}

/// Version, sequence and count stand before the states.
const SNAPSHOT_HEADER: usize = 13;

impl EventView {
    /// How a seat stands: 0 free, 1 held, 2 booked, 3 not sold.
    pub fn state(&self, seat: SeatNumber) -> u8 {
        let byte = self.states.get(seat.0 as usize / 4).copied().unwrap_or(u8::MAX);
        byte >> (2 * (seat.0 % 4)) & 3
    }

    /// How many of these are of each kind.
    pub fn counts(&self, seats: impl Iterator<Item = u32>) -> Counts {
        let mut counts = [0; 4];
        seats.for_each(|seat| counts[usize::from(self.state(SeatNumber(seat)))] += 1);
        let [free, held, booked, _] = counts;
        Counts { total: free + held + booked, free, held, booked }
    }

    /// Of each price level how many are free, and how many there are.
    pub fn levels(&self) -> Vec<(u32, u32)> {
        let mut levels = vec![(0, 0); self.event.details.price_levels.len()];
        for seat in (0..self.inventory.len()).map(SeatNumber) {
            if let Some((free, total)) = self.inventory.level(seat).and_then(|level| levels.get_mut(level)) {
                *free += u32::from(self.state(seat) == 0);
                *total += 1;
            }
        }
        levels
    }
}
