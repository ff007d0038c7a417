//! The integration tests of the engines: one binary, one module per engine family.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod claims;
mod lines;
mod sql;
mod stages;
mod writer;
