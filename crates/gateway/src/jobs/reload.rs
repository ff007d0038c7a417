//! Follows the config file, certificates and keys, and SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::app::Reloader;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reloads when a file has changed, and on SIGHUP, until it is stopped.
///
/// # Errors
/// Where the signal cannot be caught.
pub async fn follow(reloader: Arc<Reloader>, stop: CancellationToken) -> Result<(), String> {
    let mut hangups = signal(SignalKind::hangup()).map_err(|error| format!("SIGHUP cannot be caught: {error}"))?;
    let mut looks = interval(LOOK_EVERY);
    loop {
        // The outcome is logged where it is found.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = hangups.recv() => drop(reloader.reload().await),
            _ = looks.tick() => {
                reloader.free_retired();
                drop(reloader.look().await);
            }
        }
    }
}
