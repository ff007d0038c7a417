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

use super::{Endpoint, Upstream};
use crate::Error;
use crate::engine::{Body, LocalExecutor};
use crate::spec::Protocol;

/// Where requests to an endpoint go in.
#[derive(Debug)]
pub enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Body>),
    /// Many at a time.
    Http2(http2::SendRequest<Body>),
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
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// A connection in use. Given back with [`Lease::give_back`]; dropped, it is closed where others could not share it.
#[derive(Debug)]
pub struct Lease {
    /// Where the request goes in.
    pub sender: Sender,
    /// Whether it had been used before, so that it may turn out to be closed.
    pub is_used: bool,
    endpoint: Arc<Endpoint>,
    most_idle: usize,
    pools: Rc<Pools>,
}

impl Lease {
    /// Keeps the connection for the next request. Call it when the answer was read to its end.
    pub fn give_back(self) {
        let Sender::Http1(sender) = self.sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut pools = self.pools.0.borrow_mut();
        let pool = pools.entry(address(&self.endpoint)).or_insert_with(|| Pool::of(&self.endpoint));
        if pool.idle.len() < self.most_idle {
            pool.idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Pools {
    /// A connection to the endpoint: one that is idle, or a new one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where there is none within the upstream's `connect_timeout`.
    pub async fn lease(self: &Rc<Self>, upstream: &Upstream, endpoint: &Arc<Endpoint>) -> Result<Lease, Error> {
        let lease = |sender, is_used| Lease {
            sender,
            is_used,
            endpoint: endpoint.clone(),
            most_idle: upstream.spec.idle_connections,
            pools: self.clone(),
        };
        if let Some(sender) = self.take_idle(upstream, endpoint) {
            return Ok(lease(sender, true));
        }
        // Boxed: it is large, and rarely needed.
        let sender = Box::pin(connect(upstream, endpoint)).await?;
        if let Sender::Http2(sender) = &sender {
            let mut pools = self.0.borrow_mut();
            let pool = pools.entry(address(endpoint)).or_insert_with(|| Pool::of(endpoint));
            pool.shared = Some(Shared { sender: sender.clone(), used_at: Instant::now() });
        }
        Ok(lease(sender, false))
    }

    fn take_idle(&self, upstream: &Upstream, endpoint: &Arc<Endpoint>) -> Option<Sender> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.get_mut(&address(endpoint))?;
        if let Some(shared) = pool.shared.as_mut().filter(|shared| !shared.sender.is_closed()) {
            shared.used_at = Instant::now();
            return Some(Sender::Http2(shared.sender.clone()));
        }
        pool.shared = None;
        while let Some(Idle { sender, since }) = pool.idle.pop() {
            if sender.is_ready() && since.elapsed() < upstream.spec.idle_timeout.0 {
                return Some(Sender::Http1(sender));
            }
        }
        None
    }

    /// Closes what is too old or belongs to nobody; one that requests are under way on closes behind them. `keep` gives how long the connections of an endpoint may be idle.
    pub fn tidy(&self, keep: impl Fn(&Arc<Endpoint>) -> Option<std::time::Duration>) {
        self.0.borrow_mut().retain(|_, pool| {
            let Some(longest) = keep(&pool.endpoint) else { return false };
            pool.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < longest);
            let is_kept = |shared: &Shared| !shared.sender.is_closed() && shared.used_at.elapsed() < longest;
            pool.shared.take_if(|shared| !is_kept(shared));
            pool.shared.is_some() || !pool.idle.is_empty()
        });
    }
}

fn address(endpoint: &Arc<Endpoint>) -> usize {
    Arc::as_ptr(endpoint).addr()
}

/// A new connection.
pub(super) async fn connect(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, Error> {
    let unreachable = |reason: String| Error::Unreachable {
        upstream: upstream.name.to_string(),
        endpoint: endpoint.url.to_string(),
        reason,
    };
    let limit = upstream.spec.connect_timeout.0;
    match timeout(limit, open(upstream, endpoint)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(reason)) => Err(unreachable(reason)),
        Err(_) => Err(unreachable(format!("no connection within {} ms", limit.as_millis()))),
    }
}

async fn open(upstream: &Upstream, endpoint: &Endpoint) -> Result<Sender, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let url = &endpoint.url;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| said(&error))?;
    stream.set_nodelay(true).map_err(|error| said(&error))?;
    if !url.is_tls {
        return handshake(stream, upstream, upstream.spec.protocol == Protocol::Http2)
            .await
            .map_err(|error| said(&error));
    }
    let name = upstream.spec.tls.name.as_ref().or(endpoint.name.as_ref()).unwrap_or(&url.host).clone();
    let name = ServerName::try_from(name).map_err(|error| said(&error))?;
    let connector = TlsConnector::from(upstream.tls.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| said(&error))?;
    let is_http2 = match upstream.spec.protocol {
        Protocol::Http1 => false,
        Protocol::Http2 => true,
        Protocol::Negotiate => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
    };
    handshake(stream, upstream, is_http2).await.map_err(|error| said(&error))
}

async fn handshake<S>(stream: S, upstream: &Upstream, is_http2: bool) -> hyper::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    if is_http2 {
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
    let (sender, connection) = http1::Builder::new().handshake(stream).await?;
    tokio::task::spawn_local(async move { connection.with_upgrades().await.ok() });
    Ok(Sender::Http1(sender))
}
