//! The lake: where files lie, which of them count, and how a run commits.

mod cursor;

pub use cursor::Cursor;
