//! The live state of an event's seats in memory: what every page shows, kept up with the feed of committed changes.
//!
//! It is a copy, and may lag behind the database by moments; nothing is sold on its word. A hold that has lapsed counts
//! as free the moment its end has come, by the reader's clock, whether or not anything was swept.

pub mod delta;
pub mod live;
pub mod states;

pub use delta::{Change, ChangeTo};
pub use live::{Live, LiveEvent, Snapshot, Tick};
pub use states::{SeatState, States};
