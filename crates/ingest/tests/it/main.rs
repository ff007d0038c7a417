//! `ingest` against real servers and as a real process: exactly once under kills, bad input, faults, the data of a real
//! API; and the service in process: its API, and its store on both engines. One test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod api;
mod auth;
mod demo;
mod faults;
mod input;
mod kills;
mod lake;
mod merge;
mod pages;
mod pokeapi;
mod s3;
mod secrets;
mod serve;
mod shifts;
mod store;
mod support;
