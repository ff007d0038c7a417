//! Which rows stay where several have one key: found by sorting key hashes outside of memory, so that ten million rows
//! need no more of it than ten thousand; and files written anew without the rows that go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use tessera_store::objects::Objects;

use super::{Encoder, StoredFile, Written};
use crate::Error;
use crate::lake::{CursorColumn, align};
use crate::shape::SYSTEM;

/// Records sorted in memory at once: 10 MiB of them.
const CHUNK: usize = 1 << 18;

/// Which rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One row a key: the one with the latest cursor, of equals the last.
    LatestOfKey,
    /// One row for the same key and cursor: the first.
    FirstOfKeyAndCursor,
}

/// What is combined, and how.
#[derive(Clone, Debug)]
pub struct Combining {
    /// Columns that name a row; none: all columns but the system's.
    pub key: Vec<String>,
    /// The cursor.
    pub cursor: Option<CursorColumn>,
    /// Which rows stay.
    pub rule: Rule,
    /// Rows with one key that follow each other in a file belong together: the items of one parent.
    pub groups: bool,
}

impl Combining {
    /// The top-level columns that are read of a file whose rows are named by `key`; none: all.
    pub fn columns(&self, key: &[String]) -> Option<Vec<String>> {
        let mut wanted: Vec<String> = key.iter().map(|path| root(path)).collect();
        wanted.extend(self.cursor.iter().map(|cursor| root(&cursor.path)));
        if self.groups {
            wanted.push("_position".into());
        }
        (!key.is_empty()).then_some(wanted)
    }
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// Row numbers that go, ascending, by file.
    pub losers: Vec<Vec<u32>>,
    /// New rows, or groups, beyond the first with their key.
    pub duplicates: u64,
    /// New rows that were committed before.
    pub overlap: u64,
}

/// Finds the rows that go. The first `old` files are those already committed. Blocking.
///
/// # Errors
/// In words: a file that cannot be read, or no room for temporary files.
pub fn combine(combining: &Combining, files: &[StoredFile], old: usize) -> Result<Combined, String> {
    let mut sorter = Sorter::default();
    let hashers = (RandomState::new(), RandomState::new());
    for (file, stored) in files.iter().enumerate() {
        scan(combining, stored, file as u32, &hashers, &mut sorter)?;
    }
    let mut combined = Combined { losers: vec![Vec::new(); files.len()], ..Combined::default() };
    let mut group: Vec<Record> = Vec::new();
    sorter.merge(|record| {
        if group.first().is_some_and(|first| first.hash != record.hash) {
            decide(combining.rule, &group, old as u32, &mut combined);
            group.clear();
        }
        group.push(record);
    })?;
    decide(combining.rule, &group, old as u32, &mut combined);
    for losers in &mut combined.losers {
        losers.sort_unstable();
    }
    Ok(combined)
}

/// Decides among rows of one key, in order.
fn decide(rule: Rule, group: &[Record], old: u32, combined: &mut Combined) {
    if group.len() < 2 {
        return;
    }
    let version = |record: &Record| (record.rank, record.order);
    let winner = match rule {
        Rule::LatestOfKey => group.last().map(version),
        Rule::FirstOfKeyAndCursor => {
            group.iter().map(|record| (record.rank, record.order)).min_by_key(|(_, order)| *order)
        }
    };
    let (mut new_versions, mut last) = (0_u64, None);
    let any_old = group.iter().any(|record| record.file < old);
    for record in group {
        if record.file >= old && last != Some(version(record)) {
            new_versions += 1;
            last = Some(version(record));
        }
        if Some(version(record)) != winner {
            combined.losers[record.file as usize].push(record.row);
            if rule == Rule::FirstOfKeyAndCursor && any_old && record.file >= old {
                combined.overlap += 1;
            }
        }
    }
    if rule == Rule::LatestOfKey || !any_old {
        combined.duplicates += new_versions.saturating_sub(1);
    }
}

