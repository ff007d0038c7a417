//! The use cases: one file or folder for each.

pub mod history;
pub mod init;
pub mod operate;
pub mod plan;
pub mod preview;
pub mod progress;
pub mod run;
pub mod service;
