//! What the benchmarks of rides share: a server with drivers on duty, and positions in the compact form.

pub mod compact;
pub mod server;
