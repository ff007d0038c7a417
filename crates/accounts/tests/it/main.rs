//! Accounts against real databases: use cases, races and the API. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod api;
mod contract;
mod oauth;
mod support;
mod trust;
