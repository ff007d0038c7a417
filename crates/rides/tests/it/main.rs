//! Rides against real databases: use cases, races and the API. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod api;
mod bounded;
mod engines;
mod judge;
mod map;
mod matching;
mod outage;
mod positions;
mod push;
mod schedules;
mod sockets;
mod steps;
mod support;
mod trips;
mod unreadable;
