//! Engines without product words: objects (disk or S3), and what is built on them: journals and leases.

pub mod journal;
pub mod lease;
pub mod objects;
