//! HTTP/3: connections of QUIC on one socket, and requests on their streams, which go the way of all others.
//!
//! Handshakes cost more than datagrams with a forged sender do. Up to [`MOST_UNPROVEN`] of them may be under way with clients
//! whose address is not proven; above that a client must first answer from where it says it is (RFC 9000, 8.1.2).

mod exchange;
mod frames;
mod transport;

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connecting, Connection, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::accept::Terms;
use super::datagrams::{Datagrams, wants};
use super::worker::{Serving, Worker};
use super::{Peer, Signals};
use crate::limit::Place;
use crate::spec::Limits;
use crate::tls::names_of;
use transport::Transport;

/// Handshakes under way with clients whose address is not proven.
const MOST_UNPROVEN: usize = 256;
/// A client that says nothing is asked whether it is still there,
const PING_EVERY: Duration = Duration::from_secs(10);
/// and has gone when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(30);
/// What one stream and one connection may send before we have read of it.
const WINDOW_BYTES: u32 = 1 << 20;
/// What is kept of a connection's answers until its client has them.
const SEND_BUFFER_BYTES: u64 = 1 << 20;
/// Streams in one direction: HTTP/3 has three, and clients try their server with one they make up.
const ONE_WAY_STREAMS: u32 = 8;
/// So long a frame may be that is not data, and longer by twice what a head may be: who goes beyond that little is answered.
const FRAME_BYTES: u64 = 16 << 10;
/// Between looks whether the port was let go of.
const PORT_PAUSE: Duration = Duration::from_millis(250);
/// How long a connection without a request may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The sockets that a worker serves HTTP/3 on, by the listener's name. One that is dropped takes no more connections.
#[derive(Debug, Default)]
pub(super) struct Endpoints(HashMap<String, DropGuard>);

impl Endpoints {
    /// Serves on these, too, and leaves those that the config in use has not.
    pub(super) fn follow(&mut self, worker: &Rc<Worker>, opened: Vec<Datagrams>) {
        let snapshot = worker.snapshot();
        self.0.retain(|listener, _| wants(&snapshot, listener));
        for opened in opened {
            let gone = worker.leaving.child_token();
            self.0.insert(opened.listener.clone(), gone.clone().drop_guard());
            worker.tracker.spawn_local(listen(worker.clone(), opened, gone));
        }
    }
}

/// Takes connections until `gone` is cancelled, and ends with the last of them.
async fn listen(worker: Rc<Worker>, mut opened: Datagrams, gone: CancellationToken) {
    let Some(socket) = bound(&mut opened, &gone).await else { return };
    let Datagrams { listener, address, .. } = opened;
    let mut settings = Settings::new(listener.clone());
    let first = settings.at(&worker.snapshot());
    let endpoint = Endpoint::new(EndpointConfig::default(), first, socket, Arc::new(TokioRuntime));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return tracing::error!(%error, listener, "datagrams cannot be read; there is no HTTP/3"),
    };
    let (connections, unproven) = (TaskTracker::new(), Rc::new(Cell::new(0)));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = gone.cancelled() => break,
        };
        let Some(incoming) = incoming else { break };
        let snapshot = worker.snapshot();
        let Some(config) = settings.at(&snapshot) else {
            incoming.refuse();
            continue;
        };
        let is_proven = incoming.remote_address_validated();
        // Above the cap there is no word, as over TCP.
        let Some(place) = admit(&worker, &snapshot, incoming.remote_address()) else {
            incoming.ignore();
            continue;
        };
        if !is_proven && unproven.get() >= MOST_UNPROVEN {
            // It comes again with what we say, or was never there.
            let _ = incoming.retry();
            continue;
        }
        let Ok(connecting) = incoming.accept_with(Arc::new(config)) else { continue };
        // The place of an address that may be forged is taken when it is known.
        let place = is_proven.then_some(place);
        let counted = (!is_proven).then(|| Unproven::new(&unproven));
        let (worker, terms, gone) = (worker.clone(), Terms::of(&snapshot), gone.clone());
        let serving = Opening { worker, terms, local: address, place, counted, gone };
        connections.spawn_local(serving.serve(connecting));
    }
    connections.close();
    loop {
        tokio::select! {
            () = connections.wait() => break,
            incoming = endpoint.accept() => match incoming {
                // They are told at once, and come over TCP.
                Some(incoming) => incoming.refuse(),
                None => break,
            },
        }
    }
    let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
}

