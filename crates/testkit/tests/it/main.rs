//! The test servers do what the tests rely on.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod bin;
mod browser;
mod postgres;
mod redis;
mod s3;
