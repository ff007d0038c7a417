//! Who waits and who is free in each area, which the prices follow. Where several processes share the positions, one of them counts
//! for all.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::locations::FREE_COUNTED;

/// How often.
const EVERY: Duration = FREE_COUNTED;

/// Counts until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    super::again(EVERY, super::never, &stop, "counting the demand", || count(&app)).await;
    Ok(())
}

/// Counts once.
///
/// # Errors
/// Those of the database and of the positions.
pub async fn count(app: &App) -> Result<(), Error> {
    let mut counted: HashMap<u64, (u32, u32)> = HashMap::new();
    for line in app.store.lines().await? {
        counted.entry(line.area).or_default().0 = line.rides;
    }
    // Where another counts for the first time, the prices stay as they are until the next look.
    let Some(free) = app.locations.free_lately(app.clock.now()).await? else { return Ok(()) };
    for (area, free) in free {
        counted.entry(area).or_default().1 = free;
    }
    app.count_demand(&counted);
    Ok(())
}
