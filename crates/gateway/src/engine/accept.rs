//! From a listener to a served connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::{http1 as library, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::executor::StreamExecutor;
use super::guard::{Guard, Patience, Signals, Step};
use super::worker::Worker;
use super::{Body, Peer, http1, poll_read_some};
use crate::domain::framing::HeadLimits;
use crate::pipeline;
use crate::snapshot::Snapshot;
use crate::spec::Limits;
use crate::tls::{PROOF_PROTOCOL, names_of};

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait after the system refused a connection: it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A connection that says nothing is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Kept of each answer until the client's window opens.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// So much of an answer lies with the system and is not on its way yet; the rest waits here, where it has a deadline.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;
/// How long a connection without a request may take to close when the gateway stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Takes connections for as long as it is polled.
pub(super) async fn accept(worker: Rc<Worker>, address: String, listener: TcpListener) {
    let Ok(local) = listener.local_addr() else { return };
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let snapshot = worker.snapshot();
        let limits = &snapshot.spec.limits;
        let place = worker.shared.connections.admit(remote.ip(), limits.connections, limits.connections_per_ip);
        // Above the cap it is closed without a word: a refusal in TLS would cost more than what the cap saves.
        let Some(place) = place else { continue };
        let _ = stream.set_nodelay(true);
        keep_little(&stream, limits.write_timeout.0);
        let tls = snapshot.listeners.iter().find(|(known, _)| *known == address).and_then(|(_, tls)| tls.clone());
        let peer = Peer::of(remote, local, tls.is_some(), place);
        let serving = connection(worker.clone(), Terms::of(&snapshot), tls, peer, stream);
        worker.tracker.spawn_local(serving);
    }
}

/// What is written lies with the system until the client takes it, even when the connection was closed here long ago. That is
/// bounded, and of a client that takes nothing more the system gives up by the deadline that we have; one that takes a little
/// begins it anew.
fn keep_little(stream: &TcpStream, patience: Duration) {
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
        let _ = socket.set_tcp_user_timeout(Some(patience));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, patience);
}

/// A client's connection.
pub(super) trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The client takes too little: what it was sent and has not taken is dropped when the connection is, and not kept by the
    /// system.
    fn drop_unread(&self);
}

impl ClientStream for TcpStream {
    fn drop_unread(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl ClientStream for TlsStream<TcpStream> {
    fn drop_unread(&self) {
        self.get_ref().0.drop_unread();
    }
}

/// What a connection goes by for as long as it lasts. The config that it began under does not last for its sake.
pub(super) struct Terms {
    pub(super) limits: Limits,
    pub(super) head: HeadLimits,
    pub(super) patience: Patience,
}

impl Terms {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let limits = snapshot.spec.limits.clone();
        Self { patience: Patience::of(&limits), head: snapshot.head_limits, limits }
    }
}

async fn connection(
    worker: Rc<Worker>,
    terms: Terms,
    tls: Option<Arc<ServerConfig>>,
    mut peer: Peer,
    stream: TcpStream,
) {
    let Some(tls) = tls else {
        return serve(worker, terms, peer, stream, None).await;
    };
    // Errors here are the client's: it went away, or wants what the profile does not have. Boxed, as a session is large and
    // a connection without TLS has none.
    let accepted = tokio::select! {
        accepted = timeout(terms.patience.head, Box::pin(TlsAcceptor::from(tls).accept(stream))) => accepted,
        () = worker.draining.cancelled() => return,
    };
    let Ok(Ok(stream)) = accepted else { return };
    let session = stream.get_ref().1;
    if session.alpn_protocol().is_some_and(|protocol| protocol == PROOF_PROTOCOL) {
        // The handshake was all that the authority wanted to see (RFC 8737).
        return;
    }
    let is_http2 = session.alpn_protocol().map(|protocol| protocol == b"h2");
    peer.certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|first| names_of(first));
    Box::pin(serve(worker, terms, peer, stream, is_http2)).await;
}

