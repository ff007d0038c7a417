//! Drivers: profile, shift, positions.

use std::sync::Arc;

use tessera_kernel::Place;

use super::{App, driver_of};
use crate::Error;
use crate::domain::ids::DriverId;
use crate::locations::{Duty, Refusal, Report};
use crate::store::{Driver, DriverEdit, Profile};

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
    /// [`Error::BadRequest`], those of the database.
    pub async fn set_profile(&self, subject: &Arc<str>, profile: Profile) -> Result<Driver, Error> {
        profile.check().map_err(|reason| Error::BadRequest { reason })?;
        let id = driver_of(subject);
        self.index.leave(id);
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
            self.index.leave(id);
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
    /// [`Error::NotReady`] where no operator has approved the profile, those of the database.
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
                self.index.enter(driver.id, place, self.clock.now());
                let busy = self.store.ride_of_driver(driver.id).await?.is_some();
                self.index.set_duty(driver.id, if busy { Duty::Busy } else { Duty::Free });
                self.wake.notify_one();
                Ok(driver)
            }
            Shift::Off => {
                self.index.leave(driver.id);
                self.edit(driver.id, None, |edit| edit.on_duty = Some(false)).await
            }
        }
    }

    /// Takes reports, each on its own.
    pub fn locate(&self, reports: &[Report]) -> Vec<Update> {
        let now = self.clock.now();
        reports.iter().map(|report| Ok(self.index.report(report, now)?.as_millis() as u32)).collect()
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
