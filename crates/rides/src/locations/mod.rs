//! Where drivers are now: the latest position, heading and time of each, and who is nearest.

mod index;
mod refusals;

use tessera_kernel::{Place, Timestamp};

use crate::domain::ids::DriverId;

pub use index::Index;
pub use refusals::Refusals;

/// What a driver's phone says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub place: Place,
    /// Where to, degrees clockwise from north, 0 to 359.
    pub heading: Option<u16>,
    /// When, by the phone.
    pub at: Timestamp,
}

/// What a driver is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Duty {
    /// On duty and free.
    Free,
    /// On duty with an offer or a ride.
    Busy,
}

/// Why a report changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The driver is not on duty.
    OffDuty,
    /// Nothing newer than what is known.
    Stale,
    /// Taken longer ago than positions count.
    Past,
    /// Taken in the future.
    Future,
    /// Further from the last position than a car comes in the time.
    Jump,
}

impl Refusal {
    /// Its stable name, in answers and in metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OffDuty => "off_duty",
            Self::Stale => "stale",
            Self::Past => "past",
            Self::Future => "future",
            Self::Jump => "jump",
        }
    }
}

/// A driver as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub place: Place,
    /// Where to, degrees clockwise from north.
    pub heading: Option<u16>,
    /// When that was, to 50 ms.
    pub at: Timestamp,
    /// Free or busy.
    pub duty: Duty,
}

/// A driver near a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub place: Place,
    /// The line to the place, metres.
    pub distance_m: f64,
    /// When the position was taken, to 50 ms.
    pub at: Timestamp,
}