fn scan(
    combining: &Combining,
    stored: &StoredFile,
    file: u32,
    hashers: &(RandomState, RandomState),
    sorter: &mut Sorter,
) -> Result<(), String> {
    let key = stored.key.as_ref().unwrap_or(&combining.key);
    let reader = stored.read(combining.columns(key).as_deref())?;
    let (mut row, mut version) = (0_u32, 0_u32);
    for batch in reader {
        let batch = batch?;
        let columns: Vec<_> = if key.is_empty() {
            let data = batch.schema_ref().fields().iter().zip(batch.columns());
            data.filter(|(field, _)| !SYSTEM.contains(&field.name().as_str()))
                .map(|(_, column)| column.clone())
                .collect()
        } else {
            key.iter().filter_map(|path| crate::lake::column(&batch, path)).collect()
        };
        if columns.len() < key.len() {
            return Err(format!("the rows have no column {}; correct primary_key", key.join(", ")));
        }
        let positions = combining.groups.then(|| batch.column_by_name("_position").cloned()).flatten();
        let cursors = combining.cursor.as_ref().map(|cursor| cursor.read(&batch));
        for at in 0..batch.num_rows() {
            let starts = positions.as_ref().is_none_or(|column| column.as_primitive::<Int64Type>().value(at) == 0);
            if starts {
                version = row;
            }
            let no_key = !key.is_empty() && columns.iter().any(|column| column.is_null(at));
            if !no_key {
                let rank = cursors.as_ref().and_then(|cursors| cursors[at]).map_or(i64::MIN, |cursor| cursor.rank());
                let (mut a, mut b) = (hashers.0.build_hasher(), hashers.1.build_hasher());
                for column in &columns {
                    hash_value(&mut a, column.as_ref(), at);
                    hash_value(&mut b, column.as_ref(), at);
                }
                let by_cursor = combining.rule == Rule::FirstOfKeyAndCursor;
                if by_cursor {
                    a.write_i64(rank);
                    b.write_i64(rank);
                }
                let hash = u128::from(a.finish()) << 64 | u128::from(b.finish());
                let order = u64::from(file) << 32 | u64::from(version);
                sorter.push(Record { hash, rank, order, file, row })?;
            }
            row += 1;
        }
    }
    Ok(())
}

/// The top-level column of a path.
pub(super) fn root(path: &str) -> String {
    path.split('.').next().unwrap_or(path).to_owned()
}

/// Hashes a value so that equal values of widened types hash alike.
fn hash_value(hasher: &mut impl Hasher, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        hasher.write_u8(0);
        return;
    }
    match array.data_type() {
        DataType::Int64 => hasher.write_i64(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let whole = value as i64;
            if whole as f64 == value { hasher.write_i64(whole) } else { hasher.write_u64(value.to_bits()) }
        }
        DataType::Utf8 => {
            hasher.write(array.as_string::<i32>().value(row).as_bytes());
            hasher.write_u8(0xff);
        }
        DataType::Boolean => hasher.write_u8(1 + u8::from(array.as_boolean().value(row))),
        DataType::Timestamp(..) => hasher.write_i64(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Date32 => hasher.write_i32(array.as_primitive::<Date32Type>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            hasher.write_usize(items.len());
            (0..items.len()).for_each(|item| hash_value(hasher, items.as_ref(), item));
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().for_each(|column| hash_value(hasher, column.as_ref(), row));
        }
        _ => hasher.write_u8(0),
    }
}

/// A row's key and what decides between rows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    hash: u128,
    rank: i64,
    order: u64,
    file: u32,
    row: u32,
}

const RECORD: usize = 40;

impl Record {
    fn write(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..16].copy_from_slice(&self.hash.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.rank.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.order.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.file.to_le_bytes());
        bytes[36..].copy_from_slice(&self.row.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; RECORD]) -> Self {
        let (mut hash, mut eight, mut four) = ([0; 16], [0; 8], [0; 4]);
        hash.copy_from_slice(&bytes[..16]);
        let mut long = |from: usize| {
            eight.copy_from_slice(&bytes[from..from + 8]);
            eight
        };
        let (rank, order) = (i64::from_le_bytes(long(16)), u64::from_le_bytes(long(24)));
        let mut short = |from: usize| {
            four.copy_from_slice(&bytes[from..from + 4]);
            u32::from_le_bytes(four)
        };
        Self { hash: u128::from_le_bytes(hash), rank, order, file: short(32), row: short(36) }
    }
}

/// Sorts more records than memory should hold: sorted runs in one temporary file, merged at the end.
#[derive(Default)]
struct Sorter {
    chunk: Vec<Record>,
    spill: Option<BufWriter<File>>,
    runs: Vec<u64>,
}

