//! Another protocol takes over the connection (WebSocket): bytes go both ways until the service ends, or the client has and
//! the service has said what it still had to say, or both are silent.
//!
//! On HTTP/2 it takes over one stream (RFC 8441). Such a request is made into the one that HTTP/1 has for it before anything
//! looks at it, so that all phases and services see one kind of WebSocket.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Exchange, Reply, error_of, headers, respond};
use crate::Error;
use crate::engine::{Body, Source, Worker};
use crate::snapshot::Route;

const BUFFER_BYTES: usize = 16 << 10;
/// A client may still be sending when its service has ended. Closing at once would make the system drop what the service said
/// last with the client's bytes.
const LINGER: Duration = Duration::from_secs(1);
/// What a server adds to a client's key before it hashes it (RFC 6455, 1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What a service must say to a WebSocket that was asked for on a stream: the key it answers is ours, as HTTP/2 has none.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: String,
}

/// Makes a request for a WebSocket on a stream into the one of HTTP/1. Other requests stay as they are.
pub(super) fn unfold(worker: &Worker, head: &mut Parts) -> Option<Handshake> {
    let protocol = head.extensions.remove::<Protocol>()?;
    if head.method != Method::CONNECT || !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return None;
    }
    let key = BASE64_STANDARD.encode(worker.shared.ids.next().as_bytes());
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes());
    head.method = Method::GET;
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, WEBSOCKET);
    head.headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
    head.headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    Some(Handshake { accept: BASE64_STANDARD.encode(hash) })
}

fn not_here() -> Error {
    Error::MethodNotAllowed { method: "CONNECT".into(), allowed: "GET".into() }
}

/// Refuses a WebSocket on a stream where the route has none. (On HTTP/1 it would be a request like any other.)
///
/// # Errors
/// [`Error::MethodNotAllowed`].
pub(super) fn may_be_asked(exchange: &Exchange, route: &Route) -> Result<(), Error> {
    if exchange.handshake.is_some() && !route.spec.upgrades { Err(not_here()) } else { Ok(()) }
}

/// To one who asked for a WebSocket on a stream each 2xx means that it is open, so no other answer may be one.
///
/// # Errors
/// [`Error::BadAnswer`] where the service did not agree, [`Error::MethodNotAllowed`] where there is no service.
pub(super) fn agreed(exchange: &Exchange, reply: Reply) -> Result<Reply, Error> {
    let Some(handshake) = &exchange.handshake else { return Ok(reply) };
    let reason = match &reply {
        Reply::Own(status, ..) if !status.is_success() => return Ok(reply),
        Reply::Own(..) | Reply::Transcoded(..) => return Err(not_here()),
        Reply::Upstream(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let accept = answer.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
            if accept == Some(handshake.accept.as_bytes()) {
                return Ok(reply);
            }
            "its `sec-websocket-accept` is not that of the key"
        }
        Reply::Upstream(answer) if !answer.status().is_success() => return Ok(reply),
        Reply::Upstream(_) => "it answered the request for a WebSocket as any other",
    };
    let upstream = exchange.record.upstream.as_ref().map(ToString::to_string).unwrap_or_default();
    let endpoint = exchange.record.endpoint.as_ref().map(|endpoint| endpoint.url.to_string());
    Err(Error::BadAnswer { endpoint: endpoint.unwrap_or_else(|| upstream.clone()), upstream, reason: reason.into() })
}

/// The protocol that is passed on, where the route allows it: `websocket` and no other.
pub(super) fn wanted(exchange: &Exchange, route: &Route) -> Option<HeaderValue> {
    let head = &exchange.head;
    if !route.spec.upgrades || (head.version != Version::HTTP_11 && exchange.handshake.is_none()) {
        return None;
    }
    let connection = head.headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let mut options = connection.flat_map(|line| line.split(','));
    let is_asked = options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = head.headers.get(UPGRADE)?;
    (is_asked && protocol.as_bytes().eq_ignore_ascii_case(b"websocket")).then(|| protocol.clone())
}

