//! A ride: its states, and what may happen in each. The only place that knows which transition is legal.
//!
//! ```text
//! estimated ─request→ requested ─offer→ offered ─accept→ accepted ─arrive→ arrived ─pick up→ picked_up_rider ─complete→ completed
//!     │                 │   ↑─deny, lapse─┘ │               │                │
//!     └─expire→ expired ├─give up→ no_driver ├──────────────┴────────────────┴─cancel→ cancelled
//!                       └─cancel→ cancelled  └ a driver who cancels gives the ride back: accepted, arrived → requested;
//!                                                  a rider who does not come: arrived → cancelled;
//!                                                  nobody is found and the rider waits on: requested → requested
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_kernel::{Money, Place, Timestamp};

use super::fare::{Surge, Tariff};
use super::ids::{DriverId, OfferId, RideId};

/// Where a ride stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A price was given.
    Estimated,
    /// The rider wants it; it waits for a driver.
    Requested,
    /// A driver is asked.
    Offered,
    /// A driver is on the way.
    Accepted,
    /// The driver waits at the pickup.
    Arrived,
    /// The rider sits in the car.
    PickedUpRider,
    /// Done.
    Completed,
    /// Ended by the rider, the driver or an operator.
    Cancelled,
    /// The estimate was not requested in time.
    Expired,
    /// Nobody was found.
    NoDriver,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Estimated,
        Self::Requested,
        Self::Offered,
        Self::Accepted,
        Self::Arrived,
        Self::PickedUpRider,
        Self::Completed,
        Self::Cancelled,
        Self::Expired,
        Self::NoDriver,
    ];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Requested => "requested",
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Arrived => "arrived",
            Self::PickedUpRider => "picked_up_rider",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::NoDriver => "no_driver",
        }
    }

    /// The state of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Expired | Self::NoDriver)
    }

    /// Whether it was requested, and has come to no end but the destination.
    const fn was_booked(self) -> bool {
        matches!(self, Self::Requested | Self::Offered | Self::Completed) || self.has_driver()
    }

    /// Whether one who does not drive may end it.
    const fn may_be_cancelled(self, by: Party) -> bool {
        match self {
            Self::Estimated | Self::Requested | Self::Offered | Self::Accepted | Self::Arrived => true,
            // Else it would never end where its driver cannot say so any more.
            Self::PickedUpRider => matches!(by, Party::Operator),
            Self::Completed | Self::Cancelled | Self::Expired | Self::NoDriver => false,
        }
    }

    /// Whether a driver is bound to it.
    pub const fn has_driver(self) -> bool {
        matches!(self, Self::Accepted | Self::Arrived | Self::PickedUpRider)
    }
}

/// So many wrong codes are taken for slips.
const FREE_GUESSES: u32 = 5;
/// How long a driver waits for each further one: there are 10,000 codes.
const GUESS_PAUSE: Duration = Duration::from_secs(60);

/// Who ends a ride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Who asked for it.
    Rider,
    /// Who drives.
    Driver,
    /// The one who runs the service.
    Operator,
}

/// An offer that waits for its driver's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// 1 for the first of a ride, and so on.
    pub number: u32,
    /// Who is asked.
    pub driver: DriverId,
    /// Of the claim on the driver that it was made under.
    pub token: i64,
    /// When silence counts as denial.
    pub expires_at: Timestamp,
    /// To the pickup, seconds by road.
    pub eta_s: u32,
}

/// A driver whom the matcher wants to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOffer {
    /// Its id.
    pub id: OfferId,
    /// Who is asked.
    pub driver: DriverId,
    /// Of the claim on the driver.
    pub token: i64,
    /// How long the driver has to answer.
    pub window: Duration,
    /// To the pickup, seconds by road.
    pub eta_s: u32,
}

