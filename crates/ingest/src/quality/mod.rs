//! Data quality, in the same pass as the data.

mod html;
mod plot;
mod profile;
mod report;
mod rules;
#[cfg(test)]
mod samples;
mod table;
mod words;

pub use html::page;
pub use profile::Profile;
pub use report::{Check, CheckStatus, History, HistoryEntry, QualityReport};
pub(crate) use rules::text;
pub use rules::{Broken, Facts, RowRules, judge, report};
pub use table::table;