/// The socket, where need be once its port was let go of.
async fn bound(opened: &mut Datagrams, gone: &CancellationToken) -> Option<UdpSocket> {
    if let Some(socket) = opened.socket.take() {
        return Some(socket);
    }
    tracing::info!(listener = opened.listener, "HTTP/3 waits until connections of before let go of the port");
    let waiting = async {
        loop {
            match UdpSocket::bind(opened.address) {
                Ok(socket) => return socket,
                Err(_) => sleep(PORT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        socket = waiting => Some(socket),
        () = gone.cancelled() => None,
    }
}

fn admit(worker: &Worker, snapshot: &Serving, remote: SocketAddr) -> Option<Place> {
    let limits = &snapshot.spec.limits;
    worker.shared.connections.admit(remote.ip(), limits.connections, limits.connections_per_ip)
}

/// A handshake that is counted as unproven until this is dropped.
struct Unproven(Rc<Cell<usize>>);

impl Unproven {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What new connections of a listener are made by. It follows the certificates and limits of the config in use.
struct Settings {
    listener: String,
    known: Option<(Arc<ServerConfig>, Limits, quinn::ServerConfig)>,
}

impl Settings {
    fn new(listener: String) -> Self {
        Self { listener, known: None }
    }

    /// Those of the config in use, where it still has the listener.
    fn at(&mut self, snapshot: &Serving) -> Option<quinn::ServerConfig> {
        let (_, tls) = snapshot.listeners.iter().find(|(known, _)| *known == self.listener)?;
        let (tls, limits) = (tls.as_ref()?, &snapshot.spec.limits);
        if let Some((_, _, config)) =
            self.known.as_ref().filter(|(known, before, _)| Arc::ptr_eq(known, tls) && before == limits)
        {
            return Some(config.clone());
        }
        let config = match self.known.take() {
            // Clients that were told to come again do so with what the key says.
            Some((known, _, mut config)) if Arc::ptr_eq(&known, tls) => {
                config.transport_config(Arc::new(transport_of(limits)));
                config
            }
            _ => server_config(tls, limits)?,
        };
        self.known = Some((tls.clone(), limits.clone(), config.clone()));
        Some(config)
    }
}

/// The listener's TLS, for QUIC: HTTP/3 and no other protocol, and nothing before the handshake is done, since that could be
/// sent by others once more.
fn server_config(tls: &ServerConfig, limits: &Limits) -> Option<quinn::ServerConfig> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls)
        .inspect_err(|error| tracing::error!(%error, "this TLS cannot be used for HTTP/3"))
        .ok()?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_of(limits)));
    Some(config)
}

fn transport_of(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.streams.into())
        .max_concurrent_uni_streams(ONE_WAY_STREAMS.into())
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .send_window(SEND_BUFFER_BYTES)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(PING_EVERY))
        .max_idle_timeout(IdleTimeout::try_from(SILENCE).ok());
    transport
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or_default()
}

/// A connection that a client begins.
struct Opening {
    worker: Rc<Worker>,
    terms: Terms,
    local: SocketAddr,
    place: Option<Place>,
    counted: Option<Unproven>,
    gone: CancellationToken,
}

impl Opening {
    /// Shakes hands, and serves until the client ends it, has nothing to ask for a while, or floods it.
    async fn serve(self, connecting: Connecting) {
        let Self { worker, terms: Terms { limits, head, patience }, local, place, counted, gone } = self;
        // Errors here are the client's: it went away, or wants what the profile does not have.
        let connected = tokio::select! {
            connected = timeout(patience.head, connecting) => connected,
            () = worker.draining.cancelled() => return,
        };
        drop(counted);
        let Ok(Ok(connection)) = connected else { return };
        let remote = connection.remote_address();
        let Some(place) = place.or_else(|| admit(&worker, &worker.snapshot(), remote)) else {
            return connection.close(code(Code::H3_EXCESSIVE_LOAD), b"");
        };
        let peer = Rc::new(Peer { certificate: certificate_of(&connection), ..Peer::of(remote, local, true, place) });
        let signals = Arc::new(Signals::http2(head));
        let transport = Transport::new(connection.clone(), limits.head.0 * 2 + FRAME_BYTES);
        let streams = transport.streams();
        let mut builder = h3::server::builder();
        builder.max_field_section_size(limits.head.0).send_grease(false);
        let built = timeout(patience.head, builder.build::<_, Bytes>(transport)).await;
        let Ok(Ok(mut serving)) = built else { return };
        let requests = TaskTracker::new();
        let mut is_leaving = false;
        loop {
            let idle = match (is_leaving, signals.was_used()) {
                (false, _) => patience.head,
                (true, true) => patience.write,
                (true, false) => CLOSE_TIMEOUT,
            };
            tokio::select! {
                accepted = serving.accept() => {
                    // Errors are the client's: it went away, or sent what is not HTTP/3.
                    let Ok(Some(resolver)) = accepted else { break };
                    let (worker, peer, signals) = (worker.clone(), peer.clone(), signals.clone());
                    let asked = exchange::Asked { worker, peer, signals, patience, streams: streams.clone() };
                    requests.spawn_local(asked.answer(resolver));
                }
                () = signals.is_idle_for(idle) => break,
                () = signals.is_flooded() => return connection.close(code(Code::H3_EXCESSIVE_LOAD), b""),
                () = gone.cancelled(), if !is_leaving => {
                    is_leaving = true;
                    // What comes before the client has read of it is answered all the same (RFC 9114, 5.2).
                    let told = serving.shutdown(limits.streams as usize);
                    if !matches!(timeout(CLOSE_TIMEOUT, told).await, Ok(Ok(()))) {
                        break;
                    }
                }
                () = worker.draining.cancelled() => break,
            }
        }
        let _ = timeout(CLOSE_TIMEOUT, serving.shutdown(0)).await;
        requests.close();
        requests.wait().await;
    }
}

/// The names in the certificate that the client has shown.
fn certificate_of(connection: &Connection) -> Option<crate::tls::Named> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(|first| names_of(first))
}
