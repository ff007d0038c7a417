//! The words all products share: ids, money, places, time, units, error kinds. Pure: no async, no I/O.

mod error;
mod ids;
mod money;
mod place;
mod time;
mod units;

pub use error::ErrorKind;
pub use ids::{FixedIds, Ids, RandomIds, read_id};
pub use money::{Currency, Money};
pub use place::{EARTH_RADIUS_M, Place};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use units::{Bytes, Span};
pub use uuid::Uuid;
