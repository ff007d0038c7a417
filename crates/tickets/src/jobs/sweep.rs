//! Sweeps away what is over: old answers, old changes of seats, old outbox rows and claims, and notes holds that lapsed.
//! Nothing rests on it but the size of the database.

use std::time::Duration;

use tessera_kernel::{Timestamp, Uuid};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::store::Kept;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);
/// How long a request under the same key gets the same answer.
const ANSWERS: Duration = Duration::from_secs(48 * 3_600);
/// From how long ago watchers can resume.
const FEEDS: Duration = Duration::from_secs(3_600);
/// How far back an index that was away can follow; beyond that it is rebuilt.
const OUTBOX: Duration = Duration::from_secs(48 * 3_600);
/// A hold is noted as lapsed so long after its end: an order may still be settling.
const HOLDS: Duration = Duration::from_secs(3_600);
/// The most writes of one round; the next round goes on.
const MAX_WRITES: u32 = 200;
/// Looks at claims in one round; the next one goes on behind them.
const CLAIM_LOOKS: u32 = 20;
/// Between two writes, so that buyers come first.
const PAUSE: Duration = Duration::from_millis(50);

/// Sweeps until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut claims_from = Uuid::nil();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            swept = round(&app, &mut claims_from) => {
                if let Err(error) = swept {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the sweep failed; it goes on in a minute");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(app: &App, claims_from: &mut Uuid) -> Result<(), Error> {
    // By the database's clock, as all that it looks at.
    sweep(app, app.store.now().await?).await?;
    sweep_claims(app, claims_from).await?;
    Ok(())
}

/// Looks through some of the claims behind `from`, which is moved on, and begins again after the last; how many it removed.
///
/// # Errors
/// Those of the database.
pub async fn sweep_claims(app: &App, from: &mut Uuid) -> Result<u64, Error> {
    let mut swept = 0;
    for _ in 0..CLAIM_LOOKS {
        let (count, next) = app.store.sweep_claims(*from).await?;
        swept += count;
        *from = next.unwrap_or_default();
        if next.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(swept)
}

/// One round of everything but claims; how many rows it removed.
///
/// # Errors
/// Those of the database.
pub async fn sweep(app: &App, now: Timestamp) -> Result<u64, Error> {
    app.store.note_lapsed(now.minus(HOLDS)).await?;
    let kept = Kept { answers: now.minus(ANSWERS), feeds: now.minus(FEEDS), outbox: now.minus(OUTBOX) };
    let mut swept = 0;
    for _ in 0..MAX_WRITES {
        let count = app.store.sweep(kept).await?;
        swept += count;
        if count == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(swept)
}
