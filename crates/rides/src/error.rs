//! What can go wrong, in the product's words.

use tessera_kernel::{ErrorKind, Place};

use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::{Ride, State};

/// A refusal or failure of rides.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A ride or driver that is not there, or not for this caller.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Its id, as it was sent.
        id: String,
    },
    /// A request that asks for what cannot be.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A place without a road.
    #[error("no road lies within 2 km of the {what} `{place}`; move the point to a street")]
    NoRoad {
        /// Pickup, destination or driver.
        what: &'static str,
        /// Where.
        place: Place,
    },
    /// A map was asked for where there is none.
    #[error("there is no road network here; prepare one with `tessera rides import CITY.OSM.PBF` and start again")]
    NoMap,
    /// Two places without a way between them.
    #[error("there is no way by car from `{from}` to `{to}`")]
    NoWay {
        /// From where.
        from: Place,
        /// To where.
        to: Place,
    },
    /// An estimate whose price holds no longer.
    #[error("the estimate of ride `{ride}` has expired; a fresh one is in `estimate`, ask for that ride instead")]
    EstimateExpired {
        /// Which.
        ride: RideId,
        /// The fresh one, where one was made.
        fresh: Option<Box<Ride>>,
    },
    /// A step that the ride's state does not allow.
    #[error("ride `{ride}` is {}: {reason}", .state.as_str())]
    NotNow {
        /// Which.
        ride: RideId,
        /// Where it stands.
        state: State,
        /// What stands in the way.
        reason: String,
    },
    /// An offer that is answered, lapsed or withdrawn.
    #[error("this offer of ride `{ride}` is over")]
    OfferOver {
        /// Which.
        ride: RideId,
        /// Where it stands.
        state: State,
    },
    /// Not the rider's code.
    #[error("this is not the code of ride `{ride}`; ask the rider for the four digits in the app")]
    WrongCode {
        /// Which.
        ride: RideId,
    },
    /// A driver who may not drive yet.
    #[error("driver `{driver}` {reason}")]
    NotReady {
        /// Who.
        driver: DriverId,
        /// What is missing.
        reason: String,
    },
    /// Not whose it is.
    #[error("{what} is not yours")]
    Forbidden {
        /// What.
        what: String,
    },
    /// A push service that is not set up.
    #[error("there is no push through `{service}` here; an operator sets it up under `rides.push.{service}`")]
    NoPush {
        /// Which.
        service: &'static str,
    },
    /// A setting of the product that cannot be met.
    #[error("{reason}")]
    Setting {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The engine of routes is away.
    #[error("the routing engine does not answer: {reason}")]
    Routes {
        /// What it says.
        reason: String,
    },
    /// The store of drivers' positions is away, or failed.
    #[error("positions cannot be read or written now: {reason}; send them again when they are due")]
    Locations {
        /// What it says.
        reason: String,
    },
    /// The database or the claims failed.
    #[error(transparent)]
    Store(#[from] tessera_store::Error),
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] tessera_store::sql::Error),
    /// What is stored cannot be read.
    #[error("what is stored of {what} cannot be read: {reason}")]
    Corrupt {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "rides.not_found",
    "rides.bad_request",
    "rides.no_road",
    "rides.no_map",
    "rides.no_way",
    "rides.estimate_expired",
    "rides.not_now",
    "rides.offer_over",
    "rides.wrong_code",
    "rides.not_ready",
    "rides.forbidden",
    "rides.no_push",
    "rides.setting",
    "rides.routes",
    "rides.locations",
    "rides.corrupt",
];

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoMap | Self::NoPush { .. } => ErrorKind::NotFound,
            Self::BadRequest { .. } | Self::NoRoad { .. } | Self::NoWay { .. } | Self::Setting { .. } => {
                ErrorKind::Invalid
            }
            Self::EstimateExpired { .. } => ErrorKind::Gone,
            Self::NotNow { .. } | Self::OfferOver { .. } | Self::WrongCode { .. } => ErrorKind::Conflict,
            Self::NotReady { .. } | Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Routes { .. } | Self::Locations { .. } => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Sql(error) => error.kind(),
            Self::Corrupt { .. } => ErrorKind::Internal,
        }
    }

    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "rides.not_found",
            Self::BadRequest { .. } => "rides.bad_request",
            Self::NoRoad { .. } => "rides.no_road",
            Self::NoMap => "rides.no_map",
            Self::NoWay { .. } => "rides.no_way",
            Self::EstimateExpired { .. } => "rides.estimate_expired",
            Self::NotNow { .. } => "rides.not_now",
            Self::OfferOver { .. } => "rides.offer_over",
            Self::WrongCode { .. } => "rides.wrong_code",
            Self::NotReady { .. } => "rides.not_ready",
            Self::Forbidden { .. } => "rides.forbidden",
            Self::NoPush { .. } => "rides.no_push",
            Self::Setting { .. } => "rides.setting",
            Self::Routes { .. } => "rides.routes",
            Self::Locations { .. } => "rides.locations",
            Self::Store(error) => error.code(),
            Self::Sql(error) => error.code(),
            Self::Corrupt { .. } => "rides.corrupt",
        }
    }
}
