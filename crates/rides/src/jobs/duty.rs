//! Keeps what positions say of drivers, free or busy, on duty or not, up with the database: a process may have ended between a
//! commit and telling it, or the store of positions may have been away.

use std::collections::HashSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::ids::DriverId;
use crate::locations::{Duty, PARTS};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);

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

/// Who was busy when it looked last, and which part of all drivers comes next.
pub struct Duties {
    app: App,
    busy: HashSet<DriverId>,
    part: usize,
}

impl Duties {
    /// One that has not looked yet.
    pub fn new(app: App) -> Self {
        Self { app, busy: HashSet::new(), part: 0 }
    }

    /// Looks at those who are busy or were a moment ago, and at one part of all drivers. What it gets wrong because it changes
    /// meanwhile, the next round puts right.
    ///
    /// # Errors
    /// Those of the database and of the positions.
    pub async fn round(&mut self) -> Result<(), Error> {
        let busy: HashSet<DriverId> = self.app.store.bound_drivers().await?.into_iter().collect();
        let drivers: Vec<DriverId> = busy.union(&self.busy).copied().collect();
        for located in self.app.locations.get_all(&drivers).await?.into_iter().flatten() {
            self.set(located.driver, located.duty, busy.contains(&located.driver)).await?;
        }
        self.busy = busy;
        let part = self.app.locations.part(self.part).await?;
        let drivers: Vec<DriverId> = part.iter().map(|located| located.driver).collect();
        let shifts: std::collections::HashMap<DriverId, bool> =
            self.app.store.shifts(&drivers).await?.into_iter().collect();
        for located in part {
            match shifts.get(&located.driver) {
                Some(busy) => {
                    if self.set(located.driver, located.duty, *busy).await? {
                        // It is looked at again in the next round.
                        self.busy.insert(located.driver);
                    }
                }
                None => {
                    self.app.locations.leave(located.driver).await?;
                }
            }
        }
        self.part = (self.part + 1) % PARTS;
        Ok(())
    }

    /// Whether it had to be changed.
    async fn set(&self, driver: DriverId, known: Duty, busy: bool) -> Result<bool, Error> {
        let duty = if busy { Duty::Busy } else { Duty::Free };
        Ok(known != duty && self.app.locations.set_duty(driver, duty).await?)
    }
}
