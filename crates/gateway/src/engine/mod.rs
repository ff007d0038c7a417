//! The engine: threads that serve, each with a runtime, listeners, connections and counters of its own.

mod accept;
mod body;
mod datagrams;
mod executor;
mod grpc_web;
mod guard;
mod http1;
mod incoming;
#[cfg(feature = "http3")]
mod quic;
mod reading;
mod record;
mod spare;
mod trace;
mod worker;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use socket2::{Domain, Protocol, Socket, Type};
use tessera_service::sockets::Sockets;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::sync::CancellationToken;

pub use body::{Answer, Body, BoxError, Flow, Held, Progress, Source, Upload, UploadFault, discard};
pub use executor::LocalExecutor;
pub use grpc_web::{WebAnswer, WebText};
pub use guard::{Fault, Signals, Step};
pub use incoming::Incoming;
pub use reading::poll_read_some;
pub use record::Record;
pub use spare::Spare;
pub(crate) use trace::TRACE_PARENT;
pub use trace::{Told, Trace, tracer};
pub use worker::{Order, Serving, Shared, Worker};

use crate::Error;
use crate::limit::Place;
use crate::snapshot::Snapshot;
use crate::tls::Named;
use datagrams::{Datagrams, IfTaken, wants};
use worker::{Opened, Start};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long the last lines of the access log may take to be written.
pub const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// Orders that a worker has not read yet; it reads them between requests.
const MOST_ORDERS: usize = 16;
/// Times that the system chooses a port, where its first choice is not free for datagrams.
const MOST_CHOICES: usize = 16;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub remote: SocketAddr,
    /// The same without its port, as services are told.
    pub remote_text: HeaderValue,
    /// The address it came to.
    pub local: SocketAddr,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// The names in its certificate.
    pub certificate: Option<Named>,
    /// Its connection's place, which others may have when nobody has to do with this one any more.
    pub place: Place,
}

impl Peer {
    /// Without a certificate.
    fn of(remote: SocketAddr, local: SocketAddr, is_tls: bool, place: Place) -> Self {
        let text = remote.ip().to_canonical().to_string();
        let remote_text = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { remote, remote_text, local, is_tls, certificate: None, place }
    }
}

/// Workers that serve.
#[derive(Debug)]
pub struct Engine {
    shared: Shared,
    snapshot: ArcSwap<Snapshot>,
    orders: Vec<Sender<Order>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    addresses: Vec<SocketAddr>,
    /// Listeners where HTTP/3 is spoken, or was: connections may still be ending there.
    spoken: Mutex<HashSet<String>>,
    leaving: CancellationToken,
    draining: CancellationToken,
}

impl Engine {
    /// Opens all listeners, then starts the workers.
    ///
    /// # Errors
    /// [`Error::Listener`] where an address cannot be used; nothing was started then.
    pub fn start(shared: Shared, snapshot: Snapshot, workers: usize) -> Result<Self, Error> {
        let snapshot = Arc::new(snapshot);
        let mut opened: Vec<Opened> = (0..workers).map(|_| Opened::default()).collect();
        let (mut addresses, mut spoken) = (Vec::new(), HashSet::new());
        for (address, _) in &snapshot.listeners {
            let (sockets, datagrams) = open_new(address, workers, &shared.sockets, wants(&snapshot, address), false)?;
            addresses.extend(sockets.first().and_then(|socket| socket.local_addr().ok()));
            if let Some(datagrams) = datagrams {
                give_out(datagrams, &mut opened);
                spoken.insert(address.clone());
            }
            share_out(address, sockets, &mut opened);
        }
        if let Some(cache) = &snapshot.cache {
            cache.open_disk();
        }
        let (leaving, draining) = (CancellationToken::new(), CancellationToken::new());
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for (index, opened) in opened.into_iter().enumerate() {
            let (orders, read) = channel(MOST_ORDERS);
            let start = Start {
                index,
                shared: shared.clone(),
                snapshot: snapshot.clone(),
                opened,
                orders: read,
                leaving: leaving.clone(),
                draining: draining.clone(),
            };
            let spawned = std::thread::Builder::new().name(format!("gateway-{index}")).spawn(move || work(start));
            threads.push(spawned.map_err(|error| Error::Internal(format!("no thread for a worker: {error}")))?);
            senders.push(orders);
        }
        let (snapshot, threads, spoken) = (ArcSwap::new(snapshot), Mutex::new(threads), Mutex::new(spoken));
        Ok(Self { shared, snapshot, orders: senders, threads, addresses, spoken, leaving, draining })
    }

