//! The value of a cursor column: a moment or a number.

use std::fmt;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

/// The value of a cursor column. Text on the wire for a moment, a number for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cursor {
    /// A number that only grows.
    Number(i64),
    /// A moment.
    At(Timestamp),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::At(at) => at.fmt(f),
        }
    }
}
