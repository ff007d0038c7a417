//! Limits: rates by caller, requests at the same time, connections. Shared by all workers, since a limit of ten is ten
//! whichever thread a request comes to.

mod connections;
mod gate;
mod quota;
mod rate;
mod remote;

pub use connections::{Connections, Place};
pub use gate::{Gate, Permit};
pub use quota::Quota;
pub use rate::{Limiter, Limiters, Outcome};
pub use remote::Remote;
