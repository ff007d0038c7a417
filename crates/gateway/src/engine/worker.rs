//! A worker: one thread with a runtime of its own, which accepts, serves and forwards without asking another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, Ids};
use tessera_service::Keys;
use tessera_service::run::Inside;
use tessera_service::sockets::Sockets;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::datagrams::Datagrams;
#[cfg(feature = "http3")]
use super::quic::Endpoints;
use super::{Spare, accept};
use crate::access_log::PAGE_BYTES;
use crate::auth::{Fetcher, Remembered, SignedTokens};
use crate::domain::balance::mix;
use crate::domain::freshness::http_date;
use crate::limit::{Connections, Gate};
use crate::metrics::Metrics;
use crate::openapi::{Following, follow};
use crate::snapshot::Snapshot;
use crate::upstream::{Pools, Upstream, Watch, watch};

/// How often pages of the log are handed over and old connections closed.
const TICK: Duration = Duration::from_millis(250);

/// What all workers have in common.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Requests under way.
    pub requests: Arc<Gate>,
    /// Fetches keys.
    pub fetcher: Fetcher,
    /// Whose tokens this installation believes.
    pub keys: Keys,
    /// The components of this process.
    pub inside: Inside,
    /// Where they run.
    pub runtime: Handle,
    /// The zero of all workers' times.
    pub began: Instant,
    /// Begins spans, where the process sends them somewhere.
    pub tracer: Option<Arc<opentelemetry::global::BoxedTracer>>,
    /// The longest that a stop may take, whatever `limits.drain` says: then the process ends.
    pub longest_drain: Option<Duration>,
    /// Those that are listened on, and those that the process was started with.
    pub sockets: Sockets,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve by this config from the next request on, and listen on these too.
    Swap(Arc<Snapshot>, Opened),
}

/// Sockets that a worker is to serve on.
#[derive(Debug, Default)]
pub struct Opened {
    /// For connections, with their listener.
    pub(super) listeners: Vec<(String, std::net::TcpListener)>,
    /// For datagrams.
    pub(super) datagrams: Vec<Datagrams>,
}

/// A worker's own handle of the config in use. Requests count this one, so that workers do not all count the same.
#[derive(Debug)]
pub struct Serving(Arc<Snapshot>);

impl std::ops::Deref for Serving {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// A worker's own things.
#[derive(Debug)]
pub struct Worker {
    /// Which it is.
    pub index: usize,
    /// What all workers have in common.
    pub shared: Shared,
    /// Connections to endpoints.
    pub pools: Rc<Pools>,
    /// Proofs that were checked.
    pub remembered: Remembered,
    /// Tokens that say who asks.
    pub signed: SignedTokens,
    /// Room that is used again.
    pub spare: Spare,
    /// Cancelled when no new connections are taken. Those there are may be used once more.
    pub leaving: CancellationToken,
    /// Cancelled when no new requests are taken.
    pub draining: CancellationToken,
    /// Everything that is under way.
    pub tracker: TaskTracker,
    snapshot: RefCell<Rc<Serving>>,
    is_leaving: Cell<bool>,
    page: RefCell<String>,
    second: RefCell<(i64, String)>,
    date: RefCell<(i64, String)>,
    seed: Cell<u64>,
}

impl Worker {
    /// The config in use. A request keeps the one it began with.
    pub fn snapshot(&self) -> Rc<Serving> {
        self.snapshot.borrow().clone()
    }

    /// Whether callers are to come back on another connection. Asked with each answer, and cheaper than the token.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// Microseconds on the workers' common clock.
    pub fn now_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// A moment on that clock.
    pub fn us_at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.shared.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// A number below `bound`, drawn at random.
    pub fn draw(&self, bound: u64) -> u64 {
        let seed = self.seed.get().wrapping_add(1);
        self.seed.set(seed);
        mix(seed) % bound.max(1)
    }

    /// A number drawn at random.
    pub fn random(&self) -> u64 {
        self.draw(u64::MAX)
    }

    /// Adds a line to the log. `write` gets the page and the present time.
    pub fn log(&self, snapshot: &Snapshot, write: impl FnOnce(&mut String, &str)) {
        let now = self.shared.clock.now();
        let (second, millis) = (now.micros().div_euclid(1_000_000), now.micros().rem_euclid(1_000_000) / 1_000);
        let mut time = self.second.borrow_mut();
        if time.0 != second {
            *time = (second, now.to_utc().format("%Y-%m-%dT%H:%M:%S").to_string());
        }
        let whole = time.1.len();
        let _ = std::fmt::Write::write_fmt(&mut time.1, format_args!(".{millis:03}Z"));
        let mut page = self.page.borrow_mut();
        write(&mut page, &time.1);
        time.1.truncate(whole);
        if page.len() >= PAGE_BYTES {
            snapshot.log.write(std::mem::take(&mut page));
        }
    }

    /// Shows the present time as headers have it (RFC 9110, 5.6.7).
    pub fn with_date(&self, show: impl FnOnce(&str)) {
        let now = self.shared.clock.now();
        let second = now.micros().div_euclid(1_000_000);
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, http_date(now));
        }
        show(&date.1);
    }

    fn flush_log(&self) {
        let mut page = self.page.borrow_mut();
        if !page.is_empty() {
            self.snapshot.borrow().log.write(std::mem::take(&mut page));
        }
    }
}

/// What a worker starts with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) shared: Shared,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) opened: Opened,
    pub(super) orders: Receiver<Order>,
    pub(super) leaving: CancellationToken,
    pub(super) draining: CancellationToken,
}

