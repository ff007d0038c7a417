//! Loops beside the traffic.

mod reload;

pub use reload::follow;
