//! Where drivers are now: the latest position, heading and time of each, and who is nearest. In the memory of one process,
//! or in Redis for several.

mod breaker;
mod cells;
mod counted;
mod gather;
mod index;
mod keys;
mod record;
mod redis;
mod refusals;
mod rules;
mod search;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Place, Timestamp};
use tessera_store::redis::Redis;

use crate::Error;
use crate::domain::bounds::Bounds;
use crate::domain::ids::DriverId;
use crate::domain::interval::Intervals;

pub use index::Index;
pub use redis::RedisIndex;
pub use refusals::Refusals;

/// How often the free drivers are counted.
pub const FREE_COUNTED: Duration = Duration::from_secs(5);
/// In how many parts all drivers can be gone through ([`Locations::part`]).
pub const PARTS: usize = 64;

/// Where drivers are. Cheap to clone.
///
/// What it says may lag or be lost with Redis; that a driver has one ride rests on the database alone.
#[derive(Clone, Debug)]
pub enum Locations {
    /// In this process.
    Memory(Arc<Index>),
    /// In Redis.
    Redis(Arc<RedisIndex>),
}

/// A driver who comes on duty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub place: Place,
    /// Free or busy.
    pub duty: Duty,
    /// When, by the clock here. The first report may be older, as the phone's clock may be behind; each later one must be newer
    /// than the one before.
    pub at: Timestamp,
}

impl Locations {
    /// None yet, in this process.
    pub fn in_memory(intervals: Intervals, now: Timestamp) -> Self {
        Self::Memory(Arc::new(Index::new(intervals, now)))
    }

    /// Those in Redis, which need not be any.
    pub fn in_redis(redis: Redis, intervals: Intervals) -> Self {
        Self::Redis(Arc::new(RedisIndex::new(redis, intervals)))
    }

    /// A driver comes on duty at a place, or is already and is moved there whatever lies between.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn enter(&self, driver: DriverId, place: Place, duty: Duty, at: Timestamp) -> Result<(), Error> {
        self.enter_all(&[Entry { driver, place, duty, at }], false).await
    }

    /// Those of these drivers of whom nothing is known come on duty; the others stay as they are.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn enter_unknown(&self, entries: &[Entry]) -> Result<(), Error> {
        self.enter_all(entries, true).await
    }

    async fn enter_all(&self, entries: &[Entry], stay: bool) -> Result<(), Error> {
        match self {
            Self::Memory(index) => {
                entries.iter().for_each(|entry| index.enter(entry, stay));
                Ok(())
            }
            Self::Redis(index) => index.enter(entries, stay).await,
        }
    }

    /// A free driver who was not heard since `before` has no position any more, until it comes again. Whether that is so.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn forget(&self, driver: DriverId, before: Timestamp) -> Result<bool, Error> {
        match self {
            Self::Memory(index) => Ok(index.forget(driver, before)),
            Self::Redis(index) => index.forget(driver, before).await,
        }
    }

    /// A driver goes off duty. Whether it was on.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn leave(&self, driver: DriverId) -> Result<bool, Error> {
        match self {
            Self::Memory(index) => Ok(index.leave(driver)),
            Self::Redis(index) => index.leave(driver).await,
        }
    }

    /// A driver gets busy or free. Whether it is on duty.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn set_duty(&self, driver: DriverId, duty: Duty) -> Result<bool, Error> {
        match self {
            Self::Memory(index) => Ok(index.set_duty(driver, duty)),
            Self::Redis(index) => index.set_duty(driver, duty).await,
        }
    }

    /// Takes reports, each on its own: when the next one is due, or why it changed nothing.
    ///
    /// # Errors
    /// [`Error::Locations`]; some of them may have been taken.
    pub async fn report(&self, reports: &[Report], now: Timestamp) -> Result<Vec<Result<Duration, Refusal>>, Error> {
        match self {
            Self::Memory(index) => Ok(index.report_all(reports, now)),
            Self::Redis(index) => index.report(reports, now).await,
        }
    }

    /// What is known of a driver; `None` off duty.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn get(&self, driver: DriverId) -> Result<Option<Located>, Error> {
        Ok(self.get_all(&[driver]).await?.pop().flatten())
    }

    /// What is known of each of these drivers.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn get_all(&self, drivers: &[DriverId]) -> Result<Vec<Option<Located>>, Error> {
        match self {
            Self::Memory(index) => Ok(drivers.iter().map(|driver| index.get(*driver)).collect()),
            Self::Redis(index) => index.get(drivers).await,
        }
    }

    /// The nearest free drivers within `radius_m` of a place whose reports are not overdue three times, nearest first, at most
    /// `most`. `fits` says who may be among them, may be asked about one more than once, and must not ask for positions.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn nearest(
        &self,
        place: Place,
        most: usize,
        radius_m: f64,
        now: Timestamp,
        fits: impl Fn(DriverId) -> bool,
    ) -> Result<Vec<Near>, Error> {
        match self {
            Self::Memory(index) => Ok(index.nearest(place, most, radius_m, now, fits)),
            Self::Redis(index) => index.nearest(place, most, radius_m, now, fits).await,
        }
    }

    /// At most `most` drivers on duty within bounds, in no order.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn within(&self, bounds: &Bounds, most: usize) -> Result<Vec<Located>, Error> {
        match self {
            Self::Memory(index) => {
                let (index, bounds) = (Arc::clone(index), *bounds);
                blocking(move || index.within(&bounds, most)).await
            }
            Self::Redis(index) => index.within(bounds, most).await,
        }
    }

    /// How many free drivers whose reports are not overdue three times are in each area ([`crate::domain::area`]).
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn free_by_area(&self, now: Timestamp) -> Result<HashMap<u64, u32>, Error> {
        match self {
            Self::Memory(index) => {
                let index = Arc::clone(index);
                blocking(move || index.free_by_area(now)).await
            }
            Self::Redis(index) => index.free_by_area(now).await,
        }
    }

    /// The same as it was counted last, which is no longer ago than [`FREE_COUNTED`] or is done now: of all processes that share
    /// the positions one counts. Nothing where that one has not ended its first count yet.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn free_lately(&self, now: Timestamp) -> Result<Option<HashMap<u64, u32>>, Error> {
        match self {
            Self::Memory(_) => self.free_by_area(now).await.map(Some),
            Self::Redis(index) => index.free_lately(now).await,
        }
    }

    /// The drivers of one of [`PARTS`] parts.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn part(&self, part: usize) -> Result<Vec<Located>, Error> {
        match self {
            Self::Memory(index) => Ok(index.part(part)),
            Self::Redis(index) => index.part(part).await,
        }
    }

    /// How many drivers are on duty.
    ///
    /// # Errors
    /// [`Error::Locations`].
    pub async fn count(&self) -> Result<usize, Error> {
        match self {
            Self::Memory(index) => Ok(index.len()),
            Self::Redis(index) => index.len().await,
        }
    }
}

/// Work on many records, off the threads that answer.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Locations { reason: format!("they were not gone through: {error}") })
}

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
    /// No place on the earth.
    Outside,
    /// Another driver's.
    Foreign,
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
            Self::Outside => "outside",
            Self::Foreign => "foreign",
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
    /// When that was by the phone, to 50 ms.
    pub at: Timestamp,
    /// When it was heard by the clock here, to 50 ms.
    pub heard: Timestamp,
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
}