/// Answers that the protocol changes, and passes bytes from then on.
pub(super) fn open(mut exchange: Exchange, mut answer: Response<Source>) -> Response<Body> {
    if matches!(answer.body(), Source::Inside(_)) {
        return handed_over(exchange, answer);
    }
    // What came before this was agreed on must not be taken for the other protocol.
    if let Some(fault) = exchange.record.signals.fault_of(&exchange.head) {
        return respond::refuse(exchange, error_of(fault));
    }
    let server = hyper::upgrade::on(&mut answer);
    let Some(client) = exchange.client.take() else {
        let error = Error::Internal("an upstream changed the protocol unasked".into());
        return respond::refuse(exchange, error);
    };
    let (mut head, _) = answer.into_parts();
    let protocol = head.headers.get(UPGRADE).cloned();
    headers::strip_hops(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, protocol.unwrap_or(WEBSOCKET));
    head.extensions.clear();
    head.version = Version::HTTP_11;
    let over = begin(&exchange, &mut head).drop_guard();
    let idle = exchange.route.map_or(Duration::from_secs(300), |at| exchange.snapshot.routes[at].spec.idle_timeout.0);
    let spans = Spans { idle, write: exchange.snapshot.spec.limits.write_timeout.0 };
    let Exchange { held, mut record, worker, peer, .. } = exchange;
    record.status = head.status.as_u16();
    let (tracker, draining) = (worker.tracker.clone(), worker.draining.clone());
    tracker.spawn_local(async move {
        let passing = async {
            let (client, server) = futures::future::try_join(client, server).await.ok()?;
            let mut client = TokioIo::new(client);
            let sent = pass(&mut client, TokioIo::new(server), spans).await;
            Some((sent, client))
        };
        let passed = tokio::select! {
            passed = passing => passed,
            () = draining.cancelled() => None,
        };
        record.bytes_out = passed.as_ref().map_or(0, |(sent, _)| *sent);
        record.finish(passed.is_some());
        drop((held, record));
        if let Some((_, mut client)) = passed {
            let leaving = async {
                let _ = client.shutdown().await;
                tokio::io::copy(&mut client, &mut tokio::io::sink()).await
            };
            let _ = timeout(LINGER, leaving).await;
        }
        // Its place among the connections is taken for as long as there is one.
        drop((over, peer));
    });
    Response::from_parts(head, Body::Empty)
}

/// From here on the connection is a tunnel, or one stream of it is: then the answer has the form of HTTP/2. What it gives is
/// to be cancelled when the tunnel has ended: then what the client has not taken is not waited for much longer.
fn begin(exchange: &Exchange, head: &mut http::response::Parts) -> CancellationToken {
    let (signals, over) = (&exchange.record.signals, CancellationToken::new());
    if exchange.handshake.is_none() {
        signals.open_tunnel();
        return over;
    }
    signals.open_stream(over.clone());
    head.status = StatusCode::OK;
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    over
}

/// Answers that the protocol changes where a component of this process has taken over the connection.
fn handed_over(exchange: Exchange, answer: Response<Source>) -> Response<Body> {
    let (mut head, _) = answer.into_parts();
    head.extensions.clear();
    begin(&exchange, &mut head);
    let Exchange { mut record, .. } = exchange;
    record.status = head.status.as_u16();
    record.finish(true);
    Response::from_parts(head, Body::Empty)
}

/// How long a tunnel waits.
#[derive(Clone, Copy)]
struct Spans {
    /// For either side to say something.
    idle: Duration,
    /// For a side to take the next bytes.
    write: Duration,
}

/// Passes bytes both ways, and gives how many went to the client.
async fn pass(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    spans: Spans,
) -> u64 {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let (active_at, sent) = (Cell::new(Instant::now()), Cell::new(0));
    let mut up = pin!(pump(&mut from_client, &mut to_server, spans, &active_at, |_| ()));
    let count = |count| sent.set(sent.get() + count as u64);
    let mut down = pin!(pump(&mut from_server, &mut to_client, spans, &active_at, count));
    tokio::select! {
        // Nobody hears any more what the client says.
        _ = &mut down => {}
        // A client that says no more may still be told something; one that has gone may not.
        has_said_all = &mut up => if has_said_all {
            down.await;
        },
    }
    sent.get()
}

/// Passes bytes one way, and gives whether all that there was to say was passed.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    spans: Spans,
    active_at: &Cell<Instant>,
    passed: impl Fn(usize),
) -> bool {
    let mut buffer = vec![0; BUFFER_BYTES];
    let has_said_all = loop {
        let left = spans.idle.saturating_sub(active_at.get().elapsed());
        let count = match timeout(left, from.read(&mut buffer)).await {
            Ok(Ok(0)) => break true,
            Ok(Ok(count)) => count,
            Err(_) if active_at.get().elapsed() < spans.idle => continue,
            _ => break false,
        };
        active_at.set(Instant::now());
        match timeout(spans.write, to.write_all(&buffer[..count])).await {
            Ok(Ok(())) => passed(count),
            _ => return false,
        }
    };
    let _ = timeout(spans.write, to.shutdown()).await;
    has_said_all
}
