//! What is decided without reading a clock or a socket: framing, paths, addresses, shares, limits, whom to ask,
//! how long an answer holds.

pub mod balance;
pub mod breaker;
pub mod chunked;
pub mod cidr;
pub mod coding;
pub mod conditions;
pub mod directives;
pub mod framing;
pub mod freshness;
pub mod gcra;
pub mod grpc;
pub mod header;
pub mod path;
pub mod path_tree;
pub mod retry_budget;
pub mod vouched;
