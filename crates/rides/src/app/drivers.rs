//! Drivers: profile, shift, positions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Place, Timestamp};

use super::rides::not_now;
use super::{App, driver_of};
use crate::Error;
use crate::domain::ids::DriverId;
use crate::locations::{Duty, Refusal, Report};
use crate::store::{Driver, DriverEdit, Profile};

/// A place that a report says first is taken as if it had been known for so long: the report itself must be newer.
const FIRST: Duration = Duration::from_millis(100);

/// A shift begins at a place, or ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// On duty here.
    On(Place),
    /// Off duty.
    Off,
}

/// What came of a report: milliseconds until the next is due, or why it changed nothing.
pub type Update = Result<u32, Refusal>;

impl App {
    /// A driver's row, made on the first ask.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn driver(&self, subject: &Arc<str>) -> Result<Driver, Error> {
        let id = driver_of(subject);
        match self.store.drivers(&[id]).await?.pop() {
            Some(driver) => Ok(driver),
            None => self.edit(id, Some(Arc::clone(subject)), |_| {}).await,
        }
    }

    /// A driver writes a profile, which an operator must approve.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::NotNow`] during a ride, those of the database.
    pub async fn set_profile(&self, subject: &Arc<str>, profile: Profile) -> Result<Driver, Error> {
        profile.check().map_err(|reason| Error::BadRequest { reason })?;
        let id = driver_of(subject);
        self.has_no_ride(id).await?;
        self.forget(id);
        self.edit(id, Some(Arc::clone(subject)), |edit| {
            edit.profile = Some(profile);
            edit.on_duty = Some(false);
        })
        .await
    }

    /// An operator lets a driver drive, or no longer.
    ///
    /// # Errors
    /// [`Error::NotFound`], those of the database.
    pub async fn approve(&self, id: DriverId, approved: bool) -> Result<Driver, Error> {
        let known = self.store.drivers(&[id]).await?.pop();
        let known = known.ok_or_else(|| Error::NotFound { what: "driver", id: id.to_string() })?;
        if approved && known.profile.is_none() {
            return Err(Error::NotReady {
                driver: id,
                reason: "has no profile yet, so there is nothing to approve".into(),
            });
        }
        if !approved {
            self.forget(id);
        }
        self.edit(id, None, |edit| {
            edit.approved = Some(approved);
            edit.on_duty = (!approved).then_some(false);
        })
        .await
    }

    /// A shift begins or ends.
    ///
    /// # Errors
    /// [`Error::NotReady`] where no operator has approved the profile, [`Error::NotNow`] for an end during a ride, those of
    /// the database.
    pub async fn shift(&self, subject: &Arc<str>, shift: Shift) -> Result<Driver, Error> {
        let driver = self.driver(subject).await?;
        match shift {
            Shift::On(place) => {
                if !driver.approved {
                    let reason = match driver.profile {
                        None => "has no profile; write one with PUT /drivers/profile",
                        Some(_) => "is not approved yet; an operator looks at the profile",
                    };
                    return Err(Error::NotReady { driver: driver.id, reason: reason.into() });
                }
                let driver = self.edit(driver.id, None, |edit| edit.on_duty = Some(true)).await?;
                let busy = self.store.ride_of_driver(driver.id).await?.is_some();
                self.returning().remove(&driver.id);
                self.index.enter(driver.id, place, if busy { Duty::Busy } else { Duty::Free }, self.clock.now());
                self.wake.notify_one();
                Ok(driver)
            }
            Shift::Off => {
                self.has_no_ride(driver.id).await?;
                self.forget(driver.id);
                self.edit(driver.id, None, |edit| edit.on_duty = Some(false)).await
            }
        }
    }

    /// Takes reports, each on its own.
    pub fn locate(&self, reports: &[Report]) -> Vec<Update> {
        let now = self.clock.now();
        reports.iter().map(|report| self.locate_one(report, now)).collect()
    }

    fn locate_one(&self, report: &Report, now: Timestamp) -> Update {
        let mut taken = self.index.report(report, now);
        if taken == Err(Refusal::OffDuty)
            && let Some(duty) = self.returning().remove(&report.driver)
        {
            // The shift began before this process did.
            self.index.enter(report.driver, report.place, duty, report.at.minus(FIRST));
            taken = self.index.report(report, now);
        }
        if let Err(refusal) = taken {
            self.refusals.count(refusal);
        }
        Ok(taken?.as_millis() as u32)
    }

    /// Notes who is on duty since before this process began: their next report says where they are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resume(&self) -> Result<(), Error> {
        let bound: HashSet<DriverId> = self.store.bound_drivers().await?.into_iter().collect();
        let on_duty = self.store.drivers_on_duty().await?.into_iter();
        let duty = |driver| if bound.contains(&driver) { Duty::Busy } else { Duty::Free };
        *self.returning() = on_duty.map(|driver| (driver, duty(driver))).collect();
        Ok(())
    }

    async fn has_no_ride(&self, driver: DriverId) -> Result<(), Error> {
        match self.store.ride_of_driver(driver).await? {
            Some(ride) => Err(not_now(&ride, "answer it, finish it or give it back before the shift ends")),
            None => Ok(()),
        }
    }

    fn forget(&self, driver: DriverId) {
        self.returning().remove(&driver);
        self.index.leave(driver);
    }

    async fn edit(
        &self,
        id: DriverId,
        subject: Option<Arc<str>>,
        change: impl FnOnce(&mut DriverEdit),
    ) -> Result<Driver, Error> {
        let mut edit = DriverEdit { id, subject, profile: None, approved: None, on_duty: None };
        change(&mut edit);
        self.store.edit_driver(edit).await
    }
}
