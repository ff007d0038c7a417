//! Loops beside the traffic.

mod certificates;
mod reload;

pub use certificates::renew;
pub use reload::follow;
