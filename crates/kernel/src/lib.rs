//! The words all products share: ids, time, error kinds. Pure: no async, no I/O.

mod error;
mod ids;
mod time;

pub use error::ErrorKind;
pub use ids::{FixedIds, Ids, RandomIds};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
