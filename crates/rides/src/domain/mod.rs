//! The words and rules of rides: pure, and tested alone.

pub mod area;
pub mod assign;
pub mod bounds;
pub mod dispatch;
pub mod fare;
pub mod ids;
pub mod interval;
pub mod ride;
pub mod surge;
pub mod traffic;
