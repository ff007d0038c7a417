//! Data quality, in the same pass as the data.

mod report;

pub use report::{Check, CheckStatus, History, HistoryEntry, QualityReport};
