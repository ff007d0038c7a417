//! Calls of the gateway's own: a request with its body in memory goes to an upstream, by its pools, health, breaker and
//! budget of retries.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use tessera_service::http::Peer;
use tokio::time::{Instant, timeout_at};

use super::attempt::{Deadline, Failure, Outgoing, Trying, is_unavailable, let_go};
use super::{Exchange, inside};
use crate::Error;
use crate::engine::{Body, Held, Source, Worker};
use crate::metrics::UpstreamLabels;
use crate::spec::{Retry, RetryOn};
use crate::upstream::{Tried, Upstream};

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

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) attempts: u32,
    /// Whether a service may have begun to act on it.
    pub(crate) was_sent: bool,
}

impl From<Error> for Failed {
    /// Before anything was tried.
    fn from(error: Error) -> Self {
        Self { error, attempts: 0, was_sent: false }
    }
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
) -> Result<Called, Failed> {
    let entered = upstream.enter(worker.now_us())?;
    upstream.pay_in();
    if upstream.spec.in_process {
        let Call { outgoing, body, deadline, peer, .. } = call.clone();
        let asked = inside::Asked { outgoing, body: Body::full(body), deadline, peer, client: None };
        let answer = inside::ask(worker, upstream, asked).await;
        inside::note(worker, upstream, deadline, &answer);
        let answer = answer.map_err(|error| Failed { attempts: 1, was_sent: !error.may_retry(), error })?;
        return Ok(Called { answer, held: Held { entered: Some(entered), ..Held::default() }, attempts: 1 });
    }
    let is_safe = call.outgoing.may_be_repeated(!call.body.is_empty());
    let mut tried = Tried::new();
    let (mut attempts, mut was_sent) = (0, false);
    loop {
        let failed = |error, attempts, was_sent| Failed { error, attempts, was_sent };
        let ask =
            upstream.choose(call.key, &tried, worker.now_us()).map_err(|error| failed(error, attempts, was_sent))?;
        attempts += 1;
        let deadline = call.deadline.within(retry.attempt_timeout.map(|limit| limit.0));
        let may_retry = attempts < retry.attempts && Instant::now() < call.deadline.at;
        let is_wanted = |reason: RetryOn| is_safe && retry.on.contains(&reason);
        let trying =
            Trying { worker, upstream, outgoing: &call.outgoing, deadline, progress: None, begins: Instant::now() };
        match trying.at(&ask, Body::full(call.body.clone())).await {
            Ok(answer) => {
                let again = is_unavailable(answer.status()) && may_retry && is_wanted(RetryOn::Unavailable);
                if !(again && upstream.take_retry()) {
                    let held = Held { ask: Some(ask), entered: Some(entered), ..Held::default() };
                    return Ok(Called { answer: answer.map(Source::Upstream), held, attempts });
                }
                was_sent = true;
                let_go(worker, answer);
            }
            Err(Failure { error, unsent, reason }) => {
                was_sent |= unsent.is_none();
                let again = may_retry && (unsent.is_some() || reason.is_some_and(is_wanted)) && upstream.take_retry();
                if !again {
                    return Err(failed(error, attempts, was_sent));
                }
            }
        }
        tried.push(ask.endpoint.id);
        let labels = UpstreamLabels { upstream: upstream.name.to_string() };
        worker.shared.metrics.retries.get_or_create(&labels).inc();
    }
}

/// Asks an upstream for a request's answer, and notes in its exchange what became of it.
///
/// # Errors
/// As [`call`].
pub(super) async fn answer(
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
    asked: &Call,
    retry: &Retry,
) -> Result<Response<Source>, Error> {
    exchange.record.upstream = Some(upstream.name.clone());
    let called = call(&exchange.worker, upstream, asked, retry).await;
    let Called { answer, held, attempts } = called.map_err(|failed| {
        exchange.record.attempts += failed.attempts;
        exchange.record.was_sent |= failed.was_sent;
        failed.error
    })?;
    exchange.record.attempts += attempts;
    exchange.record.was_sent = true;
    exchange.record.endpoint = held.ask.as_ref().map(|ask| ask.endpoint.clone());
    (exchange.held.ask, exchange.held.entered) = (held.ask, held.entered);
    Ok(answer)
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
        let held = self.held;
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
