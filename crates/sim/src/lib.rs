//! The crowd: fans and bots that use the public API as any client does, and know nothing of what is behind it.
//!
//! `tessera sim onsale` sells an event out under them and checks the books to the unit; `up --demo` loads a season of
//! events and lets a few of them buy around the visitor. What a fan decides is drawn from a seed before the fan sets out,
//! so that a run repeats its decisions, whatever the server answers and however threads take turns.

pub mod api;
pub mod app;
pub mod cli;
pub mod client;
pub mod domain;
mod error;

pub use error::Error;
