//! What is counted while rows go by. Saved with each checkpoint, so that a resumed run knows of the rows before.

use std::collections::BTreeMap;

use arrow_array::{Array, RecordBatch};
use serde::{Deserialize, Serialize};

use crate::lake::Cursor;
use crate::shape::SYSTEM;

/// Counts of one table in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Rows written.
    pub rows: u64,
    /// Rows as the API gave them, before anything was left out.
    pub rows_read: u64,
    /// Values by top-level column.
    pub present: BTreeMap<String, u64>,
    /// Oldest cursor.
    pub cursor_min: Option<Cursor>,
    /// Newest cursor.
    pub cursor_max: Option<Cursor>,
    /// Rows with something in `_rescued`.
    pub rescued: u64,
    /// Values that the schema policy dropped.
    pub dropped: u64,
    /// Rows set aside.
    pub quarantined: u64,
    /// Rows that broke each row rule, by the rule's label.
    pub broken: BTreeMap<String, u64>,
    /// The API's totals, added up over finished streams.
    pub expected: Option<u64>,
    /// A stream ended without a total: the sum says nothing.
    pub expected_unknown: bool,
    /// Rows of readings that were given up because the list moved; they are not in the other counts.
    #[serde(default)]
    pub reread: u64,
    /// Streams that lost rows while they were read for the last time.
    #[serde(default)]
    pub shrank: u64,
    /// Rows whose cursor lies before what was asked for.
    pub older_than_asked: u64,
    /// Rows whose cursor lies in the future.
    pub in_the_future: u64,
}

impl Profile {
    /// Counts a batch that is about to be written.
    pub fn add(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows() as u64;
        self.rows += rows;
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if SYSTEM.contains(&field.name().as_str()) {
                continue;
            }
            let present = rows - column.null_count() as u64;
            match self.present.get_mut(field.name()) {
                Some(count) => *count += present,
                None => {
                    self.present.insert(field.name().clone(), present);
                }
            }
        }
    }

    /// Takes the cursors of a batch into account.
    pub fn add_cursors(&mut self, cursors: &[Option<Cursor>]) -> Option<(Cursor, Cursor)> {
        let mut known = cursors.iter().flatten().copied();
        let first = known.next()?;
        let (low, high) = known.fold((first, first), |(low, high), cursor| (low.min(cursor), high.max(cursor)));
        self.cursor_min = Some(self.cursor_min.map_or(low, |min| min.min(low)));
        self.cursor_max = Some(self.cursor_max.map_or(high, |max| max.max(high)));
        Some((low, high))
    }

    /// A stream ended; the API said it would have so many rows.
    pub fn end_stream(&mut self, total: Option<u64>) {
        match total {
            Some(total) => self.expected = Some(self.expected.unwrap_or(0) + total),
            None => self.expected_unknown = true,
        }
    }

    /// The API's own total, if every stream gave one.
    pub fn expected_rows(&self) -> Option<u64> {
        self.expected.filter(|_| !self.expected_unknown)
    }

    /// Missing values by column.
    pub fn nulls(&self) -> BTreeMap<String, u64> {
        self.present.iter().map(|(name, present)| (name.clone(), self.rows - present)).collect()
    }
}
