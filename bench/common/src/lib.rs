//! What benchmarks share: a process that is measured, a client that costs little beside it, and what many measurements say.

pub mod client;
pub mod process;
pub mod sorted;
