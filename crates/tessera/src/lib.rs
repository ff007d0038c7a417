//! The one binary: command line, table of roles, `up`.
//!
//! This is the only crate that sees every product. [`roles`] is the one table of what there is to run, [`settings`] the
//! one list of what there is to set.

mod accounts;
pub mod cli;
pub mod demo;
mod front;
mod gateway;
mod hand_over;
mod health;
mod ingest;
mod memory;
mod people;
mod rides;
pub mod roles;
pub mod settings;
mod sim;
mod tickets;
mod token;
pub mod up;
