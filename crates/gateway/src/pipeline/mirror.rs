//! Copies of requests for a second upstream. Nobody waits for them, and their answers are dropped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Exchange;
use super::forward::{Outgoing, build, is_unavailable};
use crate::engine::{Body, Worker, discard};
use crate::upstream::{Sender, Tried, Upstream};

/// Copies under way to one upstream; what comes above is not copied.
const MOST_AT_ONCE: u32 = 256;
const MOST_DISCARDED: usize = 1 << 20;

/// Sends a copy of a request without a body. It ends with the worker at the latest.
pub(super) fn copy(exchange: &Exchange, outgoing: &Outgoing, upstream: &Arc<Upstream>, patience: Duration) {
    let Some(permit) = upstream.copies.enter(MOST_AT_ONCE) else { return };
    let (worker, outgoing, upstream) = (exchange.worker.clone(), outgoing.clone(), upstream.clone());
    exchange.worker.tracker.spawn_local(async move {
        let _permit = permit;
        tokio::select! {
            () = send(&worker, &outgoing, &upstream, Instant::now() + patience) => {}
            () = worker.draining.cancelled() => {}
        }
    });
}

async fn send(worker: &Rc<Worker>, outgoing: &Outgoing, upstream: &Arc<Upstream>, until: Instant) {
    let began = Instant::now();
    let Ok(_entered) = upstream.enter(worker.now_us()) else { return };
    let Ok(ask) = upstream.choose(None, &Tried::new(), worker.now_us()) else { return };
    let note = |is_good: bool| {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        ask.endpoint.note(is_good, took_us, worker.now_us(), &upstream.spec.outliers);
        upstream.note(is_good, worker.now_us());
    };
    let sending = async {
        let mut lease = worker.pools.lease(upstream, &ask.endpoint).await.ok()?;
        let request = build(outgoing, &ask, &lease.sender, Body::Empty, until).ok()?;
        let answer = match &mut lease.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        Some((answer.ok()?, lease))
    };
    match timeout_at(until, sending).await {
        Ok(Some((answer, lease))) => {
            note(!is_unavailable(answer.status()));
            if let Ok(true) = timeout_at(until, discard(answer.into_body(), MOST_DISCARDED)).await {
                lease.give_back();
            }
        }
        Ok(None) | Err(_) => note(false),
    }
}
