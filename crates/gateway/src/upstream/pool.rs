//! Each worker's connections to endpoints. Nothing here is shared between threads, so nothing is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::listening::Listening;
use super::wire::{Stream, Wire};
use super::{Endpoint, Upstream};
use crate::Error;
use crate::engine::{Body, LocalExecutor};
use crate::spec::Protocol;

/// Where requests to an endpoint go in.
#[derive(Debug)]
pub enum Sender {
    /// One request at a time, without a body.
    Wire(Box<Wire>),
    /// One request at a time.
    Http1(http1::SendRequest<Body>),
    /// Many at a time.
    Http2(http2::SendRequest<Body>),
}

impl Sender {
    /// Whether it can take no more requests.
    fn is_spent(&mut self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_spent(),
            Self::Http1(sender) => !sender.is_ready(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// What a request needs of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has no body, and asks for no other protocol.
    Plain,
    /// It may have either.
    Whatever,
}

/// All connections of a worker, by the address of what is known of their endpoint.
#[derive(Debug, Default)]
pub struct Pools(RefCell<HashMap<usize, Pool, ahash::RandomState>>);

#[derive(Debug)]
struct Pool {
    /// Held, so that its address is not another's while the pool is there.
    endpoint: Arc<Endpoint>,
    /// The one used last is used next, so that the others may grow old.
    idle: Vec<Idle>,
    shared: Option<Shared>,
}

/// A connection that many requests go in at the same time.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    used_at: Instant,
}

impl Pool {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: endpoint.clone(), idle: Vec::new(), shared: None }
    }

    /// The idle connection that suits best: any could be used.
    fn pop(&mut self, need: Need) -> Option<Idle> {
        let suits = |idle: &Idle| matches!(idle.sender, Sender::Wire(_)) == (need == Need::Plain);
        match self.idle.iter().rposition(suits) {
            Some(at) => Some(self.idle.remove(at)),
            None => self.idle.pop(),
        }
    }
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

/// A connection in use. Given back with [`Home::keep`]; dropped, it is closed where others could not share it.
#[derive(Debug)]
pub struct Lease {
    /// Where the request goes in.
    pub sender: Sender,
    /// Whether it had been used before, so that it may turn out to be closed.
    pub is_used: bool,
    /// Where it belongs.
    pub home: Home,
}

/// Where a connection belongs.
#[derive(Debug)]
pub struct Home {
    endpoint: Arc<Endpoint>,
    most_idle: usize,
    pools: Rc<Pools>,
}

