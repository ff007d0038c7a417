//! What the runs found out about the data, by resource.

use std::collections::BTreeMap;

use crate::Error;
use crate::lake::Lake;
use crate::quality::{History, HistoryEntry};

/// The reports of the last `most` commits, oldest first, by resource.
///
/// # Errors
/// [`Error::Lake`] when the log cannot be read.
pub async fn histories(lake: &Lake, most: usize) -> Result<Vec<History>, Error> {
    let mut found: BTreeMap<String, History> = BTreeMap::new();
    for manifest in lake.history(most).await? {
        for (name, commit) in manifest.resources {
            let history = found.entry(name.clone()).or_insert_with(|| History { name, history: vec![] });
            let (run_id, at) = (manifest.run_id.clone(), manifest.committed_at);
            history.history.push(HistoryEntry { run_id, at, report: commit.report });
        }
    }
    Ok(found.into_values().collect())
}