/// Serves HTTP/1 or HTTP/2; where TLS did not choose, the first bytes do.
async fn serve<S>(worker: Rc<Worker>, terms: Terms, peer: Peer, mut stream: S, is_http2: Option<bool>)
where
    S: ClientStream + Send + 'static,
{
    let mut read = Bytes::new();
    let is_http2 = match is_http2 {
        Some(known) => known,
        None => {
            let sniffed = tokio::select! {
                sniffed = timeout(terms.patience.head, sniff(&mut stream, &mut read)) => sniffed,
                () = worker.draining.cancelled() => return,
            };
            match sniffed {
                Ok(Ok(is_http2)) => is_http2,
                _ => return,
            }
        }
    };
    let (peer, Terms { limits, patience, .. }) = (Rc::new(peer), &terms);
    if is_http2 {
        let signals = Arc::new(Signals::http2(terms.head));
        let guard = Guard::unframed(stream, BytesMut::from(&read[..]), *patience, signals.clone());
        return Box::pin(serve_http2(&worker, limits, peer, guard, &signals)).await;
    }
    let signals = Arc::new(Signals::http1());
    let rest = http1::serve(&worker, &terms, &peer, &signals, stream, read).await;
    let Some((stream, read)) = rest else { return };
    let guard = Guard::new(stream, BytesMut::from(&read[..]), terms.head, *patience, signals.clone());
    Box::pin(serve_http1(&worker, limits, peer, guard, &signals)).await;
}

/// Serves HTTP/1 by the library.
async fn serve_http1<S>(worker: &Rc<Worker>, limits: &Limits, peer: Rc<Peer>, guard: Guard<S>, signals: &Arc<Signals>)
where
    S: ClientStream + Send + 'static,
{
    let mut http = library::Builder::new();
    // The guard has looked at lengths and times already; these bounds are only never to be met.
    http.max_buf_size((limits.head.0 as usize * 2).max(64 << 10)).header_read_timeout(None);
    if limits.headers > 100 {
        http.max_headers(limits.headers);
    }
    // Errors are the client's: it went away, or sent what is not HTTP.
    let mut serving = pin!(http.serve_connection(guard, service(worker, peer, signals)).with_upgrades());
    tokio::select! {
        _ = serving.as_mut() => return,
        () = worker.draining.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    if signals.is_busy() {
        let _ = serving.await;
    } else {
        let _ = timeout(CLOSE_TIMEOUT, serving).await;
    }
}

/// Answers the requests of one connection.
fn service(
    worker: &Rc<Worker>,
    peer: Rc<Peer>,
    signals: &Arc<Signals>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: 'static> + use<> {
    let (worker, signals) = (worker.clone(), signals.clone());
    service_fn(move |request: Request<Incoming>| {
        let (worker, peer, signals) = (worker.clone(), peer.clone(), signals.clone());
        async move {
            let mut answering =
                pin!(pipeline::handle(worker, peer, signals.clone(), request.map(super::Incoming::from)));
            let answer = poll_fn(|cx| {
                let polled = answering.as_mut().poll(cx);
                if polled.is_pending() {
                    signals.set_step(Step::Waits);
                }
                polled
            });
            Ok::<Response<Body>, Infallible>(answer.await)
        }
    })
}

/// Serves HTTP/2 until the client ends it, has nothing to ask for a while, or floods it.
async fn serve_http2<S>(worker: &Rc<Worker>, limits: &Limits, peer: Rc<Peer>, guard: Guard<S>, signals: &Arc<Signals>)
where
    S: ClientStream + Send + 'static,
{
    let (idle, write) = (limits.head_timeout.0, limits.write_timeout.0);
    let draining = worker.draining.clone();
    let mut http = http2::Builder::new(StreamExecutor { signals: signals.clone(), patience: write, draining });
    http.timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(limits.streams)
        // WebSockets on streams (RFC 8441).
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(limits.head.0).unwrap_or(u32::MAX));
    // Errors are the client's: it went away, or sent what is not HTTP/2.
    let mut serving = pin!(http.serve_connection(guard, service(worker, peer, signals)));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = signals.is_idle_for(idle) => {}
        () = signals.is_flooded() => return,
        // What comes before the client has read of it is answered all the same (RFC 9113, 6.8).
        () = worker.leaving.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    // What is under way has deadlines of its own; the rest is what was answered and is not taken yet.
    let rest = if signals.was_used() { write } else { CLOSE_TIMEOUT };
    tokio::select! {
        _ = serving.as_mut() => {}
        () = signals.is_idle_for(rest) => {}
        () = signals.is_flooded() => {}
    }
}

/// Reads until it is clear whether HTTP/2 is spoken.
async fn sniff(stream: &mut (impl AsyncRead + Unpin), read: &mut Bytes) -> std::io::Result<bool> {
    loop {
        if poll_fn(|cx| poll_read_some(stream, cx, read)).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let common = read.len().min(PREFACE.len());
        if read[..common] != PREFACE[..common] {
            return Ok(false);
        }
        if common == PREFACE.len() {
            return Ok(true);
        }
    }
}
