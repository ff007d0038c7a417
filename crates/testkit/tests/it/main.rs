//! The test servers do what the tests rely on.

mod bin;
mod postgres;
mod s3;
