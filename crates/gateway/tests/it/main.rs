//! The gateway over real sockets. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test it is the assertion")]

mod access;
mod acme;
mod aggregate;
mod balance;
mod cache;
mod compress;
mod docs;
mod early;
mod forward;
mod framing;
mod grpcio;
mod http1;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod inside;
mod limits;
mod openapi;
mod operate;
mod reload;
mod routing;
mod spec;
mod support;
mod tls;
mod transcode;
mod validate;
mod versions;
mod websocket;