/// A worker's life: takes connections until `leaving` is cancelled, requests until `draining` is, and ends when all of them
/// have or the drain is over.
pub(super) async fn run(start: Start) {
    let Start { index, shared, snapshot, opened, mut orders, leaving, draining } = start;
    // Its own ones: connections ask them often, and would ask another thread otherwise.
    let (leaving, draining) = (leaving.child_token(), draining.child_token());
    let seed = shared.ids.next().as_u64_pair().1;
    let worker = Rc::new(Worker {
        index,
        shared,
        pools: Rc::default(),
        remembered: Remembered::default(),
        signed: SignedTokens::default(),
        leaving: leaving.clone(),
        draining: draining.clone(),
        tracker: TaskTracker::new(),
        snapshot: RefCell::new(Rc::new(Serving(snapshot.clone()))),
        is_leaving: Cell::new(false),
        page: RefCell::default(),
        spare: Spare::default(),
        second: RefCell::default(),
        date: RefCell::default(),
        seed: Cell::new(seed),
    });
    let mut accepting = HashMap::new();
    let mut watches = HashMap::new();
    #[cfg(feature = "http3")]
    let mut endpoints = Endpoints::default();
    #[cfg(feature = "http3")]
    endpoints.follow(&worker, opened.datagrams);
    listen(&worker, opened.listeners, &mut accepting);
    watch_upstreams(&worker, &snapshot, &mut watches);
    let mut documents = follow_documents(&worker, &snapshot);
    // The first config goes as all others do, once another is in use.
    drop(snapshot);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = leaving.cancelled() => break,
            _ = ticks.tick() => tick(&worker),
            order = orders.recv() => {
                let Some(Order::Swap(snapshot, opened)) = order else { break };
                worker.flush_log();
                *worker.snapshot.borrow_mut() = Rc::new(Serving(snapshot.clone()));
                #[cfg(feature = "http3")]
                endpoints.follow(&worker, opened.datagrams);
                listen(&worker, opened.listeners, &mut accepting);
                accepting.retain(|address, accept| {
                    let stays = snapshot.listeners.iter().any(|(wanted, _)| wanted == address);
                    if !stays {
                        accept.iter().for_each(AbortHandle::abort);
                    }
                    stays
                });
                watch_upstreams(&worker, &snapshot, &mut watches);
                documents = follow_documents(&worker, &snapshot);
            }
        }
    }
    let left_at = Instant::now();
    worker.is_leaving.set(true);
    accepting.values().flatten().for_each(AbortHandle::abort);
    drop(documents);
    worker.tracker.close();
    loop {
        tokio::select! {
            () = worker.tracker.wait() => break,
            () = draining.cancelled() => break,
            _ = ticks.tick() => tick(&worker),
        }
    }
    let drain = worker.snapshot().spec.limits.drain.0;
    let patience = worker.shared.longest_drain.map_or(drain, |longest| drain.min(longest));
    // Half of it has gone by where callers had time to go to another process.
    let ended = tokio::time::timeout(patience.saturating_sub(left_at.elapsed()), worker.tracker.wait()).await;
    if ended.is_err() {
        tracing::warn!(worker = index, left = worker.tracker.len(), "requests did not end in time and are broken off");
    }
    worker.flush_log();
}

fn listen(
    worker: &Rc<Worker>,
    listeners: Vec<(String, std::net::TcpListener)>,
    accepting: &mut HashMap<String, Vec<AbortHandle>>,
) {
    for (address, listener) in listeners {
        let kept = worker.shared.sockets.keep(&listener);
        match kept.and_then(|kept| Ok((TcpListener::from_std(listener)?, kept))) {
            Ok((listener, kept)) => {
                let accept = accept::accept(worker.clone(), address.clone(), listener);
                let task = tokio::task::spawn_local(async move {
                    let _kept = kept;
                    accept.await;
                });
                accepting.entry(address).or_default().push(task.abort_handle());
            }
            Err(error) => tracing::error!(%error, address, "a listener cannot be used"),
        }
    }
}

/// The first worker looks after all upstreams.
fn watch_upstreams(worker: &Rc<Worker>, snapshot: &Snapshot, watches: &mut HashMap<usize, (Arc<Upstream>, Watch)>) {
    if worker.index != 0 {
        return;
    }
    let address = |upstream: &Arc<Upstream>| Arc::as_ptr(upstream).addr();
    watches.retain(|_, (known, _)| snapshot.upstreams.values().any(|upstream| Arc::ptr_eq(upstream, known)));
    for upstream in snapshot.upstreams.values() {
        let new = || (upstream.clone(), watch(upstream, &snapshot.folder, &worker.shared.metrics));
        watches.entry(address(upstream)).or_insert_with(new);
    }
}

/// The first worker fetches what upstreams say of themselves; what it returns stops that when it is dropped.
fn follow_documents(worker: &Rc<Worker>, snapshot: &Arc<Snapshot>) -> Following {
    if worker.index == 0 { follow(worker, snapshot) } else { Following::default() }
}

fn tick(worker: &Worker) {
    worker.flush_log();
    let snapshot = worker.snapshot();
    worker.pools.tidy(|endpoint| {
        let mut upstreams = snapshot.upstreams.values();
        let of = upstreams.find(|upstream| upstream.endpoints().iter().any(|known| Arc::ptr_eq(known, endpoint)));
        of.map(|upstream| upstream.spec.idle_timeout.0)
    });
}
