//! The rules, pure: names and passwords, attempts, sessions and their tokens.

mod common_passwords;
pub mod ids;
pub mod login;
pub mod password;
pub mod refresh;
pub mod session;
pub mod throttle;
