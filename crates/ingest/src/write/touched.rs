//! Which old files can hold a key that a run brings: by the ranges in the state, and where the run is small, by its keys.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;

use super::StoredFile;
use super::merge::root;
use crate::lake::{DataFile, KeyRange, Span, column};

/// Up to so many rows the keys themselves are looked at: about 20 MiB of texts.
const MAX_KEYS: u64 = 200_000;

/// The keys that a run brings.
#[derive(Debug)]
pub struct IncomingKeys {
    /// Of each file; none where a range is not known.
    spans: Option<Vec<Vec<Span>>>,
    /// Of the first key column, sorted.
    first: Option<Values>,
}

#[derive(Debug, PartialEq, Eq)]
enum Values {
    Int(Vec<i64>),
    Text(Vec<String>),
}

impl IncomingKeys {
    /// The keys of files, each with the columns that name a row in it.
    pub fn of(files: &[(&DataFile, &[String])]) -> Self {
        let spans = files.iter().map(|(file, key)| spans(&file.keys, key));
        Self { spans: spans.collect(), first: None }
    }

    /// Whether some file's range is to be looked at more closely.
    pub fn may_be_narrowed(&self, rows: u64) -> bool {
        self.spans.is_some() && rows <= MAX_KEYS
    }

    /// Reads the keys themselves. Blocking.
    ///
    /// # Errors
    /// In words: a file that cannot be read.
    pub fn narrow(&mut self, files: &[StoredFile], key: &[String]) -> Result<(), String> {
        let (mut ints, mut texts): (Vec<i64>, Vec<String>) = Default::default();
        for stored in files {
            let Some(path) = stored.key.as_deref().unwrap_or(key).first() else { return Ok(()) };
            for batch in stored.read(Some(&[root(path)]))? {
                let Some(found) = column(&batch?, path) else { return Ok(()) };
                match found.data_type() {
                    DataType::Int64 => ints.extend(found.as_primitive::<Int64Type>().iter().flatten()),
                    DataType::Utf8 => texts.extend(found.as_string::<i32>().iter().flatten().map(str::to_owned)),
                    _ => return Ok(()),
                }
            }
        }
        ints.sort_unstable();
        texts.sort_unstable();
        self.first = match (ints.is_empty(), texts.is_empty()) {
            (false, true) => Some(Values::Int(ints)),
            (true, false) => Some(Values::Text(texts)),
            _ => None,
        };
        Ok(())
    }

    /// Whether an old file can hold one of them.
    pub fn may_be_in(&self, file: &DataFile, key: &[String]) -> bool {
        let (Some(incoming), Some(old)) = (&self.spans, spans(&file.keys, key)) else { return true };
        let near = incoming.iter().any(|new| new.iter().zip(&old).all(|(new, old)| new.overlaps(old)));
        near && match (&self.first, old.first()) {
            (Some(Values::Int(values)), Some(Span::Int(min, max))) => {
                values.get(values.partition_point(|value| value < min)).is_some_and(|value| value <= max)
            }
            (Some(Values::Text(values)), Some(Span::Text(min, max))) => {
                values.get(values.partition_point(|value| value < min)).is_some_and(|value| value <= max)
            }
            _ => true,
        }
    }
}

/// A file's ranges, if they are those of this key.
fn spans(ranges: &[KeyRange], key: &[String]) -> Option<Vec<Span>> {
    let same = !key.is_empty() && ranges.iter().map(|range| &range.column).eq(key);
    same.then(|| ranges.iter().map(|range| range.span.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ranges: &[(&str, Span)]) -> DataFile {
        let keys: Vec<_> =
            ranges.iter().map(|(column, span)| KeyRange { column: (*column).to_owned(), span: span.clone() }).collect();
        let json = serde_json::json!({
            "path": "r/f", "rows": 1, "bytes": 1, "sha256": "", "schema_version": 1, "run_id": "run_1",
            "written_at": "2024-01-01T00:00:00Z", "keys": keys,
        });
        serde_json::from_value(json).unwrap()
    }

    fn key(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|&column| column.to_owned()).collect()
    }

    #[test]
    fn a_file_is_left_out_only_where_ranges_say_so() {
        let id = key(&["id"]);
        let new = [file(&[("id", Span::Int(10, 12))]), file(&[("id", Span::Int(90, 99))])];
        let incoming = IncomingKeys::of(&[(&new[0], &id), (&new[1], &id)]);
        let in_file = |span: Span| incoming.may_be_in(&file(&[("id", span)]), &id);
        assert!(in_file(Span::Int(0, 10)) && in_file(Span::Int(95, 95)) && in_file(Span::Text("a".into(), "b".into())));
        assert!(!in_file(Span::Int(0, 9)) && !in_file(Span::Int(13, 89)));
        assert!(incoming.may_be_in(&file(&[]), &id), "files from before have no ranges");
        assert!(incoming.may_be_in(&file(&[("other", Span::Int(0, 1))]), &id), "the key was another one");
        let unknown = IncomingKeys::of(&[(&new[0], &id), (&file(&[]), &id)]);
        assert!(unknown.may_be_in(&file(&[("id", Span::Int(0, 1))]), &id));
    }

    #[test]
    fn every_column_of_a_key_must_overlap() {
        let columns = key(&["a", "b"]);
        let new = file(&[("a", Span::Int(1, 2)), ("b", Span::Int(1, 2))]);
        let incoming = IncomingKeys::of(&[(&new, &columns)]);
        assert!(incoming.may_be_in(&file(&[("a", Span::Int(2, 3)), ("b", Span::Int(2, 3))]), &columns));
        assert!(!incoming.may_be_in(&file(&[("a", Span::Int(2, 3)), ("b", Span::Int(3, 3))]), &columns));
    }

    #[test]
    fn keys_far_apart_leave_out_what_lies_between() {
        let id = key(&["id"]);
        let new = file(&[("id", Span::Int(1, 1000))]);
        let mut incoming = IncomingKeys::of(&[(&new, &id)]);
        assert!(incoming.may_be_narrowed(3) && !incoming.may_be_narrowed(MAX_KEYS + 1));
        incoming.first = Some(Values::Int(vec![1, 500, 1000]));
        let in_file = |min, max| incoming.may_be_in(&file(&[("id", Span::Int(min, max))]), &id);
        assert!(in_file(0, 1) && in_file(500, 500) && in_file(400, 600) && in_file(1000, 2000));
        assert!(!in_file(2, 499) && !in_file(501, 999) && !in_file(1001, 2000) && !in_file(-5, 0));
    }
}
