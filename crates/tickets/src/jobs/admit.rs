//! The waiting rooms' loops: one lets people in, the other keeps what is watched fresh.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::ids::EventId;

/// How often people are let in: a chunk each time.
const CHUNK_EVERY: Duration = Duration::from_millis(250);
/// How often the rooms to serve are looked up, in chunks.
const LOOK_UP_EVERY: u32 = 4;
/// How often watched rooms are read anew.
const REFRESH_EVERY: Duration = Duration::from_millis(500);

/// Lets people in, in all waiting rooms, until it is stopped. Several processes may do it at once.
///
/// # Errors
/// None; what fails is logged and tried again.
pub async fn admit(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut ticks = interval(CHUNK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events: Vec<EventId> = Vec::new();
    let mut until_look_up = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if until_look_up == 0 {
            match app.events_with_queue().await {
                Ok(found) => events = found,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "waiting rooms cannot be looked up");
                }
            }
            until_look_up = LOOK_UP_EVERY;
        }
        until_look_up -= 1;
        for event in &events {
            if let Err(error) = app.admit_next(*event).await {
                tracing::warn!(event.id = %event, error = &error as &dyn std::error::Error, "nobody can be let in");
            }
        }
    }
}

/// Reads anew the waiting rooms that somebody watches in this process, until it is stopped.
///
/// # Errors
/// None; what fails is logged and tried again.
pub async fn follow(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut ticks = interval(REFRESH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => app.refresh_queues().await,
        }
    }
}
