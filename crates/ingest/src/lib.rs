//! Pulls any REST API into a lake: fast, resumable, exactly once, watched.
//!
//! Rooms are named after the stages of a run: [`spec`] says what is wanted.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod demo_api;
mod error;
pub mod lake;
pub mod quality;
pub mod shape;
pub mod source;
pub mod spec;
pub mod write;

pub use error::{CODES, Error};
