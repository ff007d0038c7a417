//! A request's way: identify → match → limit what anybody may → authenticate → authorise → limit → version → validate → cache → forward →
//! transform → respond → log.
//!
//! The phases are functions over one [`Exchange`], in one order, and each does only what the request's route has compiled
//! for it. A phase that refuses ends the way with an error; whatever ends it, [`Record`] is counted and logged when the
//! last byte was sent or the caller has gone.

mod access;
mod aggregate;
mod attempt;
mod cache;
mod call;
mod choose;
mod compress;
mod document;
mod forward;
mod headers;
mod hedge;
mod identify;
mod inflate;
mod inside;
mod limits;
mod mirror;
mod own;
mod respond;
mod shaped;
mod transcode;
mod tunnel;
mod upload;
mod version;

pub(crate) use attempt::{Deadline, Outgoing};
pub(crate) use call::{Call, call};
use forward::Toward;
pub(crate) use inside::OURSELVES;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use crate::Error;
use crate::auth::Identity;
use crate::domain::coding::{self, Coding};
use crate::domain::grpc::Dialect;
use crate::engine::{Body, Fault, Held, Incoming, Peer, Record, Serving, Signals, Source, Worker};
use crate::limit::Outcome;
use crate::snapshot::Action;
use crate::transcode::Transcoded;

/// What is known of a request on its way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) snapshot: Rc<Serving>,
    pub(crate) peer: Rc<Peer>,
    pub(crate) head: Parts,
    /// The path in its one spelling.
    pub(crate) path: String,
    pub(crate) client_ip: IpAddr,
    /// The host without port, in small letters.
    pub(crate) host: String,
    /// The route's place in the snapshot.
    pub(crate) route: Option<usize>,
    /// The path's parameters, escaped.
    pub(crate) captures: Vec<String>,
    pub(crate) identity: Option<Arc<Identity>>,
    /// The dialect of gRPC that the caller speaks.
    pub(crate) grpc: Option<Dialect>,
    /// The caller's connection, where another protocol may take it over.
    pub(crate) client: Option<OnUpgrade>,
    /// What must agree where that is a stream of its connection.
    pub(crate) handshake: Option<tunnel::Handshake>,
    /// The version that was asked for, by its place among the route's.
    pub(crate) version: Option<usize>,
    /// The tightest rate limit's word, for the answer's headers.
    pub(crate) rate: Option<(Arc<str>, Outcome)>,
    /// The coding that the answer is compressed with.
    pub(crate) compresses: Option<Coding>,
    /// The coding that the request's body is inflated from.
    pub(crate) inflates: Option<Coding>,
    pub(crate) held: Held,
    pub(crate) record: Box<Record>,
}

impl Exchange {
    /// The text of a path's parameter, its escapes undone.
    pub(crate) fn parameter(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.raw_parameter(name).map(crate::domain::path::decode)
    }

    /// The text of a path's parameter as it stands in the path, escapes and all.
    pub(crate) fn raw_parameter(&self, name: &str) -> Option<&str> {
        let route = self.route.and_then(|at| self.snapshot.routes.get(at))?;
        let at = route.parameters.iter().position(|known| known == name)?;
        self.captures.get(at).map(String::as_str)
    }

    /// The same request once more, to be sent when this one has been answered. It holds nothing and is not logged.
    pub(crate) fn in_background(&self) -> Self {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.head.method.clone();
        head.uri = self.head.uri.clone();
        head.version = self.head.version;
        head.headers = self.head.headers.clone();
        let record = Record::of_background(&self.record, &head);
        Self {
            worker: self.worker.clone(),
            snapshot: self.snapshot.clone(),
            peer: self.peer.clone(),
            head,
            path: self.path.clone(),
            client_ip: self.client_ip,
            host: self.host.clone(),
            route: self.route,
            captures: self.captures.clone(),
            identity: self.identity.clone(),
            grpc: None,
            client: None,
            handshake: None,
            version: self.version,
            rate: None,
            compresses: None,
            inflates: None,
            held: Held::default(),
            record,
        }
    }

    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.record.request_id
    }
}

