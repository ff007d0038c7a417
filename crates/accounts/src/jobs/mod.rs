//! What happens by itself: the next key when its time has come, and forgetting what is over.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::signing;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(60);

/// Looks until it is stopped. What fails is tried again the next time.
///
/// # Errors
/// None; the signature is that of a loop.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        // Files are read and written by a thread that may wait.
        let rotating = app.clone();
        let rotated = tokio::task::spawn_blocking(move || signing::renew(rotating.config(), rotating.keys()));
        match rotated.await {
            Ok(Ok(Some(key))) => {
                tracing::info!(key.id = key.kid, key.signs_from = %key.signs_from, "the next key is there")
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::error!(error.detail = %error, "the next key is not there"),
            Err(error) => tracing::error!(error.detail = %error, "the next key is not there"),
        }
        if let Err(error) = app.store().sweep().await {
            tracing::warn!(error.detail = %error, "what is over was not forgotten");
        }
    }
}
