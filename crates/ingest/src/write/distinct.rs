//! Whether a run brings a key twice, found while its rows go by: eight bytes a row are kept, on disk where they are many,
//! and the files are read again only when two of them are equal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use ahash::RandomState;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use crate::lake::{Cursor, CursorColumn, column};

/// Hashes are parted by their upper bits, so that equal ones meet in one part, which is sorted alone: of ten million rows
/// a part has 80,000.
const PARTS: usize = 128;
const PART_SHIFT: u32 = u64::BITS - PARTS.ilog2();
/// A part that has so many hashes in memory writes them out: at most 1 MiB in memory for all parts.
const BLOCK: usize = 1024;
const BLOCK_BYTES: usize = BLOCK * size_of::<u64>();

/// The keys of a run's rows, as hashes.
///
/// Memory: at most 1 MiB while rows go by, and at the end 8 bytes for every 128th row. A temporary file takes 8 bytes a row.
#[derive(Debug)]
pub struct Distinct {
    columns: Vec<String>,
    cursor: Option<CursorColumn>,
    seed: RandomState,
    types: Vec<DataType>,
    parts: Vec<Part>,
    spill: Option<File>,
    blocks: u32,
    /// No longer known: nothing more is kept.
    lost: bool,
}

#[derive(Clone, Debug, Default)]
struct Part {
    tail: Vec<u64>,
    /// Numbers of its blocks in the file.
    blocks: Vec<u32>,
}

impl Distinct {
    /// Watches these columns; with a cursor, rows of one key and different cursors are told apart.
    pub fn new(columns: Vec<String>, cursor: Option<CursorColumn>) -> Self {
        Self {
            columns,
            cursor,
            seed: RandomState::new(),
            types: Vec::new(),
            parts: vec![Part::default(); PARTS],
            spill: None,
            blocks: 0,
            lost: false,
        }
    }

    /// The columns it watches.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Adds rows as they are stored; `cursors` are theirs. Rows without a key do not count.
    pub fn add(&mut self, batch: &RecordBatch, cursors: Option<&[Option<Cursor>]>) {
        if self.lost {
            return;
        }
        self.lost = !self.keep(batch, cursors);
        if self.lost {
            self.forget();
        }
    }

    /// From now on nothing is known.
    pub fn forget(&mut self) {
        self.lost = true;
        self.parts = Vec::new();
        self.spill = None;
    }

    fn keep(&mut self, batch: &RecordBatch, cursors: Option<&[Option<Cursor>]>) -> bool {
        let found: Vec<ArrayRef> = self.columns.iter().filter_map(|path| column(batch, path)).collect();
        let cursor = self.cursor.as_ref().and_then(|cursor| column(batch, &cursor.path));
        let types = found.iter().chain(&cursor).map(|column| column.data_type());
        if self.types.is_empty() {
            self.types = types.cloned().collect();
        } else if !types.eq(&self.types) {
            // What is equal across types depends on how it is read back.
            return false;
        }
        if found.is_empty() || found.len() < self.columns.len() {
            return false;
        }
        let mut hashes = vec![0; batch.num_rows()];
        let mut nulls: Option<NullBuffer> = None;
        for column in &found {
            if !hash_column(&self.seed, column.as_ref(), &mut hashes) {
                return false;
            }
            nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
        }
        if self.cursor.is_some() {
            for (row, hash) in hashes.iter_mut().enumerate() {
                let cursor = cursors.and_then(|cursors| cursors.get(row).copied().flatten());
                *hash = self.seed.hash_one((*hash, cursor.map_or(i64::MIN, Cursor::rank)));
            }
        }
        let kept = match nulls {
            None => hashes.iter().try_for_each(|hash| self.push(*hash)),
            Some(nulls) => nulls.valid_indices().try_for_each(|row| self.push(hashes[row])),
        };
        // No room for temporary files: whoever reads the files again will say so, if it comes to that.
        kept.is_ok()
    }

    #[inline]
    fn push(&mut self, hash: u64) -> io::Result<()> {
        let at = (hash >> PART_SHIFT) as usize;
        let tail = &mut self.parts[at].tail;
        tail.push(hash);
        if tail.len() < BLOCK { Ok(()) } else { self.write_block(at) }
    }

    fn write_block(&mut self, at: usize) -> io::Result<()> {
        let file = match &mut self.spill {
            Some(file) => file,
            empty => empty.insert(tempfile::tempfile()?),
        };
        let part = &mut self.parts[at];
        let bytes: Vec<u8> = part.tail.drain(..).flat_map(u64::to_le_bytes).collect();
        file.write_all(&bytes)?;
        part.blocks.push(self.blocks);
        self.blocks += 1;
        Ok(())
    }

    /// Whether all rows had different keys. False also where that is not known. Blocking.
    pub fn all_distinct(mut self) -> bool {
        !self.lost && matches!(self.has_equal(), Ok(false))
    }