    /// Where it listens, in the order of the config it was started with.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all workers have in common.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The config in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Swaps the config: each worker serves by the new one from its next request on. Listeners that are new are opened
    /// first, and those that are gone are closed.
    ///
    /// # Errors
    /// [`Error::Listener`] where a new address cannot be used; then nothing changes.
    pub async fn swap(&self, snapshot: Snapshot) -> Result<(), Error> {
        let before = self.snapshot();
        let mut opened: Vec<Opened> = self.orders.iter().map(|_| Opened::default()).collect();
        for (address, _) in &snapshot.listeners {
            let is_new = !before.listeners.iter().any(|(known, _)| known == address);
            let speaks = wants(&snapshot, address) && !wants(&before, address);
            let was_spoken = self.spoken().contains(address);
            let (sockets, datagrams) = if is_new {
                open_new(address, self.orders.len(), &self.shared.sockets, speaks, was_spoken)?
            } else {
                let if_taken = IfTaken::of(Origin::Opened, was_spoken);
                (Vec::new(), speaks.then(|| Datagrams::open(address, &[], if_taken)).transpose()?)
            };
            if let Some(datagrams) = datagrams {
                give_out(datagrams, &mut opened);
                self.spoken().insert(address.clone());
            }
            share_out(address, sockets, &mut opened);
        }
        if let Some(cache) = &snapshot.cache {
            cache.open_disk();
        }
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(snapshot.clone());
        for (orders, opened) in self.orders.iter().zip(opened) {
            // A worker that does not listen any more is stopping.
            let _ = orders.send(Order::Swap(snapshot.clone(), opened)).await;
        }
        Ok(())
    }

    fn spoken(&self) -> MutexGuard<'_, HashSet<String>> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more connections, lets requests end for as long as `limits.drain` allows, and waits for that and for the
    /// last line of the log. Where another process listens on the sockets now, callers who keep a connection have half of that
    /// time, before all else, to ask once more and be told to go there.
    pub async fn stop(&self) {
        self.leaving.cancel();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let log = self.snapshot().log.clone();
        let mut stopping = tokio::task::spawn_blocking(move || {
            if !threads.into_iter().all(|thread| thread.join().is_ok()) {
                tracing::error!("a worker panicked");
            }
            if !log.finish(LOG_PATIENCE) {
                tracing::error!("the access log could not be written to its end");
            }
        });
        let mut ended = None;
        if self.shared.sockets.are_handed_on() {
            let drain = self.snapshot().spec.limits.drain.0;
            let longest = self.shared.longest_drain.map_or(drain, |longest| drain.min(longest));
            ended = tokio::time::timeout(longest / 2, &mut stopping).await.ok();
        }
        self.draining.cancel();
        let ended = match ended {
            Some(ended) => ended,
            None => stopping.await,
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the workers could not be waited for");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.leaving.cancel();
        self.draining.cancel();
    }
}

fn work(start: Start) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(worker::run(start)),
        Err(error) => tracing::error!(%error, "a worker has no runtime"),
    }
}

/// The sockets of an address, at least one for each worker: those that the process was started with, or new ones.
fn sockets_of(address: &str, workers: usize, given: &Sockets) -> Result<(Vec<TcpListener>, Origin), Error> {
    let refuse = |reason: String| Error::Listener { address: address.to_owned(), reason };
    let wanted: SocketAddr = address.parse().map_err(|_| refuse("it is not an address".into()))?;
    let mut sockets = given.take(wanted);
    if sockets.is_empty() {
        let opened = open(wanted, workers).map_err(|error| refuse(error.to_string()))?;
        return Ok((opened, Origin::Opened));
    }
    // Where there are fewer than workers some share a queue.
    for at in 0..workers.saturating_sub(sockets.len()) {
        let copy = sockets[at].try_clone().map_err(|error| refuse(error.to_string()))?;
        sockets.push(copy);
    }
    Ok((sockets, Origin::Inherited))
}

/// Each queue needs somebody who takes from it.
fn share_out(address: &str, sockets: Vec<TcpListener>, workers: &mut [Opened]) {
    let count = workers.len().max(1);
    for (at, socket) in sockets.into_iter().enumerate() {
        workers[at % count].listeners.push((address.to_owned(), socket));
    }
}

/// What a new listener has: its sockets for connections, and the one for datagrams where it `speaks` HTTP/3. A port that the
/// system chooses must be free for both, so it is asked again where another has that of the datagrams.
fn open_new(
    address: &str,
    workers: usize,
    given: &Sockets,
    speaks: bool,
    was_spoken: bool,
) -> Result<(Vec<TcpListener>, Option<Datagrams>), Error> {
    let is_chosen = address.parse::<SocketAddr>().is_ok_and(|address| address.port() == 0);
    let mut choices = if is_chosen { MOST_CHOICES } else { 1 };
    loop {
        let (sockets, origin) = sockets_of(address, workers, given)?;
        if !speaks {
            return Ok((sockets, None));
        }
        choices -= 1;
        match Datagrams::open(address, &sockets, IfTaken::of(origin, was_spoken)) {
            Err(_) if choices > 0 => {}
            opened => return opened.map(|datagrams| (sockets, Some(datagrams))),
        }
    }
}

/// The worker that has the fewest gets it.
fn give_out(datagrams: Datagrams, workers: &mut [Opened]) {
    if let Some(least) = workers.iter_mut().min_by_key(|worker| worker.datagrams.len()) {
        least.datagrams.push(datagrams);
    }
}

/// One socket for each worker on the same address; the system shares connections out among them.
fn open(mut address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpListener>> {
    // Sockets of our own share the port; that of another process must not be shared unnoticed.
    drop(bind(address, Port::Alone)?);
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = bind(address, Port::Shared)?;
        // With port 0 the first socket's is everybody's.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Where a listening socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// We opened it.
    Opened,
    /// The process was started with it.
    Inherited,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn bind(address: SocketAddr, port: Port) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if port == Port::Shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
