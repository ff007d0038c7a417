//! Keeps those who watch here up with what other processes commit, and the matcher awake. On PostgreSQL a notice comes with each
//! commit; where notices may have been lost, and every few seconds in any case, everything that is watched is looked at.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;

/// How often it looks although notices are heard.
const LOOK: Duration = Duration::from_secs(10);
/// How long to wait before listening again where the connection was lost; it looks each time.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows until it is told to stop. On SQLite there is nobody else.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut away = false;
    loop {
        let heard = tokio::select! {
            heard = hear(&app) => heard,
            () = stop.cancelled() => return Ok(()),
        };
        if let Err(error) = heard {
            if away {
                tracing::debug!(error = &error as &dyn std::error::Error, "notices of the database are not heard");
            } else {
                tracing::warn!(error = &error as &dyn std::error::Error, "changes by other processes may come late");
            }
            away = true;
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Hears notices as long as it can.
async fn hear(app: &App) -> Result<(), Error> {
    let Some(mut notices) = app.store.notices().await? else { return std::future::pending().await };
    app.look().await?;
    loop {
        match timeout(LOOK, notices.next()).await {
            Ok(heard) => match heard? {
                Some(changes) => app.heard(changes).await?,
                None => app.look().await?,
            },
            Err(_) => app.look().await?,
        }
    }
}
