//! Forward within the process: a component of it answers, without a connection in between.
//!
//! Handlers run where the process's others do, not on the worker's thread, which goes on serving meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body as ComponentBody;
use futures::SinkExt;
use futures::channel::mpsc;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use tessera_service::http::Peer;
use tessera_service::{Identity, Keys};
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use super::forward::Deadline;
use super::{Exchange, forward, tunnel};
use crate::Error;
use crate::snapshot::Route;
use crate::upstream::Upstream;

/// Pieces of a body that the component has not read yet.
const PIECES_AHEAD: usize = 2;

/// Asks a component. `client` is the caller's connection, which the component may take over for another protocol.
///
/// # Errors
/// [`Error::NoEndpoint`] while the process starts, [`Error::UpstreamTimeout`], [`Error::BodyTooLarge`].
pub(super) async fn ask(
    exchange: &mut Exchange,
    route: &Route,
    upstream: &Arc<Upstream>,
    host: Option<&HeaderValue>,
    incoming: Incoming,
    client: &mut Option<OnUpgrade>,
) -> Result<Response<ComponentBody>, Error> {
    let deadline = Deadline::of(route, &exchange.head.headers);
    exchange.record.upstream = Some(upstream.name.clone());
    exchange.held.entered = Some(upstream.enter(exchange.worker.now_us())?);
    let peer = Peer {
        address: SocketAddr::new(exchange.client_ip, exchange.peer.remote.port()),
        is_tls: exchange.peer.is_tls,
    };
    let is_upgrade = tunnel::wanted(exchange, route).is_some();
    let outgoing = forward::prepare(exchange, route, upstream, host)?;
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = outgoing.method;
    head.uri = outgoing.path.into();
    head.version = Version::HTTP_11;
    head.headers = outgoing.headers;
    if let Some(host) = outgoing.host {
        head.headers.insert(HOST, host);
    }
    head.extensions.insert(peer);
    if let Some(client) = client.take_if(|_| is_upgrade) {
        head.extensions.insert(client);
    }
    let worker = exchange.worker.clone();
    if let Some(identity) = who_asks(&worker.shared.keys, &head.headers).await {
        head.extensions.insert(identity);
    }
    if let Some(answer) = worker.shared.inside.at_once(&head) {
        return Ok(answer);
    }
    let body = if incoming.is_end_stream() { ComponentBody::empty() } else { handed_over(exchange, route, incoming)? };
    let (inside, request) = (worker.shared.inside.clone(), Request::from_parts(head, body));
    // A caller who hangs up ends the handler, as on a connection of its own.
    let answering = AbortOnDropHandle::new(worker.shared.runtime.spawn(async move { inside.answer(request).await }));
    let answer = match timeout_at(deadline.at, answering).await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => {
            Err(Error::NoEndpoint { upstream: upstream.name.to_string(), reason: "the process is starting" })
        }
        Ok(Err(_)) => Err(Error::Internal("a component panicked".into())),
        Err(_) => Err(forward::late(exchange, upstream)),
    };
    forward::uploads_fault(exchange, route).map_or(answer, Err)
}

/// Who asks, by a token that this installation believes: components need not look again. What does not hold they refuse in
/// their own words, where they need it at all.
async fn who_asks(keys: &Keys, headers: &HeaderMap) -> Option<Identity> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    keys.authenticate(token.trim()).await.ok()
}

/// The caller's body, read on this thread and handed over piece by piece as the component reads it.
fn handed_over(exchange: &mut Exchange, route: &Route, incoming: Incoming) -> Result<ComponentBody, Error> {
    let mut upload = forward::upload(exchange, route, incoming, false)?;
    let (mut pieces, read) = mpsc::channel(PIECES_AHEAD);
    exchange.worker.tracker.spawn_local(async move {
        while let Some(piece) = upload.frame().await {
            // A component that has answered need not read on.
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    Ok(ComponentBody::new(StreamBody::new(read)))
}
