//! A crowd at the real binary.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod onsale;
mod rides;
