//! Returns the money of cancelled events: every order that still has its seats goes back as if it were refunded by hand.
//!
//! Nothing is remembered but the orders themselves, so a process that dies leaves nothing behind that the next one does not
//! find. Where the provider does not answer, the order is due, and the reconciler goes on with it.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Orders looked up at a time.
const ORDERS: i64 = 500;
/// Orders refunded at a time: buyers of other events come first.
const AT_A_TIME: usize = 8;

/// Runs until it is told to stop.
///
/// # Errors
/// None: what goes wrong is logged, and tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(EVERY) => {}
        }
        let done = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = round(&app) => done,
        };
        match done {
            Ok(0) => {}
            Ok(orders) => tracing::info!(orders, "orders of cancelled events are refunded"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cancelled events cannot be refunded now");
            }
        }
    }
}

/// Goes once through the orders of cancelled events that have their seats still; how many went back.
///
/// # Errors
/// Those of the database. What goes wrong with one order is logged, and the others go on.
pub async fn round(app: &App) -> Result<usize, Error> {
    let (mut after, mut count) = (None, 0);
    loop {
        let orders = app.orders_of_cancelled(after, ORDERS).await?;
        let Some(last) = orders.last() else { return Ok(count) };
        after = Some(*last);
        let refunded = futures::stream::iter(orders).map(|id| async move {
            match app.refund_cancelled(id).await {
                Ok(_) => 1,
                // Another process was faster, or its payment is under way: the next round sees.
                Err(Error::NotNow { .. }) => 0,
                Err(error) => {
                    tracing::warn!(order.id = %id, error = &error as &dyn std::error::Error, "an order is not refunded");
                    0
                }
            }
        });
        count += refunded.buffer_unordered(AT_A_TIME).fold(0, |sum, one| async move { sum + one }).await;
    }
}
