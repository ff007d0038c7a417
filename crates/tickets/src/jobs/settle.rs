//! The reconciler: takes every order that has something left to do as far as it will go, again and again. After a crash
//! at any point it is what brings orders to their end.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::ids::OrderId;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// An order that changed since so long ago is being served by a request.
const IN_HAND: Duration = Duration::from_secs(5);
/// Orders looked at in one round.
const ROUND: u32 = 1_000;
/// Orders settled at a time.
const AT_A_TIME: usize = 16;
/// The longest pause between two looks at an order that does not move.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Runs until it is told to stop.
///
/// # Errors
/// None: what goes wrong is logged, and tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut pauses = Pauses::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(EVERY) => {}
        }
        if let Err(error) = round(&app, IN_HAND, &mut pauses).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "orders cannot be settled now");
        }
    }
}

/// When orders that did not move are looked at next: each time after twice as long.
#[derive(Debug, Default)]
pub struct Pauses(HashMap<OrderId, (Instant, Duration)>);

/// Looks once at the orders that have not changed for `in_hand` and whose pause is over; how many there were.
///
/// # Errors
/// Those of the database. What goes wrong with one order is logged, and the others go on.
pub async fn round(app: &App, in_hand: Duration, pauses: &mut Pauses) -> Result<usize, Error> {
    let unsettled = app.unsettled(in_hand, ROUND).await?;
    let now = Instant::now();
    pauses.0.retain(|id, _| unsettled.contains(id));
    let due: Vec<OrderId> =
        unsettled.into_iter().filter(|id| pauses.0.get(id).is_none_or(|(at, _)| *at <= now)).collect();
    for id in &due {
        let pause = pauses.0.get(id).map_or(EVERY, |(_, pause)| (*pause * 2).min(MAX_PAUSE));
        pauses.0.insert(*id, (now + pause, pause));
    }
    let count = due.len();
    futures::stream::iter(due)
        .for_each_concurrent(AT_A_TIME, |id| async move {
            match app.settle(id).await {
                Ok(_) | Err(Error::PaymentDeclined { .. } | Error::PaymentUnknown { .. } | Error::SeatsGone { .. }) => {
                }
                Err(error) => {
                    tracing::warn!(order.id = %id, error = &error as &dyn std::error::Error, "an order is stuck");
                }
            }
        })
        .await;
    Ok(count)
}
