//! Where hyper runs what it wants run beside a connection: on the connection's own thread, and with an end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::{Signals, Step};

/// Runs it as it is.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Runs the requests of an HTTP/2 connection, and drops one whose client does not take its answer. The connection itself
/// may be busy with others, and its socket take bytes, while the window of this one stays shut.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    pub(super) signals: Arc<Signals>,
    /// How long a client may take to accept the next bytes.
    pub(super) patience: Duration,
    /// Cancelled when what has no end of its own is to end.
    pub(super) draining: CancellationToken,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let (signals, patience) = (self.signals.clone(), self.patience);
        if let Some(over) = signals.take_opened() {
            // The way to the client of a tunnel: it is silent for as long as the other side is, and ends with the tunnel.
            let draining = self.draining.clone();
            let given_up = async move {
                over.cancelled().await;
                sleep(patience).await;
            };
            tokio::task::spawn_local(async move {
                signals.request_began();
                tokio::select! {
                    _ = future => {}
                    () = given_up => {}
                    () = draining.cancelled() => {}
                }
                signals.request_ended(false);
            });
            return;
        }
        tokio::task::spawn_local(Watched { future: Box::pin(future), signals, patience, timer: None });
    }
}

struct Watched<F> {
    future: Pin<Box<F>>,
    signals: Arc<Signals>,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.signals.set_step(Step::None);
        if this.future.as_mut().poll(cx).is_ready() {
            this.signals.set_step(Step::None);
            return Poll::Ready(());
        }
        if !this.signals.step_is(Step::None) {
            this.timer = None;
        }
        if this.signals.step_is(Step::Waits) {
            return Poll::Pending;
        }
        // It waits for nothing of ours, so it is the client that does not take what there is.
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        std::task::ready!(timer.as_mut().poll(cx));
        this.signals.set_step(Step::GivenUp);
        Poll::Ready(())
    }
}
