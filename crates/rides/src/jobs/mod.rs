//! The loops: matching, what is due, demand, notifications.

pub mod demand;
pub mod due;
pub mod duty;
pub mod follow;
pub mod matcher;
pub mod push;
pub mod traffic;

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Error;

/// Works every `every`, or as soon as `woken`, until it is told to stop; what fails is logged and tried again.
async fn again<W, F>(
    every: Duration,
    woken: impl Fn() -> W,
    stop: &CancellationToken,
    what: &'static str,
    mut work: impl FnMut() -> F,
) where
    W: Future<Output = ()>,
    F: Future<Output = Result<(), Error>>,
{
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
            () = woken() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            done = work() => {
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "{what} failed; it is tried again");
                }
            }
        }
    }
}

/// Nothing wakes it but time.
async fn never() {
    std::future::pending().await
}
