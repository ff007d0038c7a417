//! What happens to rides without anybody's doing: estimates expire, unanswered offers lapse, and who has waited for a driver
//! long enough is told so where no matcher does it; estimates that were never requested are removed in the end. Any process may
//! do it; each step is refused where another was faster.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::ride::{Command, State};
use crate::store::Step;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(250);
/// Rides in one round.
const ROUND: u32 = 500;
/// How often old estimates are removed, and how old they get.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const KEPT: Duration = Duration::from_secs(3 * 86_400);
/// How much longer than a search it waits for the matcher, who looks once more before it gives up.
const SLACK: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    tokio::join!(
        super::again(EVERY, super::never, &stop, "ending what is due", || round(&app)),
        super::again(SWEEP_EVERY, super::never, &stop, "removing old estimates", || sweep(&app)),
    );
    Ok(())
}

/// Removes estimates that were never requested, once they are old.
///
/// # Errors
/// Those of the database.
pub async fn sweep(app: &App) -> Result<(), Error> {
    while app.store.sweep_estimates(KEPT, ROUND).await? == ROUND as usize {}
    Ok(())
}

/// Looks once.
///
/// # Errors
/// Those of the database.
pub async fn round(app: &App) -> Result<(), Error> {
    let now = app.clock.now();
    let due = app.store.due(now, ROUND).await?;
    let steps = due.into_iter().filter_map(|ride| {
        let command = match (ride.state, &ride.offer) {
            (State::Estimated, _) => Command::Expire,
            (State::Offered, Some(offer)) => Command::Lapse { offer: offer.id },
            _ => return None,
        };
        Some(app.store.step(Step { ride: ride.id, command, rider: None }))
    });
    futures::future::try_join_all(steps).await?;
    let rules = &app.config.matching;
    if rules.keep_place {
        return Ok(());
    }
    let most = Duration::from_secs(u64::from(rules.search_s));
    let begun = now.minus(most + SLACK);
    let waiting = app.store.waiting_since(begun, ROUND).await?;
    // A ride that was given back is searched for anew.
    let over = waiting.into_iter().filter(|ride| ride.searching_since.is_some_and(|since| since <= begun));
    let steps = over.map(|ride| app.store.step(Step { ride: ride.id, command: Command::GiveUp(most), rider: None }));
    futures::future::try_join_all(steps).await?;
    Ok(())
}