/// What was estimated, and booked with the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// From where.
    pub pickup: Place,
    /// To where.
    pub destination: Place,
    /// What it costs, surge included.
    pub price: Money,
    /// In hundredths.
    pub surge: Surge,
    /// By road, metres.
    pub distance_m: u32,
    /// By road, seconds.
    pub duration_s: u32,
    /// Until a driver is there, seconds; `None` where nobody is near.
    pub pickup_s: Option<u32>,
    /// The way as an encoded polyline of precision 5.
    pub route: String,
    /// Until when the price holds.
    pub expires_at: Timestamp,
}

/// How a ride was ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cancellation {
    /// By whom.
    pub by: Party,
    /// In words.
    pub reason: String,
    /// What the rider owes for it.
    pub fee: Money,
}

/// A ride as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ride {
    /// Its id.
    pub id: RideId,
    /// Who rides: the subject of the token.
    pub rider: String,
    /// Where it stands.
    pub state: State,
    /// Grows with each change: the number of its last event.
    pub version: u32,
    /// The H3 cell whose line it waits in.
    pub area: u64,
    /// What it costs, and where to.
    pub estimate: Estimate,
    /// Four digits that the rider tells the driver.
    pub code: String,
    /// Who drives.
    pub driver: Option<DriverId>,
    /// The last offer: open while the state is `offered`.
    pub offer: Option<Offer>,
    /// How many offers were made.
    pub offers: u32,
    /// When it was requested first: its place in the line.
    pub requested_at: Option<Timestamp>,
    /// When the search for a driver began, again after one gave the ride back.
    pub searching_since: Option<Timestamp>,
    /// When the rider was told that nobody was found in time, and that the search goes on.
    #[serde(default)]
    pub nobody_yet_at: Option<Timestamp>,
    /// When a driver accepted.
    pub accepted_at: Option<Timestamp>,
    /// When the driver was at the pickup.
    pub arrived_at: Option<Timestamp>,
    /// How many codes the driver has told that were not the rider's.
    #[serde(default)]
    pub wrong_codes: u32,
    /// The last one of them.
    #[serde(default)]
    pub wrong_code_at: Option<Timestamp>,
    /// When the rider got in.
    pub picked_up_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How, where it was cancelled.
    pub cancellation: Option<Cancellation>,
    /// When its row was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// What may happen to a ride.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The rider books the estimate.
    Request,
    /// The matcher asks a driver.
    Offer(NewOffer),
    /// A driver says yes to an offer.
    Accept {
        /// Who.
        driver: DriverId,
        /// To what.
        offer: OfferId,
    },
    /// A driver says no.
    Deny {
        /// Who.
        driver: DriverId,
        /// To what.
        offer: OfferId,
    },
    /// Nobody answered in time.
    Lapse {
        /// What.
        offer: OfferId,
    },
    /// The driver is at the pickup.
    Arrive(DriverId),
    /// The rider got in and told the code.
    PickUp {
        /// Who drives.
        driver: DriverId,
        /// As the rider told it.
        code: String,
    },
    /// The driver is at the destination.
    Complete(DriverId),
    /// Somebody ends it.
    Cancel {
        /// Who, with the id where it is a driver.
        by: Party,
        /// The driver, where it is one.
        driver: Option<DriverId>,
        /// In words.
        reason: String,
    },
    /// The driver has waited long enough for the rider.
    NoShow(DriverId),
    /// The price holds no longer.
    Expire,
    /// Nobody was found in this time: the search is over.
    GiveUp(Duration),
    /// Nobody was found in this time: the rider is told, and keeps the place in the line.
    WaitOn(Duration),
}

