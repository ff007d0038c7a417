//! The listener: connections in, each with limits, and none that keeps a stopping process.
//!
//! A connection between requests (a browser opens some ahead of need) is closed as soon as the process drains; one with a
//! request under way is closed after its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::future::{Either, ready};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Inside;
use super::leftover::{Leftover, Lingering, expects};
use crate::http::Peer;
use crate::sockets::Kept;

/// Connections at a time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 8192;
/// How long a client may take to send the head of a request, and how long a connection is kept without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection without a request has to send what is left of its last answer.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);
/// How long to wait after the system refused a connection: it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process drains, then until the last answer is sent.
pub(super) async fn serve((listener, kept): (TcpListener, Kept), inside: Inside, draining: CancellationToken) {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &limit) => accepted,
            () = draining.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address, permit)) => {
                let peer = Peer { address, is_tls: false };
                let serving = connection(stream, peer, inside.clone(), draining.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, kept));
    while connections.join_next().await.is_some() {}
}

type Accepted = (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>);

async fn accept(listener: &TcpListener, limit: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    // The semaphore is never closed.
    let permit = limit.clone().acquire_owned().await.ok();
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, permit))
}

async fn connection(stream: TcpStream, peer: Peer, inside: Inside, draining: CancellationToken) {
    let busy = Arc::new(AtomicUsize::new(0));
    let leftover = Leftover::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (mut head, body) = request.into_parts();
        head.extensions.insert(peer);
        if let Some(answer) = inside.at_once(&head) {
            // It is in memory: what is left of it when the process stops is flushed like the end of any answer.
            return Either::Left(ready(Ok(answer)));
        }
        let under_way = UnderWay::begin(&busy);
        let (leftover, expects) = (leftover.clone(), expects(&head));
        let answer = inside.answer(Request::from_parts(head, leftover.watch(body)));
        Either::Right(async move {
            // It is served from here, so it has started.
            let mut answer = answer.await.unwrap_or_default();
            leftover.settle(expects, &mut answer);
            Ok::<_, Infallible>(until_sent(answer, under_way))
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let stream = TokioIo::new(Lingering::new(stream, leftover.clone()));
    let mut serving = pin!(http.serve_connection(stream, service).with_upgrades());
    tokio::select! {
        () = until_over(serving.as_mut(), &leftover) => return,
        () = draining.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    if busy.load(Ordering::Acquire) == 0 {
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, until_over(serving, &leftover)).await;
    } else {
        until_over(serving, &leftover).await;
    }
}

/// Serves a connection to its end. Errors are the client's: it went away, or sent what is not HTTP.
async fn until_over(serving: Pin<&mut impl Future>, leftover: &Leftover) {
    tokio::select! {
        _ = serving => {}
        () = leftover.discard() => {}
    }
}

/// Keeps the request counted as under way until its answer's body is sent or dropped.
fn until_sent(response: Response, under_way: UnderWay) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &under_way;
            frame
        }))
    })
}

struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::AcqRel);
        Self(busy.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
