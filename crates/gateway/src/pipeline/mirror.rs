//! Copies of requests for a second upstream. Nobody waits for them, and their answers are dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Exchange;
use super::forward::{Outgoing, build};
use crate::engine::{Body, discard};
use crate::upstream::{Sender, Tried, Upstream};

/// Copies under way; what comes above is not copied.
const MOST_AT_ONCE: u32 = 256;
const MOST_DISCARDED: usize = 1 << 20;

/// Sends a copy of a request without a body.
pub(super) fn copy(exchange: &Exchange, outgoing: &Outgoing, upstream: &Arc<Upstream>, patience: Duration) {
    if upstream.in_flight() >= MOST_AT_ONCE {
        return;
    }
    let (worker, outgoing, upstream) = (exchange.worker.clone(), outgoing.clone(), upstream.clone());
    tokio::task::spawn_local(async move {
        let until = Instant::now() + patience;
        let now_us = worker.now_us();
        let Ok(_entered) = upstream.enter(now_us) else { return };
        let Ok(ask) = upstream.choose(None, &Tried::new(), now_us) else { return };
        let sending = async {
            let mut lease = worker.pools.lease(&upstream, &ask.endpoint).await.ok()?;
            let request = build(&outgoing, &ask, &lease.sender, Body::Empty, until).ok()?;
            let answer = match &mut lease.sender {
                Sender::Http1(sender) => sender.send_request(request).await,
                Sender::Http2(sender) => sender.send_request(request).await,
            };
            let is_whole = discard(answer.ok()?.into_body(), MOST_DISCARDED).await;
            is_whole.then(|| lease.give_back())
        };
        let _ = timeout_at(until, sending).await;
    });
}