impl Sorter {
    fn push(&mut self, record: Record) -> Result<(), String> {
        self.chunk.push(record);
        if self.chunk.len() == CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), String> {
        let no_room =
            |error: std::io::Error| format!("no room for temporary files: {error}; set TMPDIR to a larger disk");
        self.chunk.sort_unstable();
        let spill = match &mut self.spill {
            Some(spill) => spill,
            empty => empty.insert(BufWriter::with_capacity(1 << 20, tempfile::tempfile().map_err(no_room)?)),
        };
        for record in &self.chunk {
            spill.write_all(&record.write()).map_err(no_room)?;
        }
        self.runs.push(self.chunk.len() as u64);
        self.chunk.clear();
        Ok(())
    }

    /// Gives every record in order.
    fn merge(mut self, mut take: impl FnMut(Record)) -> Result<(), String> {
        if self.spill.is_none() {
            self.chunk.sort_unstable();
            self.chunk.into_iter().for_each(take);
            return Ok(());
        }
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        let broken = |error: std::io::Error| format!("a temporary file cannot be read back: {error}");
        let Some(spill) = self.spill.take() else { return Ok(()) };
        let file = spill.into_inner().map_err(|error| broken(error.into_error()))?;
        self.chunk = Vec::new();
        let mut readers = Vec::with_capacity(self.runs.len());
        let mut start = 0;
        for length in &self.runs {
            readers.push(RunReader { file: &file, at: start, left: *length, buffer: Vec::new(), next: 0 });
            start += length * RECORD as u64;
        }
        let mut heap = BinaryHeap::new();
        for (run, reader) in readers.iter_mut().enumerate() {
            if let Some(record) = reader.next().map_err(broken)? {
                heap.push(Reverse((record, run)));
            }
        }
        while let Some(Reverse((record, run))) = heap.pop() {
            take(record);
            if let Some(next) = readers[run].next().map_err(broken)? {
                heap.push(Reverse((next, run)));
            }
        }
        Ok(())
    }
}

/// Reads one sorted run of the shared file, a block at a time.
struct RunReader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
    buffer: Vec<Record>,
    next: usize,
}

impl RunReader<'_> {
    fn next(&mut self) -> std::io::Result<Option<Record>> {
        if self.next == self.buffer.len() {
            let count = self.left.min(1024);
            if count == 0 {
                return Ok(None);
            }
            let mut file = self.file;
            file.seek(std::io::SeekFrom::Start(self.at))?;
            let mut reader = BufReader::with_capacity(1024 * RECORD, file).take(count * RECORD as u64);
            self.buffer.clear();
            let mut bytes = [0; RECORD];
            for _ in 0..count {
                reader.read_exact(&mut bytes)?;
                self.buffer.push(Record::read(&bytes));
            }
            self.at += count * RECORD as u64;
            self.left -= count;
            self.next = 0;
        }
        self.next += 1;
        Ok(self.buffer.get(self.next - 1).copied())
    }
}