impl Home {
    /// Keeps a connection for the next request. Call it when the answer was read to its end.
    pub(super) fn keep(self, sender: Sender) {
        let mut pools = self.pools.0.borrow_mut();
        let pool = pools.entry(address(&self.endpoint)).or_insert_with(|| Pool::of(&self.endpoint));
        if pool.idle.len() < self.most_idle {
            pool.idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Pools {
    /// A connection to the endpoint: one that is idle `now`, or a new one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where there is none within the upstream's `connect_timeout`.
    pub async fn lease(
        self: &Rc<Self>,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        need: Need,
        now: Instant,
    ) -> Result<Lease, Error> {
        let (sender, is_used) = match self.take_idle(upstream, endpoint, need, now) {
            Some(Sender::Wire(wire)) if need == Need::Whatever => {
                let sender = by_library(wire.into_library(), upstream, false).await;
                (sender.map_err(|error| unreachable(upstream, endpoint, error.to_string()))?, true)
            }
            Some(sender) => (sender, true),
            // Boxed: it is large, and rarely needed.
            None => (Box::pin(connect(upstream, endpoint, need)).await?, false),
        };
        if let Sender::Http2(sender) = &sender
            && !is_used
        {
            let mut pools = self.0.borrow_mut();
            let pool = pools.entry(address(endpoint)).or_insert_with(|| Pool::of(endpoint));
            pool.shared = Some(Shared { sender: sender.clone(), used_at: Instant::now() });
        }
        let home = Home { endpoint: endpoint.clone(), most_idle: upstream.spec.idle_connections, pools: self.clone() };
        Ok(Lease { sender, is_used, home })
    }

    fn take_idle(&self, upstream: &Upstream, endpoint: &Arc<Endpoint>, need: Need, now: Instant) -> Option<Sender> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.get_mut(&address(endpoint))?;
        if let Some(shared) = pool.shared.as_mut().filter(|shared| !shared.sender.is_closed()) {
            shared.used_at = now;
            return Some(Sender::Http2(shared.sender.clone()));
        }
        pool.shared = None;
        while let Some(Idle { mut sender, since }) = pool.pop(need) {
            if !sender.is_spent() && now.saturating_duration_since(since) < upstream.spec.idle_timeout.0 {
                return Some(sender);
            }
        }
        None
    }

    /// Closes what is too old or belongs to nobody; one that requests are under way on closes behind them. `keep` gives how long the connections of an endpoint may be idle.
    pub fn tidy(&self, keep: impl Fn(&Arc<Endpoint>) -> Option<std::time::Duration>) {
        self.0.borrow_mut().retain(|_, pool| {
            let Some(longest) = keep(&pool.endpoint) else { return false };
            pool.idle.retain_mut(|idle| !idle.sender.is_spent() && idle.since.elapsed() < longest);
            let is_kept = |shared: &Shared| !shared.sender.is_closed() && shared.used_at.elapsed() < longest;
            pool.shared.take_if(|shared| !is_kept(shared));
            pool.shared.is_some() || !pool.idle.is_empty()
        });
    }
}

fn address(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

fn unreachable(upstream: &Upstream, endpoint: &Endpoint, reason: String) -> Error {
    Error::Unreachable { upstream: upstream.name.to_string(), endpoint: endpoint.url.to_string(), reason }
}

/// A new connection.
pub(super) async fn connect(upstream: &Upstream, endpoint: &Endpoint, need: Need) -> Result<Sender, Error> {
    let limit = upstream.spec.connect_timeout.0;
    match timeout(limit, open(upstream, endpoint, need)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(reason)) => Err(unreachable(upstream, endpoint, reason)),
        Err(_) => Err(unreachable(upstream, endpoint, format!("no connection within {} ms", limit.as_millis()))),
    }
}

async fn open(upstream: &Upstream, endpoint: &Endpoint, need: Need) -> Result<Sender, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let url = &endpoint.url;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| said(&error))?;
    stream.set_nodelay(true).map_err(|error| said(&error))?;
    let (stream, is_http2) = if url.is_tls {
        let name = upstream.spec.tls.name.as_ref().or(endpoint.name.as_ref()).unwrap_or(&url.host).clone();
        let name = ServerName::try_from(name).map_err(|error| said(&error))?;
        let connector = TlsConnector::from(upstream.tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| said(&error))?;
        let is_http2 = match upstream.spec.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Negotiate => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        (Stream::Tls(Box::new(stream)), is_http2)
    } else {
        (Stream::Plain(stream), upstream.spec.protocol == Protocol::Http2)
    };
    if need == Need::Plain && !is_http2 {
        return Ok(Sender::Wire(Wire::new(stream)));
    }
    by_library(stream, upstream, is_http2).await.map_err(|error| said(&error))
}

async fn by_library(stream: Stream, upstream: &Upstream, is_http2: bool) -> hyper::Result<Sender> {
    if is_http2 {
        let stream = TokioIo::new(stream);
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            // One that does not answer is closed, so that what waits on it fails and the next request opens another.
            .keep_alive_interval(upstream.spec.ping_every.0)
            .keep_alive_timeout(upstream.spec.connect_timeout.0)
            .keep_alive_while_idle(true);
        let (sender, connection) = builder.handshake(stream).await?;
        // Its end is seen by whoever uses the sender next.
        tokio::task::spawn_local(async move { connection.await.ok() });
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(Listening::new(stream))).await?;
    tokio::task::spawn_local(async move { connection.with_upgrades().await.ok() });
    Ok(Sender::Http1(sender))
}
