//! What the benchmarks of tickets share: `tessera serve tickets` as a process, and a client that costs little beside it.

pub mod client;
pub mod server;
