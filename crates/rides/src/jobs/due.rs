//! What happens to rides without anybody's doing: estimates expire, unanswered offers lapse. Any process may do it; each step
//! is refused where another was faster.

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

/// Runs until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    super::again(EVERY, super::never, &stop, "ending what is due", || round(&app)).await;
    Ok(())
}

/// Looks once.
///
/// # Errors
/// Those of the database.
pub async fn round(app: &App) -> Result<(), Error> {
    let due = app.store.due(app.clock.now(), ROUND).await?;
    let steps = due.into_iter().filter_map(|ride| {
        let command = match (ride.state, &ride.offer) {
            (State::Estimated, _) => Command::Expire,
            (State::Offered, Some(offer)) => Command::Lapse { offer: offer.id },
            _ => return None,
        };
        Some(app.store.step(Step { ride: ride.id, command, rider: None }))
    });
    futures::future::try_join_all(steps).await?;
    Ok(())
}
