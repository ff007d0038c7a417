//! The crowd: fans and bots, riders and drivers that use the public API as any client does, and know nothing of what is behind it.
//!
//! `tessera sim onsale` sells an event out under them and checks the books to the unit, `tessera sim rides` lets a city drive and
//! checks each ride; `up --demo` loads a season of events, lets a few of them buy around the visitor, and a few drive. What somebody
//! decides is drawn from a seed before they set out, so that a run repeats its decisions, whatever the server answers and however
//! threads take turns.

pub mod api;
pub mod app;
pub mod cli;
pub mod client;
pub mod domain;
mod error;
pub mod rides;

pub use error::Error;
