//! Keeps the events in memory up with the database, and their watchers up with them.
//!
//! What other processes commit is read a quarter of a second later at the latest; on PostgreSQL a notice that comes with
//! each commit wakes us before. A notice that is lost costs nothing but that quarter.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::seats::live::PARTS;
use crate::store::Store;

/// How often each watcher is told what changed.
const PULSE: Duration = Duration::from_millis(100);
/// How long another process's commit may stay unseen where no notice comes.
const FOLLOW: Duration = Duration::from_millis(250);
/// The least time between two looks at the feed, however many notices come.
const REST: Duration = Duration::from_millis(20);
/// How long one look may take before it counts as failed.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait before listening again where the connection was lost.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Wakes [`follow`] from [`listen`].
pub type Wake = Arc<Notify>;

/// Tells watchers what changed, lapsed holds included, one part of them after the other, until it is stopped.
pub async fn pulse(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut pulses = interval(PULSE / PARTS as u32);
    pulses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for part in (0..PARTS).cycle() {
        tokio::select! {
            _ = pulses.tick() => app.live.pulse_part(part),
            () = stop.cancelled() => break,
        }
    }
    Ok(())
}

/// Reads what others committed, until it is stopped. A database that is away is said once, and once when it is back.
pub async fn follow(app: App, wake: Wake, stop: CancellationToken) -> Result<(), String> {
    let mut away = false;
    loop {
        // The wake or the time, whichever is first.
        let turn = timeout(FOLLOW, wake.notified());
        tokio::select! {
            _ = turn => {}
            () = stop.cancelled() => return Ok(()),
        }
        let looked = tokio::select! {
            looked = timeout(LOOK_DEADLINE, app.live.follow()) => looked,
            () = stop.cancelled() => return Ok(()),
        };
        let failed = match looked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", LOOK_DEADLINE.as_secs())),
        };
        match &failed {
            Some(error) if !away => tracing::warn!(error, "what others sold cannot be read; seat maps may lag behind"),
            None if away => tracing::info!("what others sold can be read again"),
            _ => {}
        }
        away = failed.is_some();
        tokio::select! {
            () = sleep(REST) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Wakes the follower when a change is committed, until it is stopped. On SQLite there is nothing to hear.
pub async fn listen(store: Store, wake: Wake, stop: CancellationToken) -> Result<(), String> {
    loop {
        let heard = tokio::select! {
            heard = hear(&store, &wake) => heard,
            () = stop.cancelled() => return Ok(()),
        };
        if let Err(error) = heard {
            // Polling goes on meanwhile, so this is news for who looks for it.
            tracing::debug!(%error, "notices of the database are not heard");
        }
        tokio::select! {
            () = sleep(LISTEN_AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn hear(store: &Store, wake: &Notify) -> Result<(), Error> {
    let Some(mut notices) = store.seat_notices().await? else { return std::future::pending().await };
    loop {
        notices.next().await?;
        wake.notify_one();
    }
}

/// When it is stopped, lets the writer answer what waits, and closes the database.
pub async fn close(store: Store, stop: CancellationToken) -> Result<(), String> {
    stop.cancelled().await;
    store.close().await;
    Ok(())
}