    fn has_equal(&mut self) -> io::Result<bool> {
        let (mut hashes, mut bytes) = (Vec::new(), vec![0; BLOCK_BYTES]);
        for part in std::mem::take(&mut self.parts) {
            hashes.clear();
            hashes.extend(part.tail);
            for block in part.blocks {
                let Some(file) = &mut self.spill else { return Ok(true) };
                file.seek(SeekFrom::Start(u64::from(block) * BLOCK_BYTES as u64))?;
                file.read_exact(&mut bytes)?;
                hashes.extend(bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash)));
            }
            hashes.sort_unstable();
            if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Adds a column's values to the hashes of the rows; tells whether it can.
fn hash_column(seed: &RandomState, array: &dyn Array, hashes: &mut [u64]) -> bool {
    fn each<V: std::hash::Hash>(seed: &RandomState, hashes: &mut [u64], values: impl Iterator<Item = V>) {
        for (hash, value) in hashes.iter_mut().zip(values) {
            *hash = seed.hash_one((*hash, value));
        }
    }
    match array.data_type() {
        DataType::Int64 => each(seed, hashes, array.as_primitive::<Int64Type>().values().iter()),
        DataType::Timestamp(..) => each(seed, hashes, array.as_primitive::<TimestampMicrosecondType>().values().iter()),
        DataType::Date32 => each(seed, hashes, array.as_primitive::<Date32Type>().values().iter()),
        DataType::Float64 => {
            // Zero has two signs, and is one key.
            let values = array.as_primitive::<Float64Type>().values().iter();
            each(seed, hashes, values.map(|value| if *value == 0.0 { 0 } else { value.to_bits() }));
        }
        DataType::Boolean => each(seed, hashes, array.as_boolean().values().iter()),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            each(seed, hashes, (0..array.len()).map(|row| array.value(row)));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;
    use crate::spec::CursorFormat;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn ids(ids: &[i64]) -> RecordBatch {
        batch(vec![("id", Arc::new(Int64Array::from(ids.to_vec())))])
    }

    fn distinct(columns: &[&str], batches: &[RecordBatch]) -> bool {
        let mut distinct = Distinct::new(columns.iter().map(|&column| column.to_owned()).collect(), None);
        batches.iter().for_each(|batch| distinct.add(batch, None));
        distinct.all_distinct()
    }

    #[test]
    fn two_rows_of_one_key_are_found_beyond_memory() {
        let many = (PARTS * BLOCK * 3) as i64;
        let batches: Vec<_> =
            (0..many / 4096).map(|at| ids(&(at * 4096..(at + 1) * 4096).collect::<Vec<_>>())).collect();
        let mut all = Distinct::new(vec!["id".into()], None);
        batches.iter().for_each(|batch| all.add(batch, None));
        assert!(all.blocks > 0);
        assert!(all.parts.iter().all(|part| part.tail.len() < BLOCK && part.tail.capacity() <= BLOCK));
        assert!(all.all_distinct());
        for again in [0, many / 2, many - 1] {
            let with = [&batches[..], &[ids(&[again])]].concat();
            assert!(!distinct(&["id"], &with), "{again}");
        }
    }

    #[test]
    fn all_columns_of_a_key_count_and_rows_without_one_do_not() {
        let rows = |ids: Vec<Option<i64>>, names: Vec<&str>| {
            batch(vec![
                ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
                ("name", Arc::new(StringArray::from(names))),
            ])
        };
        assert!(distinct(&["id", "name"], &[rows(vec![Some(1), Some(1), Some(2)], vec!["a", "b", "a"])]));
        assert!(!distinct(&["id", "name"], &[rows(vec![Some(1), Some(2), Some(1)], vec!["a", "b", "a"])]));
        assert!(distinct(&["id", "name"], &[rows(vec![None, None, Some(0)], vec!["a", "a", "a"])]));
    }

    #[test]
    fn what_cannot_be_told_is_not_distinct() {
        let floats = batch(vec![("id", Arc::new(Float64Array::from(vec![2.0])))]);
        assert!(!distinct(&["id"], &[ids(&[1]), floats]));
        assert!(!distinct(&["other"], &[ids(&[1])]));
        let zeros = batch(vec![("id", Arc::new(Float64Array::from(vec![0.0, -0.0])))]);
        assert!(!distinct(&["id"], &[zeros]));
        assert!(distinct(&["id"], &[]));
    }

    #[test]
    fn versions_of_a_key_are_told_apart_by_their_cursor() {
        let cursor = CursorColumn { path: "at".into(), format: CursorFormat::Number };
        let rows = |at: [i64; 2]| {
            let ids = Arc::new(Int64Array::from(vec![1, 1])) as ArrayRef;
            batch(vec![("id", ids), ("at", Arc::new(Int64Array::from(at.to_vec())))])
        };
        for (at, expected) in [([1, 2], true), ([2, 2], false)] {
            let mut distinct = Distinct::new(vec!["id".into()], Some(cursor.clone()));
            distinct.add(&rows(at), Some(&cursor.read(&rows(at))));
            assert_eq!(distinct.all_distinct(), expected);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_set_says(pages in prop::collection::vec(prop::collection::vec(-400_i64..400, 0..12), 0..6)) {
            let batches: Vec<_> = pages.iter().map(|page| ids(page)).collect();
            let all: Vec<i64> = pages.concat();
            let set: std::collections::BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(distinct(&["id"], &batches), set.len() == all.len());
        }
    }
}
