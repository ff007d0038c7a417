//! Keeps what positions say of drivers, free or busy, on duty or not, up with the database: a process may have ended between a
//! commit and telling it, or the store of positions may have been away.

use std::collections::HashMap;
use std::time::Duration;

use tessera_kernel::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::ids::DriverId;
use crate::locations::{Duty, Located, PARTS};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// How far back it looks first: the process before may have ended without telling.
const BEFORE: Duration = Duration::from_secs(60);
/// Who was not heard for so long has no position until the next report, which a shift outlives.
const LOST: Duration = Duration::from_secs(1_800);

/// Looks until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut duties = Duties::new(app);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = duties.round() => {
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "who is free was not compared; it is tried again");
                }
            }
        }
    }
}

/// Up to when it has seen all changes, and which part of all drivers comes next.
pub struct Duties {
    app: App,
    seen: Option<Timestamp>,
    part: usize,
}

impl Duties {
    /// One that has not looked yet.
    pub fn new(app: App) -> Self {
        Self { app, seen: None, part: 0 }
    }

    /// Looks at those whose rides changed since it looked last, and at one part of all drivers: however many are busy, and with
    /// however many matchers, a round costs a sixty-fourth of them. What it gets wrong because it changes meanwhile, the next
    /// round puts right.
    ///
    /// # Errors
    /// Those of the database and of the positions.
    pub async fn round(&mut self) -> Result<(), Error> {
        let (store, locations) = (&self.app.store, &self.app.locations);
        let settled = store.settled().await?;
        let since = self.seen.unwrap_or_else(|| settled.minus(BEFORE));
        let changed = store.asked_since(since).await?;
        let located = locations.get_all(&changed).await?.into_iter().flatten().collect();
        self.compare(located, None).await?;
        self.seen = Some(settled);
        // Whoever may be silent for longer is parked.
        let longest = Duration::from_secs(u64::from(self.app.config.intervals.longest_s) * 3);
        let lost = self.app.clock.now().minus(LOST.max(longest));
        self.compare(locations.part(self.part).await?, Some(lost)).await?;
        self.part = (self.part + 1) % PARTS;
        Ok(())
    }

    /// Sets what is not as the database says. Who is free and was heard before `lost` has no position any more.
    async fn compare(&self, located: Vec<Located>, lost: Option<Timestamp>) -> Result<(), Error> {
        let locations = &self.app.locations;
        let drivers: Vec<DriverId> = located.iter().map(|located| located.driver).collect();
        let shifts: HashMap<DriverId, bool> = self.app.store.shifts(&drivers).await?.into_iter().collect();
        for Located { driver, duty: known, heard, .. } in located {
            let Some(busy) = shifts.get(&driver) else {
                locations.leave(driver).await?;
                continue;
            };
            let duty = if *busy { Duty::Busy } else { Duty::Free };
            if known != duty {
                locations.set_duty(driver, duty).await?;
            }
            if let Some(lost) = lost.filter(|lost| !busy && heard < *lost) {
                locations.forget(driver, lost).await?;
            }
        }
        Ok(())
    }
}
