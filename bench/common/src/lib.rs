//! What benchmarks share: a process that is measured, and a client that costs little beside it.

pub mod client;
pub mod process;
