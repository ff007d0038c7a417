//! What tickets does, one file per use case. This room reads the clock and mints ids.

pub mod catalogue;
pub mod confirm;
pub mod door;
pub mod event_page;
pub mod import;
pub mod orders;
mod passes;
pub mod queue;
pub mod release;
mod remembered;
pub mod report;
pub mod request;
pub mod reserve;
pub mod tickets;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, Ids};
use tessera_service::Keys;
use tessera_store::claims::Claims;

use crate::payment::Provider;
use crate::seats::Live;
use crate::store::Store;
use queue::Queues;

/// What the use cases share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    parts: Parts,
    pages: event_page::Pages,
    remembered: remembered::Remembered,
}

/// The parts of an [`App`].
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Events in memory.
    pub live: Live,
    /// Claims on seats where they are not kept in the database.
    pub claims: Option<Arc<dyn Claims>>,
    /// Who moves the money.
    pub payments: Arc<dyn Provider>,
    /// Where buyers reach this server: `https://tickets.example`.
    pub public_url: String,
    /// The waiting rooms.
    pub queues: Queues,
    /// Who asks, and what we sign.
    pub keys: Keys,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// How long a hold may be extended while it is paid.
    pub payment_window: Duration,
}

impl App {
    /// Puts the parts together: changes that this process commits reach the events in memory.
    pub fn new(parts: Parts) -> Self {
        let live = parts.live.clone();
        parts.store.on_change(move |fed| {
            for (event, seq, changes) in fed.iter() {
                live.committed(*event, *seq, changes);
            }
        });
        Self(Arc::new(Shared { parts, pages: Default::default(), remembered: Default::default() }))
    }

    /// What its pages and its waiting rooms count, see [`event_page::Pages::counts`] and [`Queues::crowd`]. It keeps
    /// nothing open.
    pub(crate) fn counting(&self) -> impl Fn() -> ((u64, u64), [i64; 4]) + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.0);
        move || {
            let counts = |shared: Arc<Shared>| (shared.pages.counts(), shared.parts.queues.crowd());
            shared.upgrade().map_or(((0, 0), [0; 4]), counts)
        }
    }

    pub(crate) fn pages(&self) -> &event_page::Pages {
        &self.0.pages
    }

    pub(crate) fn remembered(&self) -> &remembered::Remembered {
        &self.0.remembered
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl axum::extract::FromRef<App> for Keys {
    fn from_ref(app: &App) -> Self {
        app.keys.clone()
    }
}
