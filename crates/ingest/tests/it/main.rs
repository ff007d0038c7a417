//! The service in process: its API, and its store on both engines. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod api;
mod store;
