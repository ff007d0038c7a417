//! What happens to rides without anybody's doing: estimates expire, unanswered offers lapse, and who has waited for a driver
//! long enough is told so where no matcher does it; estimates that were never requested are removed in the end. Any process may
//! do it; each step is refused where another was faster.

use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::ids::RideId;
use crate::domain::ride::{Command, State};
use crate::store::Step;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(250);
/// Rides in one round.
const ROUND: u32 = 500;
/// How often old estimates are removed, and how old they get.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const KEPT: Duration = Duration::from_secs(3 * 86_400);
/// Steps of a round that failed and are in the log by name; the others are counted there.
const NAMED: usize = 10;
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

/// Looks once at everything. What fails holds up nothing else: a ride whose step does is named in the log, and tried again.
///
/// # Errors
/// Those of the database, where it was not read.
pub async fn round(app: &App) -> Result<(), Error> {
    let (ended, given_up) = tokio::join!(end_due(app), give_up(app));
    ended.and(given_up)
}

/// Ends estimates and offers whose time is over.
async fn end_due(app: &App) -> Result<(), Error> {
    let due = app.store.due(app.clock.now(), ROUND).await?;
    let steps = due.into_iter().filter_map(|ride| match (ride.state, &ride.offer) {
        (State::Estimated, _) => Some((ride.id, Command::Expire)),
        (State::Offered, Some(offer)) => Some((ride.id, Command::Lapse { offer: offer.id })),
        _ => None,
    });
    take(app, steps).await;
    Ok(())
}

/// Tells those who have waited for a driver long enough that there is nobody.
async fn give_up(app: &App) -> Result<(), Error> {
    let rules = &app.config.matching;
    if rules.keep_place {
        return Ok(());
    }
    let most = Duration::from_secs(u64::from(rules.search_s));
    let begun = app.clock.now().minus(most + SLACK);
    let waiting = app.store.waiting_since(begun, ROUND).await?;
    // A ride that was given back is searched for anew.
    let over = waiting.into_iter().filter(|ride| ride.searching_since.is_some_and(|since| since <= begun));
    take(app, over.map(|ride| (ride.id, Command::GiveUp(most)))).await;
    Ok(())
}

/// Takes steps, each on its own.
async fn take(app: &App, steps: impl Iterator<Item = (RideId, Command)>) {
    let step = |(ride, command)| async move { (ride, app.store.step(Step { ride, command, rider: None }).await) };
    let taken = join_all(steps.map(step)).await;
    let failed: Vec<_> = taken.into_iter().filter_map(|(ride, stepped)| Some((ride, stepped.err()?))).collect();
    for (ride, error) in failed.iter().take(NAMED) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(ride.id = %ride, error, "a ride whose time is over did not move on; it is tried again");
    }
    if failed.len() > NAMED {
        tracing::warn!(rides = failed.len(), "more rides did not move on; they are tried again");
    }
}
