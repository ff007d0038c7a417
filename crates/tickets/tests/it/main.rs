//! Tickets against real servers: its use cases and its API, on SQLite and PostgreSQL, with claims in SQL and in Redis. One
//! test binary, since each link is heavy.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod bad_input;
mod cancel;
mod catalogue;
mod chapel;
mod document;
mod door;
mod draw;
mod event_page;
mod follow;
mod holds;
mod house;
mod once;
mod orders;
mod payment;
mod queue;
mod races;
mod search;
mod search_http;
mod stream;
mod support;
mod upgrade;
