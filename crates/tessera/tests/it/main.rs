//! The real binary from outside, and the rules of the house. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod account_pages;
mod config;
mod demo;
mod hand_over;
mod histories;
mod layering;
mod pages;
mod ride_pages;
mod rides;
mod rides_split;
mod season;
mod ticket_pages;
mod tickets;
mod tokens;
mod up;

/// The binary under test.
fn tessera() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_BIN_EXE_tessera"))
}
