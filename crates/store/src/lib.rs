//! Engines without product words: sql (SQLite or PostgreSQL), objects (disk or S3), and what is built on objects:
//! journals and leases.

pub mod journal;
pub mod lease;
pub mod objects;
pub mod sql;
