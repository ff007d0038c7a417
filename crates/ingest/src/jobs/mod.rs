//! The loops of the service: the schedule, and the watch over promises.

pub mod scheduler;
pub mod sla;