/// Writes a file anew without the rows that go, at a new path; those rows are handed to `gone`, batch by batch.
///
/// # Errors
/// [`Error::Lake`] when a file cannot be read or written.
pub async fn rewrite(
    objects: &Objects,
    stored: &StoredFile,
    losers: &[u32],
    path: String,
    gone: Option<tokio::sync::mpsc::Sender<RecordBatch>>,
) -> Result<Written, Error> {
    let broken = |detail: String| Error::Lake { detail };
    let mut encoder = Encoder::open(objects.clone(), path, stored.format, stored.shape.as_ref().clone());
    let schema = Arc::clone(encoder.schema());
    let mut reader = stored.read(None).map_err(broken)?;
    let (mut row, mut next) = (0_u32, 0_usize);
    loop {
        let (returned, batch) = tokio::task::spawn_blocking(move || {
            let batch = reader.next();
            (reader, batch)
        })
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
        reader = returned;
        let Some(batch) = batch else { break };
        let batch = batch.map_err(broken)?;
        let end = row + batch.num_rows() as u32;
        let mut keep = vec![true; batch.num_rows()];
        while next < losers.len() && losers[next] < end {
            keep[(losers[next] - row) as usize] = false;
            next += 1;
        }
        row = end;
        let failed = |error: arrow_schema::ArrowError| Error::Lake { detail: error.to_string() };
        if keep.iter().all(|keep| *keep) {
            encoder.write(align(&batch, &schema).map_err(failed)?).await?;
            continue;
        }
        if let Some(gone) = &gone {
            let going = BooleanArray::from(keep.iter().map(|keep| !keep).collect::<Vec<_>>());
            let batch = filter_record_batch(&batch, &going).map_err(failed)?;
            // The receiver ends early only when its own file failed, which it reports.
            let _ = gone.send(batch).await;
        }
        let kept = filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(failed)?;
        encoder.write(align(&kept, &schema).map_err(failed)?).await?;
    }
    encoder.finish().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::Shape;
    use crate::spec::{CursorFormat, FileFormat};

    fn file(folder: &tempfile::TempDir, name: &str, rows: &[(i64, i64)]) -> StoredFile {
        let path = folder.path().join(name);
        let lines: String = rows.iter().map(|(id, at)| format!("{{\"id\":{id},\"at\":{at}}}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let column = |name: &str| crate::shape::Column { name: name.into(), kind: crate::shape::Kind::Int };
        let shape = Shape { columns: vec![column("id"), column("at")] };
        StoredFile::local(path, FileFormat::Jsonl, Arc::new(shape))
    }

    fn combining(rule: Rule) -> Combining {
        let cursor = Some(CursorColumn { path: "at".into(), format: CursorFormat::Number });
        Combining { key: vec!["id".into()], cursor, rule, groups: false }
    }

    #[test]
    fn the_latest_of_a_key_stays() {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [file(&folder, "old", &[(1, 10), (2, 10)]), file(&folder, "new", &[(1, 11), (3, 11), (3, 12), (2, 10)])];
        let combined = combine(&combining(Rule::LatestOfKey), &files, 1).unwrap();
        assert_eq!(combined.losers, [vec![0, 1], vec![1]]);
        assert_eq!(combined.duplicates, 1);
    }

    #[test]
    fn an_overlap_is_not_added_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            file(&folder, "old", &[(1, 10), (2, 10)]),
            file(&folder, "new", &[(1, 10), (1, 11), (2, 10), (4, 4), (4, 4)]),
        ];
        let combined = combine(&combining(Rule::FirstOfKeyAndCursor), &files, 1).unwrap();
        assert_eq!(combined.losers, [vec![], vec![0, 2, 4]]);
        assert_eq!((combined.overlap, combined.duplicates), (2, 1));
    }

    #[test]
    fn sorting_outside_of_memory_is_sorting() {
        let mut sorter = Sorter::default();
        let mut expected = Vec::new();
        for at in 0..(CHUNK as u64 * 2 + 17) {
            let hash = u128::from(at.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 100_003);
            let record = Record { hash, rank: at as i64, order: at, file: 1, row: at as u32 };
            expected.push(record);
            sorter.push(record).unwrap();
        }
        expected.sort_unstable();
        let mut sorted = Vec::new();
        sorter.merge(|record| sorted.push(record)).unwrap();
        assert!(sorted == expected);
    }

    proptest! {
        /// Whatever the rows, each key stays exactly once, with its latest cursor.
        #[test]
        fn each_key_stays_once(
            old in prop::collection::btree_map(0_i64..20, 0_i64..5, 0..10),
            new in prop::collection::vec((0_i64..20, 0_i64..5), 0..30),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let old: Vec<(i64, i64)> = old.into_iter().collect();
            let files = [file(&folder, "old", &old), file(&folder, "new", &new)];
            let combined = combine(&combining(Rule::LatestOfKey), &files, 1).unwrap();
            let stay = |rows: &[(i64, i64)], losers: &[u32]| -> Vec<(i64, i64)> {
                rows.iter().enumerate().filter(|(at, _)| !losers.contains(&(*at as u32))).map(|(_, row)| *row).collect()
            };
            let mut left = stay(&old, &combined.losers[0]);
            left.extend(stay(&new, &combined.losers[1]));
            left.sort_unstable();
            let mut latest = std::collections::BTreeMap::new();
            for (id, at) in old.iter().chain(&new) {
                let entry = latest.entry(*id).or_insert(*at);
                *entry = (*entry).max(*at);
            }
            prop_assert_eq!(left, latest.into_iter().collect::<Vec<_>>());
        }
    }
}
