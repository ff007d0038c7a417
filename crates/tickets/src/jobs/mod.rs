//! Loops that run beside the API. Each is given a token and returns soon after it is cancelled.

pub mod admit;
pub mod cancel;
pub mod index;
pub mod seats;
pub mod settle;
pub mod sweep;
