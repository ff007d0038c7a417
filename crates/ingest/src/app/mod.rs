//! The use cases: one file or folder for each.

pub mod init;
pub mod operate;
pub mod progress;
pub mod run;
