//! First pipelines.
pub mod detect;
