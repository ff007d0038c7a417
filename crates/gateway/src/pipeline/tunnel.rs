//! Another protocol takes over the connection (WebSocket): bytes go both ways until one side ends or both are silent.

use std::cell::Cell;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, timeout};

use super::{Exchange, error_of, headers, respond};
use crate::Error;
use crate::engine::{Body, Source};
use crate::snapshot::Route;

const BUFFER_BYTES: usize = 16 << 10;

/// The protocol that is passed on, where the route allows it: `websocket` and no other.
pub(super) fn wanted(exchange: &Exchange, route: &Route) -> Option<HeaderValue> {
    let head = &exchange.head;
    if !route.spec.upgrades || head.version != Version::HTTP_11 {
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
    head.headers.insert(UPGRADE, protocol.unwrap_or_else(|| HeaderValue::from_static("websocket")));
    head.extensions.clear();
    head.version = Version::HTTP_11;
    let idle = exchange.route.map_or(Duration::from_secs(300), |at| exchange.snapshot.routes[at].spec.idle_timeout.0);
    let Exchange { held, mut record, worker, .. } = exchange;
    record.status = head.status.as_u16();
    record.signals.open_tunnel();
    let (tracker, draining) = (worker.tracker.clone(), worker.draining.clone());
    tracker.spawn_local(async move {
        let _held = held;
        let passing = async {
            let (client, server) = futures::future::try_join(client, server).await.ok()?;
            Some(pass(TokioIo::new(client), TokioIo::new(server), idle).await)
        };
        let passed = tokio::select! {
            passed = passing => passed,
            () = draining.cancelled() => None,
        };
        record.bytes_out = passed.unwrap_or_default();
        record.finish(passed.is_some());
    });
    Response::from_parts(head, Body::Empty)
}

/// Answers that the protocol changes where a component of this process has taken over the connection.
fn handed_over(exchange: Exchange, answer: Response<Source>) -> Response<Body> {
    let (mut head, _) = answer.into_parts();
    head.extensions.clear();
    let Exchange { mut record, .. } = exchange;
    record.status = head.status.as_u16();
    record.signals.open_tunnel();
    record.finish(true);
    Response::from_parts(head, Body::Empty)
}

/// Passes bytes both ways, and gives how many went to the client.
async fn pass(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
) -> u64 {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let (active_at, sent) = (Cell::new(Instant::now()), Cell::new(0));
    let up = pump(&mut from_client, &mut to_server, idle, &active_at, |_| ());
    let down = pump(&mut from_server, &mut to_client, idle, &active_at, |count| sent.set(sent.get() + count as u64));
    // When one side ends the other may still have something to say.
    futures::future::join(up, down).await;
    sent.get()
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    idle: Duration,
    active_at: &Cell<Instant>,
    passed: impl Fn(usize),
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let left = idle.saturating_sub(active_at.get().elapsed());
        let count = match timeout(left, from.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => count,
            Err(_) if active_at.get().elapsed() < idle => continue,
            _ => break,
        };
        active_at.set(Instant::now());
        match timeout(idle, to.write_all(&buffer[..count])).await {
            Ok(Ok(())) => passed(count),
            _ => break,
        }
    }
    let _ = to.shutdown().await;
}
