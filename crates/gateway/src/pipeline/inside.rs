//! Forward within the process: a component of it answers, without a connection in between.
//!
//! Handlers run where the process's others do, not on the worker's thread, which goes on serving meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use axum::body::Body as ComponentBody;
use futures::SinkExt;
use futures::channel::mpsc;
use http::header::{AUTHORIZATION, HOST, UPGRADE};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::upgrade::OnUpgrade;
use tessera_service::http::Peer;
use tessera_service::{Identity, Keys};
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use super::Exchange;
use super::attempt::{Deadline, Outgoing, is_unavailable};
use crate::Error;
use crate::engine::{Body, Progress, Source, Worker};
use crate::upstream::Upstream;

/// Pieces of a body that the component has not read yet.
const PIECES_AHEAD: usize = 2;

/// Who asks where the gateway itself does.
pub(crate) const OURSELVES: Peer = Peer { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), is_tls: false };

/// What a component is asked.
pub(super) struct Asked {
    pub(super) outgoing: Outgoing,
    pub(super) body: Body,
    pub(super) deadline: Deadline,
    /// Who is said to have connected.
    pub(super) peer: Peer,
    /// The caller's connection, which the component may take over for another protocol.
    pub(super) client: Option<OnUpgrade>,
}

/// Asks a component for a caller.
///
/// # Errors
/// Those of [`ask`], and [`Error::BodyTooLarge`].
pub(super) async fn forward(
    exchange: &mut Exchange,
    upstream: &Upstream,
    outgoing: Outgoing,
    body: Body,
    deadline: Deadline,
) -> Result<Response<Source>, Error> {
    exchange.record.attempts += 1;
    let client = if outgoing.headers.contains_key(UPGRADE) { exchange.client.take() } else { None };
    let asked = Asked { outgoing, body, deadline, peer: peer_of(exchange), client };
    let answer = ask(&exchange.worker, upstream, asked).await;
    let progress = exchange.record.progress.as_deref();
    if let Some(progress) = progress.filter(|_| answer.is_ok()) {
        progress.is_answered.set(true);
    }
    // How long the caller takes to send its body says nothing about the component.
    if !progress.is_some_and(Progress::is_waiting) {
        note(&exchange.worker, upstream, deadline, &answer);
    }
    exchange.record.upload_fault().map_or(answer, Err)
}

/// Who asks, as a component is told.
pub(super) fn peer_of(exchange: &Exchange) -> Peer {
    let address = SocketAddr::new(exchange.client_ip, exchange.peer.remote.port());
    Peer { address, is_tls: exchange.peer.is_tls }
}

/// Tells the breaker how it went.
pub(super) fn note(worker: &Worker, upstream: &Upstream, deadline: Deadline, answer: &Result<Response<Source>, Error>) {
    let is_good = match answer {
        Ok(answer) => !is_unavailable(answer.status()),
        Err(Error::UpstreamTimeout { .. }) if deadline.is_callers => return,
        Err(Error::NoEndpoint { .. }) => return,
        Err(_) => false,
    };
    upstream.note(is_good, worker.now_us());
}

/// Asks a component.
///
/// # Errors
/// [`Error::NoEndpoint`] while the process starts, [`Error::UpstreamTimeout`].
pub(super) async fn ask(worker: &Rc<Worker>, upstream: &Upstream, asked: Asked) -> Result<Response<Source>, Error> {
    let Asked { outgoing, body, deadline, peer, client } = asked;
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = outgoing.method;
    head.uri = outgoing.path.into();
    head.version = Version::HTTP_11;
    head.headers = outgoing.headers;
    if let Some(host) = outgoing.host {
        head.headers.insert(HOST, host);
    }
    head.extensions.insert(peer);
    if let Some(client) = client {
        head.extensions.insert(client);
    }
    if let Some(identity) = who_asks(&worker.shared.keys, &head.headers).await {
        head.extensions.insert(identity);
    }
    if let Some(answer) = worker.shared.inside.at_once(&head) {
        return Ok(answer.map(Source::Inside));
    }
    let (inside, request) = (worker.shared.inside.clone(), Request::from_parts(head, handed_over(worker, body)));
    // A caller who hangs up ends the handler, as on a connection of its own.
    let answering = AbortOnDropHandle::new(worker.shared.runtime.spawn(async move { inside.answer(request).await }));
    match timeout_at(deadline.at, answering).await {
        Ok(Ok(Some(answer))) => Ok(answer.map(Source::Inside)),
        Ok(Ok(None)) => {
            Err(Error::NoEndpoint { upstream: upstream.name.to_string(), reason: "the process is starting" })
        }
        Ok(Err(_)) => Err(Error::Internal("a component panicked".into())),
        Err(_) => Err(deadline.missed(upstream)),
    }
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

/// A body as a component reads it. A caller's is read on this thread and handed over piece by piece.
fn handed_over(worker: &Rc<Worker>, body: Body) -> ComponentBody {
    let mut body = match body {
        Body::Empty | Body::Full(None) => return ComponentBody::empty(),
        Body::Full(Some(bytes)) => return ComponentBody::from(bytes),
        body => body,
    };
    let (mut pieces, read) = mpsc::channel(PIECES_AHEAD);
    worker.tracker.spawn_local(async move {
        while let Some(piece) = body.frame().await {
            // A component that has answered need not read on.
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    ComponentBody::new(StreamBody::new(read))
}
