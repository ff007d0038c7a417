//! Data quality, in the same pass as the data.

mod profile;
mod report;
mod rules;

pub use profile::Profile;
pub use report::{Check, CheckStatus, History, HistoryEntry, QualityReport};
pub(crate) use rules::text;
pub use rules::{Broken, Facts, RowRules, judge, report};