/// Answers a request.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    signals: Arc<Signals>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let handshake = tunnel::unfold(&worker, &mut head);
    let snapshot = worker.snapshot();
    let client_ip = identify::client_ip(&snapshot, &peer, &head.headers);
    let record = Record::begin(&worker, &snapshot, &signals, client_ip, &head);
    let grpc = head.headers.get(CONTENT_TYPE).and_then(|kind| Dialect::of(kind.as_bytes()));
    let mut exchange = Exchange {
        worker,
        snapshot,
        peer,
        head,
        path: String::new(),
        client_ip,
        host: String::new(),
        route: None,
        captures: Vec::new(),
        identity: None,
        grpc,
        client: None,
        handshake,
        version: None,
        rate: None,
        compresses: None,
        inflates: None,
        held: Held::default(),
        record,
    };
    let (door, is_http1) = (exchange.worker.clone(), exchange.head.version < Version::HTTP_2);
    let fault = signals.fault_of(&exchange.head);
    let is_stand_in = fault.is_some();
    let asks_upgrade = exchange.head.headers.contains_key(UPGRADE) && exchange.head.version == Version::HTTP_11;
    let may_open = asks_upgrade || exchange.handshake.is_some();
    exchange.client = exchange.head.extensions.remove::<OnUpgrade>().filter(|_| may_open);
    let reply = pass(&mut exchange, body, fault).await;
    let mut response = match reply.and_then(|reply| tunnel::agreed(&exchange, reply)) {
        Ok(Reply::Own(status, headers, body)) => respond::own(exchange, status, headers, body),
        Ok(Reply::Transcoded(headers, stream)) => respond::transcoded(exchange, headers, stream),
        Ok(Reply::Upstream(answer)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            tunnel::open(exchange, answer)
        }
        Ok(Reply::Upstream(answer)) => respond::upstreams(exchange, answer),
        Err(error) => {
            // What the guard found wrong is why whatever failed did.
            let fault = if is_stand_in { None } else { signals.fault_of(&exchange.head) };
            let error = fault.map_or(error, error_of);
            respond::refuse(exchange, error)
        }
    };
    // Where another protocol was asked for and not agreed on, what the caller sends next may be either. From one who goes
    // nothing more is to be asked.
    let is_last = asks_upgrade || (is_http1 && door.is_leaving());
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What the phases come to.
enum Reply {
    /// An answer of the gateway's own.
    Own(StatusCode, HeaderMap, Bytes),
    /// An upstream's, or what was made of it, now or earlier.
    Upstream(Response<Source>),
    /// A stream of gRPC, made into one of lines or events.
    Transcoded(HeaderMap, Box<Transcoded>),
}

/// The phases up to the answer. What only some routes need is boxed: the rest would carry its size with every request.
async fn pass(exchange: &mut Exchange, body: Incoming, fault: Option<Fault>) -> Result<Reply, Error> {
    identify::identify(exchange)?;
    if let Some(fault) = fault {
        return Err(error_of(fault));
    }
    if let Some(document) = own::document(exchange) {
        return Ok(document);
    }
    choose::find_route(exchange).await?;
    let snapshot = exchange.snapshot.clone();
    let route = exchange.route.and_then(|at| snapshot.routes.get(at));
    let Some(route) = route else { return Err(Error::Internal("the match found nothing".into())) };
    exchange.record.route = Some((route.name.clone(), route.stats.clone()));
    limits::before_proofs(exchange, route).await?;
    if let Some(access) = &route.access {
        access::authenticate(exchange, access).await?;
        access::authorise(exchange, access)?;
    }
    limits::limit(exchange, route).await?;
    tunnel::may_be_asked(exchange, route)?;
    version::choose(exchange, route)?;
    exchange.inflates = inflate::coding_of(exchange, route)?;
    if let Some(compress) = &route.spec.compress {
        exchange.compresses = coding::choose(&exchange.head.headers, &compress.codings);
    }
    match &route.action {
        Action::Redirect(status, to) => Ok(Reply::Own(*status, respond::location(exchange, to)?, Bytes::new())),
        Action::Respond(status, headers, body) => Ok(Reply::Own(*status, headers.clone(), body.clone())),
        Action::Document => Ok(document::document(exchange, route)),
        Action::Page(page) => Ok(document::page(exchange, route, page)),
        Action::Aggregate(plan) => Box::pin(aggregate::aggregate(exchange, route, plan, body)).await,
        Action::Forward { shares, mirror, host } => {
            let own = version::upstream(exchange, route);
            let upstream = own.map_or_else(|| choose::share(exchange, route, shares), Ok)?;
            if let Some(transcoder) = &route.transcoder {
                return Box::pin(transcode::transcode(exchange, route, transcoder, &upstream, body)).await;
            }
            let mirror = mirror.as_ref().filter(|(_, percent)| exchange.worker.draw(100) < u64::from(*percent));
            let mirror = mirror.map(|(upstream, _)| upstream);
            let toward = Toward { upstream: &upstream, mirror, host: host.as_ref() };
            let answer = if shaped::concerns(exchange, route) {
                Box::pin(shaped::forward(exchange, route, toward, body.into())).await?
            } else {
                cache::answer(exchange, route, toward, body.into()).await?
            };
            Ok(Reply::Upstream(answer))
        }
    }
}

fn error_of(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(malformed) => malformed.into(),
        Fault::Slow => Error::SlowClient,
    }
}
