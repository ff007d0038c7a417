//! Drivers: profile, shift, positions.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tessera_kernel::{Place, Timestamp};

use super::rides::not_now;
use super::{App, driver_of};
use crate::Error;
use crate::domain::ids::DriverId;
use crate::locations::{Duty, Entry, Refusal, Report};
use crate::store::{Driver, DriverChange, DriverEdit, Edited, Profile};

/// How long it is remembered that a driver who reports is off duty, so that the database is not asked each time.
const OFF_DUTY: Duration = Duration::from_secs(5);
/// How many of them are remembered.
const MAX_OFF_DUTY: usize = 100_000;

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
        match self.store.driver(id).await? {
            Some(driver) => Ok(driver),
            None => self.edit(id, Some(Arc::clone(subject)), DriverChange::Met).await,
        }
    }

    /// A driver writes a profile, which an operator must approve.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::NotNow`] during a ride, [`Error::Locations`], those of the database.
    pub async fn set_profile(&self, subject: &Arc<str>, profile: Profile) -> Result<Driver, Error> {
        profile.check().map_err(|reason| Error::BadRequest { reason })?;
        let edit = self.edit(driver_of(subject), Some(Arc::clone(subject)), DriverChange::Profile(profile));
        self.gone(edit.await?).await
    }

    /// An operator lets a driver drive, or no longer: then there are no more offers, and the shift ends, within a ride with that.
    ///
    /// # Errors
    /// [`Error::NotFound`], those of the database.
    pub async fn approve(&self, id: DriverId, approved: bool) -> Result<Driver, Error> {
        let known = self.store.driver(id).await?;
        let known = known.ok_or_else(|| Error::NotFound { what: "driver", id: id.to_string() })?;
        if approved && known.profile.is_none() {
            return Err(Error::NotReady {
                driver: id,
                reason: "has no profile yet, so there is nothing to approve".into(),
            });
        }
        let driver = self.edit(id, None, DriverChange::Approved(approved)).await?;
        if approved || driver.on_duty { Ok(driver) } else { self.gone(driver).await }
    }

    /// A shift begins or ends.
    ///
    /// # Errors
    /// [`Error::NotReady`] where no operator has approved the profile, [`Error::NotNow`] for an end during a ride,
    /// [`Error::Locations`] for an end that the positions do not know of yet, those of the database.
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
                let driver = self.edit(driver.id, None, DriverChange::OnDuty(true)).await?;
                let busy = self.store.ride_of_driver(driver.id).await?.is_some();
                let duty = if busy { Duty::Busy } else { Duty::Free };
                if let Err(error) = self.locations.enter(driver.id, place, duty, self.clock.now()).await {
                    // The shift has begun: the next report says where the driver is.
                    tracing::warn!(%error, driver.id = %driver.id, "a shift begins without a position");
                }
                self.wake.notify_one();
                Ok(driver)
            }
            Shift::Off => {
                let driver = self.edit(driver.id, None, DriverChange::OnDuty(false)).await?;
                self.gone(driver).await
            }
        }
    }

    /// Takes reports, each on its own. Who is on duty and has no position, as this process or the store of positions began
    /// after the shift did, is taken back.
    ///
    /// # Errors
    /// [`Error::Locations`]; some of them may have been taken. Those of the database, where it is asked who is on duty.
    pub async fn locate(&self, reports: &[Report]) -> Result<Vec<Update>, Error> {
        let now = self.clock.now();
        let mut taken = self.locations.report(reports, now).await?;
        let strange = |number: &usize| taken[*number] == Err(Refusal::OffDuty);
        let strangers: Vec<usize> = (0..reports.len()).filter(strange).collect();
        if !strangers.is_empty() {
            let strangers = self.take_back(reports, &strangers, now).await?;
            let again: Vec<Report> = strangers.iter().map(|number| reports[*number]).collect();
            for (number, answer) in strangers.into_iter().zip(self.locations.report(&again, now).await?) {
                taken[number] = answer;
            }
        }
        let counted = |answer: Result<Duration, Refusal>| match answer {
            Ok(next) => Ok(next.as_millis() as u32),
            Err(refusal) => {
                self.refusals.count(refusal);
                Err(refusal)
            }
        };
        Ok(taken.into_iter().map(counted).collect())
    }

    /// Lets drivers whose shifts are under way come on duty where their first reports say. Gives the reports of those.
    async fn take_back(&self, reports: &[Report], strangers: &[usize], now: Timestamp) -> Result<Vec<usize>, Error> {
        let unknown: HashSet<DriverId> = {
            let mut off_duty = self.off_duty.lock().unwrap_or_else(PoisonError::into_inner);
            if off_duty.len() > MAX_OFF_DUTY {
                off_duty.clear();
            }
            let lately = |driver: &DriverId| off_duty.get(driver).is_some_and(|at| now.since(*at) < OFF_DUTY);
            strangers.iter().map(|number| reports[*number].driver).filter(|driver| !lately(driver)).collect()
        };
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let unknown: Vec<DriverId> = unknown.into_iter().collect();
        let shifts: HashMap<DriverId, bool> = self.store.shifts(&unknown).await?.into_iter().collect();
        let mut entries: HashMap<DriverId, Entry> = HashMap::new();
        let mut back = Vec::new();
        for number in strangers {
            let Report { driver, place, .. } = reports[*number];
            let Some(busy) = shifts.get(&driver) else { continue };
            back.push(*number);
            let duty = if *busy { Duty::Busy } else { Duty::Free };
            entries.entry(driver).or_insert(Entry { driver, place, duty, at: now });
        }
        let entries: Vec<Entry> = entries.into_values().collect();
        // Another request may have been faster: its report and the duty since then stand.
        self.locations.enter_unknown(&entries).await?;
        let off_duty = unknown.into_iter().filter(|driver| !shifts.contains_key(driver));
        self.off_duty.lock().unwrap_or_else(PoisonError::into_inner).extend(off_duty.map(|driver| (driver, now)));
        Ok(back)
    }

    /// A driver whose shift is over has no position any more. Where that fails, the same again does it.
    async fn gone(&self, driver: Driver) -> Result<Driver, Error> {
        self.locations.leave(driver.id).await?;
        Ok(driver)
    }

    async fn edit(&self, id: DriverId, subject: Option<Arc<str>>, change: DriverChange) -> Result<Driver, Error> {
        match self.store.edit_driver(DriverEdit { id, subject, change }).await? {
            Edited::Done(driver) => Ok(*driver),
            Edited::Bound(ride) => {
                let missing = || Error::NotFound { what: "ride", id: ride.to_string() };
                let ride = self.store.ride(ride).await?.ok_or_else(missing)?;
                Err(not_now(&ride, "answer it, finish it or give it back before the shift ends"))
            }
            Edited::NotApproved => {
                let reason = "is not approved any more; ask the operator".to_owned();
                Err(Error::NotReady { driver: id, reason })
            }
        }
    }
}
