//! Engines without product words: sql (SQLite or PostgreSQL), objects (disk or S3), redis; and what is built on them: the
//! batching writer, claims and lines on records, journals and leases on objects.

pub mod claims;
mod error;
pub mod journal;
pub mod lease;
pub mod lines;
pub mod objects;
pub mod redis;
pub mod rows;
pub mod sql;
pub mod writer;

pub use error::{CODES, Error};
