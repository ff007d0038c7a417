//! A request's way: identify → match → authenticate → authorise → limit → version → validate → forward → transform → respond → log.
//!
//! The phases are functions over one [`Exchange`], in one order, and each does only what the request's route has compiled
//! for it. A phase that refuses ends the way with an error; whatever ends it, [`Record`] is counted and logged when the
//! last byte was sent or the caller has gone.

mod access;
mod aggregate;
mod call;
mod choose;
mod document;
mod forward;
mod headers;
mod identify;
mod limits;
mod mirror;
mod respond;
mod shaped;
mod transcode;
mod tunnel;
mod upload;
mod version;

pub(crate) use call::{Call, call};
pub(crate) use forward::Outgoing;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::Error;
use crate::auth::Identity;
use crate::engine::{Body, Fault, Held, Peer, Record, Serving, Signals, Worker};
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
    /// The version that was asked for, by its place among the route's.
    pub(crate) version: Option<usize>,
    /// The tightest rate limit's word, for the answer's headers.
    pub(crate) rate: Option<(Arc<str>, Outcome)>,
    pub(crate) held: Held,
    pub(crate) record: Record,
}

impl Exchange {
    /// The text of a path's parameter, its escapes undone.
    pub(crate) fn parameter(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let route = self.route.and_then(|at| self.snapshot.routes.get(at))?;
        let at = route.parameters.iter().position(|known| known == name)?;
        self.captures.get(at).map(|text| crate::domain::path::decode(text))
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
    let (head, body) = request.into_parts();
    let snapshot = worker.snapshot();
    let client_ip = identify::client_ip(&snapshot, &peer, &head.headers);
    let record = Record::begin(&worker, &snapshot, &signals, client_ip, &head);
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
        version: None,
        rate: None,
        held: Held::default(),
        record,
    };
    let fault = signals.fault_of(&exchange.head.headers);
    let is_stand_in = fault.is_some();
    let asks_upgrade = exchange.head.headers.contains_key(UPGRADE) && exchange.head.version == Version::HTTP_11;
    let client = exchange.head.extensions.remove::<OnUpgrade>().filter(|_| asks_upgrade);
    match pass(&mut exchange, body, fault).await {
        Ok(Reply::Own(status, headers, body)) => respond::own(exchange, status, headers, body),
        Ok(Reply::Transcoded(headers, stream)) => respond::transcoded(exchange, headers, stream),
        Ok(Reply::Upstream(answer)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            tunnel::open(exchange, answer, client)
        }
        // Where another protocol was asked for and not agreed on, what the caller sends next may be either.
        Ok(Reply::Upstream(answer)) => respond::upstreams(exchange, answer, asks_upgrade),
        Err(error) => {
            // What the guard found wrong is why whatever failed did.
            let fault = if is_stand_in { None } else { signals.fault_of(&exchange.head.headers) };
            let error = fault.map_or(error, error_of);
            respond::refuse(exchange, error)
        }
    }
}

/// What the phases come to.
enum Reply {
    /// An answer of the gateway's own.
    Own(StatusCode, HeaderMap, Bytes),
    /// An upstream's.
    Upstream(Response<Incoming>),
    /// A stream of gRPC, made into one of lines or events.
    Transcoded(HeaderMap, Box<Transcoded>),
}

async fn pass(exchange: &mut Exchange, body: Incoming, fault: Option<Fault>) -> Result<Reply, Error> {
    identify::identify(exchange)?;
    if let Some(fault) = fault {
        return Err(error_of(fault));
    }
    choose::find_route(exchange).await?;
    let snapshot = exchange.snapshot.clone();
    let route = exchange.route.and_then(|at| snapshot.routes.get(at));
    let Some(route) = route else { return Err(Error::Internal("the match found nothing".into())) };
    exchange.record.route = Some((route.name.clone(), route.stats.clone()));
    if let Some(access) = &route.access {
        access::authenticate(exchange, access).await?;
        access::authorise(exchange, access)?;
    }
    limits::limit(exchange, route)?;
    version::choose(exchange, route)?;
    match &route.action {
        Action::Redirect(status, to) => Ok(Reply::Own(*status, respond::location(exchange, to), Bytes::new())),
        Action::Respond(status, headers, body) => Ok(Reply::Own(*status, headers.clone(), body.clone())),
        Action::Document => Ok(document::document(exchange, route)),
        Action::Page(page) => Ok(document::page(exchange, route, page)),
        Action::Aggregate(plan) => aggregate::aggregate(exchange, route, plan, body).await,
        Action::Forward { shares, mirror, host } => {
            let own = version::upstream(exchange, route);
            let upstream = own.map_or_else(|| choose::share(exchange, route, shares), Ok)?;
            if let Some(transcoder) = &route.transcoder {
                return transcode::transcode(exchange, route, transcoder, &upstream, body).await;
            }
            let mirror = mirror.as_ref().filter(|(_, percent)| exchange.worker.draw(100) < u64::from(*percent));
            let mirror = mirror.map(|(upstream, _)| upstream);
            if shaped::concerns(exchange, route) {
                let target = shaped::Target { upstream: &upstream, mirror, host: host.as_ref() };
                return shaped::forward(exchange, route, target, body).await;
            }
            forward::forward(exchange, route, &upstream, mirror, host.as_ref(), body).await.map(Reply::Upstream)
        }
    }
}

fn error_of(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(malformed) => malformed.into(),
        Fault::Slow => Error::SlowClient,
    }
}
