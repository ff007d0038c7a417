//! What the benchmarks of tickets share: `tessera serve tickets` as a process.

pub mod server;