impl Command {
    /// The name of its event in the history of the ride, which is so after it.
    pub fn event(&self, after: &Ride) -> &'static str {
        match self {
            Self::Request => "requested",
            Self::Offer(_) => "offered",
            Self::Accept { .. } => "accepted",
            Self::Deny { .. } => "denied",
            Self::Lapse { .. } => "lapsed",
            Self::Arrive(_) => "arrived",
            Self::PickUp { .. } if after.state == State::Arrived => "wrong_code",
            Self::PickUp { .. } => "picked_up_rider",
            Self::Complete(_) => "completed",
            Self::Cancel { .. } | Self::NoShow(_) => "cancelled",
            Self::Expire => "expired",
            Self::GiveUp(_) => "no_driver",
            Self::WaitOn(_) => "nobody_yet",
        }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has been done before, by the same one: the answer is the ride as it is.
    Already,
    /// The state does not allow it.
    State,
    /// It is another driver's.
    NotYours,
    /// The offer is not the one that is open.
    OfferOver,
    /// The estimate has expired.
    Expired,
    /// So many codes were wrong that the next one has to wait.
    TooManyCodes,
    /// Not yet: the rider may still come, a driver may still be found.
    TooEarly,
}

impl Ride {
    /// What becomes of the ride.
    ///
    /// # Errors
    /// Why nothing does.
    pub fn after(&self, command: &Command, tariff: &Tariff, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.clone();
        match (command, self.state) {
            (Command::Request, State::Estimated) => {
                if now >= self.estimate.expires_at {
                    return Err(Refused::Expired);
                }
                next.state = State::Requested;
                next.requested_at = Some(now);
                next.searching_since = Some(now);
            }
            (Command::Request, State::Expired) => return Err(Refused::Expired),
            (Command::Request, state) if state.was_booked() => return Err(Refused::Already),
            (Command::Offer(new), State::Requested) => {
                next.state = State::Offered;
                next.offers += 1;
                next.offer = Some(Offer {
                    id: new.id,
                    number: next.offers,
                    driver: new.driver,
                    token: new.token,
                    expires_at: now.plus(new.window),
                    eta_s: new.eta_s,
                });
            }
            (Command::Accept { driver, offer }, State::Offered) => {
                let open = self.open_offer(*driver, *offer)?;
                if now >= open.expires_at {
                    return Err(Refused::OfferOver);
                }
                next.state = State::Accepted;
                next.driver = Some(*driver);
                next.accepted_at = Some(now);
            }
            (Command::Accept { driver, offer }, state) if state.has_driver() => {
                let same = self.driver == Some(*driver) && self.offer.as_ref().is_some_and(|open| open.id == *offer);
                return Err(if same { Refused::Already } else { Refused::OfferOver });
            }
            (Command::Accept { .. } | Command::Deny { .. } | Command::Lapse { .. }, State::Requested) => {
                return Err(Refused::OfferOver);
            }
            (Command::Deny { driver, offer }, State::Offered) => {
                self.open_offer(*driver, *offer)?;
                next.state = State::Requested;
            }
            (Command::Lapse { offer }, State::Offered) => {
                let open = self.offer.as_ref().filter(|open| open.id == *offer).ok_or(Refused::OfferOver)?;
                if now < open.expires_at {
                    return Err(Refused::State);
                }
                next.state = State::Requested;
            }
            (Command::Arrive(driver), State::Accepted) => {
                self.driven_by(*driver)?;
                next.state = State::Arrived;
                next.arrived_at = Some(now);
            }
            (Command::PickUp { driver, code }, State::Arrived) => {
                self.driven_by(*driver)?;
                if self.wrong_codes >= FREE_GUESSES && self.wrong_code_at.is_some_and(|at| now.since(at) < GUESS_PAUSE)
                {
                    return Err(Refused::TooManyCodes);
                }
                if *code == self.code {
                    next.state = State::PickedUpRider;
                    next.picked_up_at = Some(now);
                } else {
                    next.wrong_codes += 1;
                    next.wrong_code_at = Some(now);
                }
            }
            (Command::Complete(driver), State::PickedUpRider) => {
                self.driven_by(*driver)?;
                next.state = State::Completed;
            }
            (Command::Arrive(driver), State::Arrived)
            | (Command::PickUp { driver, .. }, State::PickedUpRider)
            | (Command::Complete(driver), State::Completed) => {
                self.driven_by(*driver)?;
                return Err(Refused::Already);
            }
            // A driver who gives up gives the ride back: the rider keeps the place in the line.
            (Command::Cancel { by: Party::Driver, driver, .. }, State::Accepted | State::Arrived) => {
                self.driven_by(driver.ok_or(Refused::NotYours)?)?;
                next.state = State::Requested;
                next.driver = None;
                next.accepted_at = None;
                next.arrived_at = None;
                next.searching_since = Some(now);
            }
            (Command::Cancel { by: Party::Driver, .. }, _) => return Err(Refused::State),
            (Command::Cancel { by, reason, .. }, state) if state.may_be_cancelled(*by) => {
                let driving = self.accepted_at.map(|accepted| now.since(accepted).as_secs());
                let fee = tariff.cancellation(driving.filter(|_| *by == Party::Rider));
                next.state = State::Cancelled;
                next.cancellation = Some(Cancellation { by: *by, reason: reason.clone(), fee });
            }
            (Command::NoShow(driver), State::Arrived) => {
                self.driven_by(*driver)?;
                let since = self.arrived_at.map_or(0, |arrived| now.since(arrived).as_secs());
                if since < u64::from(tariff.no_show_after_s) {
                    return Err(Refused::TooEarly);
                }
                let fee = Money::new(tariff.cancel_fee, tariff.currency);
                let reason = "the rider did not come".to_owned();
                next.state = State::Cancelled;
                next.cancellation = Some(Cancellation { by: Party::Driver, reason, fee });
            }
            (Command::NoShow(driver), State::Cancelled) => {
                self.driven_by(*driver)?;
                let same = self.cancellation.as_ref().is_some_and(|known| known.by == Party::Driver);
                return Err(if same { Refused::Already } else { Refused::State });
            }
            (Command::Cancel { by, .. }, State::Cancelled) => {
                let same = self.cancellation.as_ref().is_some_and(|known| known.by == *by);
                return Err(if same { Refused::Already } else { Refused::State });
            }
            (Command::Expire, State::Estimated) if now >= self.estimate.expires_at => next.state = State::Expired,
            (Command::GiveUp(after) | Command::WaitOn(after), State::Requested) => {
                let searched = self.searching_since.map_or(0, |since| now.since(since).as_secs());
                if searched < after.as_secs() {
                    return Err(Refused::TooEarly);
                }
                match command {
                    Command::WaitOn(_) if self.knows_of_nobody() => return Err(Refused::Already),
                    Command::WaitOn(_) => next.nobody_yet_at = Some(now),
                    _ => next.state = State::NoDriver,
                }
            }
            _ => return Err(Refused::State),
        }
        if next.state.is_final() {
            next.ended_at = Some(now);
        }
        next.version += 1;
        next.updated_at = now;
        Ok(next)
    }

