//! Copies of requests for a second upstream. Nobody waits for them, and their answers are dropped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Exchange;
use super::attempt::{Deadline, Outgoing, Trying};
use crate::engine::{Body, Worker, discard};
use crate::upstream::{Tried, Upstream};

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
            () = send(&worker, &outgoing, &upstream, Deadline::after(patience)) => {}
            () = worker.draining.cancelled() => {}
        }
    });
}

async fn send(worker: &Rc<Worker>, outgoing: &Outgoing, upstream: &Arc<Upstream>, deadline: Deadline) {
    let Ok(_entered) = upstream.enter(worker.now_us()) else { return };
    let Ok(ask) = upstream.choose(None, &Tried::new(), worker.now_us()) else { return };
    let trying = Trying { worker, upstream, outgoing, deadline, progress: None, begins: Instant::now() };
    if let Ok(answer) = trying.at(&ask, Body::Empty).await {
        discard(answer.into_body(), MOST_DISCARDED).await;
    }
}
