//! Use cases: read a config again, have certificates issued, say which way a request would take.

mod certificates;
pub mod changes;
pub mod explain;
mod reload;

pub use certificates::Certificates;
pub use reload::{Reloaded, Reloader};
