//! Use cases: read a config again, say which way a request would take.

pub mod changes;
pub mod explain;
mod reload;

pub use reload::{Reloaded, Reloader};
