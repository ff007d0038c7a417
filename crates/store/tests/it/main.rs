//! The integration tests of the engines: one binary, one module per engine family.

mod sql;
