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
use crate::store::Unsettled;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// An order that changed since so long ago is being served by a request.
const IN_HAND: Duration = Duration::from_secs(5);
/// Orders looked up in one round; the next one goes on behind them, so that those that do not move hide no others.
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
    let mut rounds = Rounds::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(EVERY) => {}
        }
        // A provider that does not answer is not waited for: what is under way is found again, as after a crash.
        let done = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = round(&app, IN_HAND, &mut rounds) => done,
        };
        if let Err(error) = done {
            tracing::warn!(error = &error as &dyn std::error::Error, "orders cannot be settled now");
        }
    }
}

/// What one round leaves for the next.
#[derive(Debug)]
pub struct Rounds {
    /// Orders that are looked up at a time.
    limit: u32,
    /// Up to which order it has looked; nothing where it begins anew.
    behind: Option<Unsettled>,
    /// When orders that did not move are looked at next: each time after twice as long.
    pauses: HashMap<OrderId, (Instant, Duration)>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self::of(ROUND)
    }
}

impl Rounds {
    /// Rounds of so many orders at the most.
    pub fn of(limit: u32) -> Self {
        Self { limit, behind: None, pauses: HashMap::new() }
    }

    /// Which of these orders are not in a pause; the next one of each is longer.
    fn due(&mut self, unsettled: &[Unsettled]) -> Vec<OrderId> {
        let now = Instant::now();
        // Who was not met again for so long has come to its end.
        self.pauses.retain(|_, (until, _)| now < *until + MAX_PAUSE);
        let mut due = Vec::new();
        for Unsettled { order, .. } in unsettled {
            let pause = match self.pauses.get(order) {
                Some((until, _)) if now < *until => continue,
                Some((_, pause)) => (*pause * 2).min(MAX_PAUSE),
                None => EVERY,
            };
            self.pauses.insert(*order, (now + pause, pause));
            due.push(*order);
        }
        due
    }
}

/// Looks once at some of the orders that have not changed for `in_hand` and whose pause is over; how many there were.
///
/// # Errors
/// Those of the database. What goes wrong with one order is logged, and the others go on.
pub async fn round(app: &App, in_hand: Duration, rounds: &mut Rounds) -> Result<usize, Error> {
    let unsettled = app.unsettled(in_hand, rounds.behind, rounds.limit).await?;
    let is_full = unsettled.len() >= rounds.limit as usize;
    rounds.behind = unsettled.last().copied().filter(|_| is_full);
    let due = rounds.due(&unsettled);
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
