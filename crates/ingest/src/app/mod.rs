//! The use cases: one file or folder for each.

pub mod init;
