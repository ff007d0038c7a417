//! Calls of the gateway's own: a request with its body in memory goes to an upstream, by its pools, health, breaker and
//! budget of retries.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderValue, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tessera_service::http::Peer;
use tokio::time::{Instant, timeout_at};

use super::forward::{Deadline, Outgoing, build, is_unavailable, let_go};
use super::inside;
use crate::Error;
use crate::engine::{Body, Held, Source, Worker};
use crate::metrics::UpstreamLabels;
use crate::spec::{Retry, RetryOn};
use crate::upstream::{Ask, Lease, Sender, Tried, Upstream};

/// Connections that turn out to be closed before one is opened anew.
const MOST_STALE: usize = 3;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Method, path and headers.
    pub(crate) outgoing: Outgoing,
    /// The body.
    pub(crate) body: Bytes,
    /// What chooses the endpoint under `balance: hash`.
    pub(crate) key: Option<u64>,
    /// When an answer must have begun.
    pub(crate) deadline: Deadline,
    /// Who asks, as a component of this process is told.
    pub(crate) peer: Peer,
}

/// An answer that has begun. What it holds must be kept until it was read.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) answer: Response<Source>,
    pub(crate) held: Held,
    pub(crate) attempts: u32,
}

/// Asks an upstream, again where that is safe.
///
/// # Errors
/// Those of the upstream's side.
pub(crate) async fn call(
    worker: &Rc<Worker>,
    upstream: &Arc<Upstream>,
    call: &Call,
    retry: &Retry,
) -> Result<Called, Error> {
    let entered = upstream.enter(worker.now_us())?;
    upstream.pay_in();
    if upstream.spec.in_process {
        let Call { outgoing, body, deadline, peer, .. } = call.clone();
        let asked = inside::Asked { outgoing, body: Body::full(body), deadline, peer, client: None };
        let answer = inside::ask(worker, upstream, asked).await;
        inside::note(worker, upstream, deadline, &answer);
        return Ok(Called { answer: answer?, held: Held { entered: Some(entered), ..Held::default() }, attempts: 1 });
    }
    let is_idempotent =
        matches!(call.outgoing.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    let mut tried = Tried::new();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let ask = upstream.choose(call.key, &tried, worker.now_us())?;
        let until = call.deadline.within(retry.attempt_timeout.map(|limit| limit.0));
        let may_retry = attempts < retry.attempts && Instant::now() < call.deadline.at;
        let is_wanted = |reason| is_idempotent && retry.on.contains(&reason);
        match attempt(worker, upstream, &ask, call, until).await {
            Ok((answer, lease)) => {
                let again = is_unavailable(answer.status())
                    && may_retry
                    && is_wanted(RetryOn::Unavailable)
                    && upstream.take_retry();
                if !again {
                    let held = Held { lease: Some(lease), ask: Some(ask), entered: Some(entered), ..Held::default() };
                    return Ok(Called { answer: answer.map(Source::Upstream), held, attempts });
                }
                let_go(worker, answer, lease);
            }
            Err((error, reason)) => {
                let again = may_retry && reason.is_none_or(is_wanted) && upstream.take_retry();
                if !again {
                    return Err(error);
                }
            }
        }
        tried.push(ask.endpoint.id);
        let labels = UpstreamLabels { upstream: upstream.name.to_string() };
        worker.shared.metrics.retries.get_or_create(&labels).inc();
    }
}

/// One attempt at one endpoint. An error comes with its reason where something may have been sent.
async fn attempt(
    worker: &Rc<Worker>,
    upstream: &Arc<Upstream>,
    ask: &Ask,
    call: &Call,
    until: Deadline,
) -> Result<(Response<Incoming>, Lease), (Error, Option<RetryOn>)> {
    let began = Instant::now();
    let note = |is_good: bool| {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now_us = worker.now_us();
        ask.endpoint.note(is_good, took_us, now_us, &upstream.spec.outliers);
        upstream.note(is_good, now_us);
    };
    // Who asks for an answer within a millisecond says nothing about the service.
    let note_late = || {
        if !until.is_callers {
            note(false);
        }
    };
    let late = || Error::UpstreamTimeout {
        upstream: upstream.name.to_string(),
        after_ms: u64::try_from(until.at.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX),
    };
    for stale in 0.. {
        let mut lease = match timeout_at(until.at, worker.pools.lease(upstream, &ask.endpoint)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                note(false);
                return Err((error, None));
            }
            Err(_) => {
                note_late();
                return Err((late(), None));
            }
        };
        let request = build(&call.outgoing, ask, &lease.sender, Body::full(call.body.clone()), until.at);
        let request = request.map_err(|error| (error, Some(RetryOn::BrokenOff)))?;
        let sending = async {
            match &mut lease.sender {
                Sender::Http1(sender) => sender.try_send_request(request).await,
                Sender::Http2(sender) => sender.try_send_request(request).await,
            }
        };
        let sent = timeout_at(until.at, sending).await;
        match sent {
            Err(_) => {
                note_late();
                return Err((late(), Some(RetryOn::Timeout)));
            }
            Ok(Ok(answer)) => {
                note(!is_unavailable(answer.status()));
                return Ok((answer, lease));
            }
            // A connection that had been idle was closed by the other side before it took the request.
            Ok(Err(mut error)) => {
                let is_unsent = error.take_message().is_some();
                if is_unsent && lease.is_used && stale < MOST_STALE {
                    continue;
                }
                note(false);
                let error = error.into_error();
                let (upstream, endpoint) = (upstream.name.to_string(), ask.endpoint.url.to_string());
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                let reason = format!("{error}{cause}");
                let told = match error.is_parse() {
                    true => Error::BadAnswer { upstream, endpoint, reason },
                    false => Error::BrokeOff { upstream, endpoint, reason },
                };
                return Err((told, (!is_unsent).then_some(RetryOn::BrokenOff)));
            }
        }
    }
    Err((late(), Some(RetryOn::Timeout)))
}

impl Called {
    /// The whole answer, up to a size and a time.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] where it is larger, [`Error::BrokeOff`], [`Error::UpstreamTimeout`].
    pub(crate) async fn whole(
        self,
        upstream: &Upstream,
        most: u64,
        deadline: Instant,
    ) -> Result<(Parts, Bytes), Error> {
        let (head, mut incoming) = self.answer.into_parts();
        let mut held = self.held;
        let name = || upstream.name.to_string();
        let endpoint = held.ask.as_ref().map_or_else(name, |ask| ask.endpoint.url.to_string());
        let mut body = BytesMut::new();
        loop {
            let frame = timeout_at(deadline, incoming.frame()).await;
            let frame = match frame {
                Err(_) => {
                    let reason = "its answer did not end in time".to_owned();
                    return Err(Error::BrokeOff { upstream: name(), endpoint, reason });
                }
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    return Err(Error::BrokeOff { upstream: name(), endpoint, reason: error.to_string() });
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if body.len() as u64 + data.len() as u64 > most {
                let reason = format!("it is larger than the {most} bytes allowed here");
                return Err(Error::BadAnswer { upstream: name(), endpoint, reason });
            }
            body.extend_from_slice(&data);
        }
        if let Some(lease) = held.lease.take() {
            lease.give_back();
        }
        Ok((head, body.freeze()))
    }
}

/// Whether a `content-type` is JSON.
pub(crate) fn is_json(kind: Option<&HeaderValue>) -> bool {
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
        || (kind.len() > 5 && kind.is_ascii() && kind[kind.len() - 5..].eq_ignore_ascii_case("+json"))
}
