//! The steps of a ride that people ask for.

use std::sync::Arc;

use super::{App, Wish};
use crate::Error;
use crate::domain::ids::{DriverId, OfferId, RideId};
use crate::domain::ride::{Command, Party, Refused, Ride, State};
use crate::store::{Step, Stepped};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The subject of a rider's token.
    Rider(Arc<str>),
    /// A driver.
    Driver(DriverId),
    /// Who runs the service.
    Operator,
}

/// What a driver says about a ride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusChange {
    /// At the pickup.
    Arrived,
    /// The rider is in, and told this code.
    PickedUp(String),
    /// At the destination.
    Completed,
}

impl Asker {
    /// Whether a ride concerns it as it stands.
    pub fn may_see(&self, ride: &Ride) -> bool {
        match self {
            Self::Rider(subject) => *ride.rider == **subject,
            Self::Driver(driver) => ride.driver == Some(*driver) || ride.bound_driver() == Some(*driver),
            Self::Operator => true,
        }
    }
}

impl App {
    /// A ride that concerns the asker.
    ///
    /// # Errors
    /// [`Error::NotFound`], also where it is another's; those of the database.
    pub async fn ride(&self, id: RideId, asker: &Asker) -> Result<Ride, Error> {
        self.ride_of(id, std::slice::from_ref(asker)).await.map(|(ride, _)| ride)
    }

    /// A ride, and as whom it concerns the one who asks: the first that it does.
    ///
    /// # Errors
    /// Those of [`App::ride`].
    pub async fn ride_of(&self, id: RideId, askers: &[Asker]) -> Result<(Ride, Asker), Error> {
        let missing = || Error::NotFound { what: "ride", id: id.to_string() };
        let ride = self.store.ride(id).await?.ok_or_else(missing)?;
        let asker = askers.iter().find(|asker| asker.may_see(&ride)).cloned().ok_or_else(missing)?;
        Ok((ride, asker))
    }

    /// Books an estimate. The same again gives the ride as it is.
    ///
    /// # Errors
    /// [`Error::EstimateExpired`] with a fresh one, [`Error::NotNow`], [`Error::NotFound`], those of the database.
    pub async fn request(&self, subject: &Arc<str>, id: RideId) -> Result<Ride, Error> {
        match self.take(id, Command::Request, Some(subject)).await {
            Err(Error::EstimateExpired { ride, .. }) => {
                let known = self.ride(ride, &Asker::Rider(Arc::clone(subject))).await?.estimate;
                let wish = Wish { pickup: known.pickup, destination: known.destination };
                let fresh = Box::new(self.estimate(subject, wish).await?);
                Err(Error::EstimateExpired { ride, fresh: Some(fresh) })
            }
            taken => taken,
        }
    }

    /// A driver's answer to an offer. An acceptance again gives the ride as it is, a denial again is refused.
    ///
    /// # Errors
    /// [`Error::OfferOver`] where it is answered, lapsed or another's; [`Error::NotReady`] where the approval was withdrawn;
    /// [`Error::NotFound`]; those of the database.
    pub async fn respond(&self, driver: DriverId, id: RideId, offer: OfferId, accept: bool) -> Result<Ride, Error> {
        let command = if accept { Command::Accept { driver, offer } } else { Command::Deny { driver, offer } };
        self.take(id, command, None).await
    }

    /// What a driver says about a ride. The same again gives the ride as it is.
    ///
    /// # Errors
    /// [`Error::NotNow`], [`Error::WrongCode`], [`Error::Forbidden`], [`Error::NotFound`], those of the database.
    pub async fn set_status(&self, driver: DriverId, id: RideId, change: StatusChange) -> Result<Ride, Error> {
        let command = match change {
            StatusChange::Arrived => Command::Arrive(driver),
            StatusChange::PickedUp(code) => Command::PickUp { driver, code },
            StatusChange::Completed => Command::Complete(driver),
        };
        self.take(id, command, None).await
    }

    /// Ends a ride. A driver gives it back instead, unless the rider did not come.
    ///
    /// # Errors
    /// [`Error::NotNow`], [`Error::Forbidden`], [`Error::NotFound`], those of the database.
    pub async fn cancel(&self, asker: &Asker, id: RideId, reason: String, no_show: bool) -> Result<Ride, Error> {
        let (command, rider) = match asker {
            Asker::Rider(subject) => (Command::Cancel { by: Party::Rider, driver: None, reason }, Some(subject)),
            Asker::Driver(driver) if no_show => (Command::NoShow(*driver), None),
            Asker::Driver(driver) => (Command::Cancel { by: Party::Driver, driver: Some(*driver), reason }, None),
            Asker::Operator => (Command::Cancel { by: Party::Operator, driver: None, reason }, None),
        };
        self.take(id, command, rider).await
    }

    /// Takes a step, and says in the product's words why not.
    async fn take(&self, id: RideId, command: Command, rider: Option<&Arc<str>>) -> Result<Ride, Error> {
        let picks_up = matches!(command, Command::PickUp { .. });
        let step = Step { ride: id, command, rider: rider.cloned() };
        match self.store.step(step).await? {
            Stepped::Done(ride, _) if picks_up && ride.state == State::Arrived => Err(Error::WrongCode { ride: id }),
            Stepped::Done(ride, _) | Stepped::Refused(Refused::Already, ride) => Ok(ride),
            Stepped::Missing => Err(Error::NotFound { what: "ride", id: id.to_string() }),
            Stepped::DriverBound(ride) => Err(not_now(&ride, "the driver has another offer or ride")),
            Stepped::NotApproved(driver) => {
                let reason = "is not approved any more; ask the operator, and deny the offer".to_owned();
                Err(Error::NotReady { driver, reason })
            }
            Stepped::Refused(refused, ride) => Err(match refused {
                Refused::Already | Refused::State => not_now(&ride, "this is not possible in that state"),
                Refused::TooEarly => not_now(&ride, "the rider may still come; wait a little longer"),
                Refused::NotYours => Error::Forbidden { what: format!("ride `{id}`") },
                Refused::OfferOver => Error::OfferOver { ride: id, state: ride.state },
                Refused::Expired => Error::EstimateExpired { ride: id, fresh: None },
                Refused::TooManyCodes => {
                    not_now(&ride, "too many wrong codes; ask the rider, and try again in a minute")
                }
            }),
        }
    }
}

pub(super) fn not_now(ride: &Ride, reason: &str) -> Error {
    Error::NotNow { ride: ride.id, state: ride.state, reason: reason.to_owned() }
}
