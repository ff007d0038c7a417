//! The gateway over real sockets. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test it is the assertion")]

mod access;
mod aggregate;
mod balance;
mod docs;
mod forward;
mod framing;
mod limits;
mod openapi;
mod operate;
mod routing;
mod spec;
mod support;
mod tls;
mod transcode;
mod validate;
mod versions;
