//! Hedging: where an answer is late a second endpoint is asked beside the first, and whichever answers first counts (Dean
//! and Barroso, "The tail at scale", 2013). Only for requests that change nothing, and out of the budget of retries.

use std::future::Future;
use std::pin::pin;

use http::Method;
use tokio::time::{Instant, sleep};

use super::attempt::{Trying, is_unavailable};
use super::forward::{Plan, Sent};
use crate::engine::Body;
use crate::metrics::UpstreamLabels;
use crate::spec::Retry;
use crate::upstream::{Ask, Tried};

/// Whether requests of this method may be sent to two at once.
pub(super) fn may_be(method: &Method, retry: &Retry) -> bool {
    retry.hedge_after.is_some() && method.is_safe()
}

/// An attempt, and a second one where the first is late. Gives the one that counts and, where there was a second one, the
/// endpoint of the other.
pub(super) async fn attempt(plan: Plan<'_>, ask: Ask, key: Option<u64>, tried: &Tried) -> (Sent, Option<u64>) {
    let after = plan.route.spec.retry.hedge_after.map_or(plan.route.spec.timeout.0, |after| after.0);
    let first_id = ask.endpoint.id;
    let mut first = pin!(plan.attempt(ask, Body::Empty));
    tokio::select! {
        biased;
        sent = first.as_mut() => return (sent, None),
        () = sleep(after) => {}
    }
    let Some(other) = second(plan, first_id, key, tried) else { return (first.await, None) };
    let second_id = other.endpoint.id;
    let plan = Plan { trying: Trying { begins: Instant::now(), ..plan.trying }, ..plan };
    let mut second = pin!(plan.attempt(other, Body::Empty));
    tokio::select! {
        biased;
        sent = first.as_mut() => (better(sent, second).await, Some(second_id)),
        sent = second.as_mut() => (better(sent, first).await, Some(first_id)),
    }
}

/// Another endpoint, where there is one and the budget has room.
fn second(plan: Plan<'_>, first_id: u64, key: Option<u64>, tried: &Tried) -> Option<Ask> {
    let tried: Tried = tried.iter().copied().chain([first_id]).collect();
    let (worker, upstream) = (plan.trying.worker, plan.trying.upstream);
    let ask = upstream.choose(key, &tried, worker.now_us()).ok()?;
    if tried.contains(&ask.endpoint.id) || !upstream.take_retry() {
        return None;
    }
    let labels = UpstreamLabels { upstream: upstream.name.to_string() };
    worker.shared.metrics.hedges.get_or_create(&labels).inc();
    Some(ask)
}

/// What came first where it is good, and the other one otherwise; of two bad ones an answer rather than none.
async fn better(came: Sent, other: impl Future<Output = Sent>) -> Sent {
    let is_good = |sent: &Sent| matches!(&sent.outcome, Ok(answer) if !is_unavailable(answer.status()));
    if is_good(&came) {
        return came;
    }
    let other = other.await;
    if is_good(&other) || came.outcome.is_err() { other } else { came }
}