    /// Who is asked for it or drives it.
    pub fn bound_driver(&self) -> Option<DriverId> {
        match self.state {
            State::Offered => self.offer.as_ref().map(|offer| offer.driver),
            state if state.has_driver() => self.driver,
            _ => None,
        }
    }

    /// Whether the rider was told in this search that nobody was found yet.
    pub fn knows_of_nobody(&self) -> bool {
        self.nobody_yet_at.zip(self.searching_since).is_some_and(|(told, since)| told >= since)
    }

    /// The same, made at `now`: the estimate holds as long from then on.
    pub fn made_at(mut self, now: Timestamp) -> Self {
        let holds = self.estimate.expires_at.since(self.created_at);
        self.estimate.expires_at = now.plus(holds);
        (self.created_at, self.updated_at) = (now, now);
        self
    }

    fn open_offer(&self, driver: DriverId, offer: OfferId) -> Result<&Offer, Refused> {
        let open = self.offer.as_ref().filter(|open| open.id == offer).ok_or(Refused::OfferOver)?;
        if open.driver == driver { Ok(open) } else { Err(Refused::NotYours) }
    }

    fn driven_by(&self, driver: DriverId) -> Result<(), Refused> {
        if self.driver == Some(driver) { Ok(()) } else { Err(Refused::NotYours) }
    }
}

#[cfg(test)]
mod tests;
