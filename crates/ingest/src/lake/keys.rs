//! Which keys a file may hold: the smallest and the largest value of each key column, so that a merge leaves out the files
//! that cannot hold any of the keys it brings.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use super::column;
use crate::shape::{Kind, Shape};

/// Longer texts are no key that a manifest should repeat.
const MAX_TEXT_BYTES: usize = 256;

/// The values of a key column in a file lie within these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The column.
    pub column: String,
    /// From the smallest to the largest.
    #[serde(flatten)]
    pub span: Span,
}

/// From a smallest to a largest value, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Whole numbers.
    Int(i64, i64),
    /// Texts, in the order of their bytes.
    Text(String, String),
}

impl Span {
    /// Whether a value can lie in both. Values of different types may be read back as equal ones.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(min, max), Self::Int(from, to)) => min <= to && from <= max,
            (Self::Text(min, max), Self::Text(from, to)) => min <= to && from <= max,
            _ => true,
        }
    }

    fn widen(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(min, max), Self::Int(from, to)) => Some(Self::Int(min.min(from), max.max(to))),
            (Self::Text(min, max), Self::Text(from, to)) => Some(Self::Text(min.min(from), max.max(to))),
            _ => None,
        }
    }
}

/// The key columns of a file being written.
#[derive(Clone, Debug)]
pub struct FileKeys {
    columns: Vec<(String, Option<Span>)>,
    lost: bool,
}

impl FileKeys {
    /// Watches these columns of rows of this shape.
    pub fn new(columns: &[String], shape: &Shape) -> Self {
        let lost = any_json(columns, shape);
        Self { columns: columns.iter().map(|name| (name.clone(), None)).collect(), lost }
    }

    /// Adds rows.
    pub fn add(&mut self, batch: &RecordBatch) {
        if self.lost {
            return;
        }
        for (name, span) in &mut self.columns {
            let Some(found) = column(batch, name) else {
                self.lost = true;
                return;
            };
            if found.null_count() == found.len() {
                continue;
            }
            let widened = span_of(found.as_ref()).and_then(|found| match span.take() {
                Some(before) => before.widen(found),
                None => Some(found),
            });
            if widened.is_none() {
                self.lost = true;
                return;
            }
            *span = widened;
        }
    }

    /// The ranges; none if one of them is not known.
    pub fn ranges(self) -> Vec<KeyRange> {
        if self.lost {
            return vec![];
        }
        let ranges = self.columns.into_iter().map(|(column, span)| Some(KeyRange { column, span: span? }));
        ranges.collect::<Option<_>>().unwrap_or_default()
    }
}

/// Whether one of these columns is JSON text, which can be read back in other words than it was written.
pub(crate) fn any_json(columns: &[String], shape: &Shape) -> bool {
    columns.iter().any(|path| {
        let root = path.split('.').next().unwrap_or(path);
        let found = shape.column(root).or_else(|| shape.column(&path.replace('.', "__")));
        found.is_some_and(|column| matches!(column.kind, Kind::Json | Kind::Struct(_)))
    })
}

fn span_of(array: &dyn Array) -> Option<Span> {
    match array.data_type() {
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>();
            let whole = array.null_count() == 0;
            let wider = |(min, max): (i64, i64), value: i64| (min.min(value), max.max(value));
            let start = (i64::MAX, i64::MIN);
            let (min, max) = match whole {
                true => array.values().iter().copied().fold(start, wider),
                false => array.iter().flatten().fold(start, wider),
            };
            Some(Span::Int(min, max))
        }
        DataType::Utf8 => {
            let mut values = array.as_string::<i32>().iter().flatten();
            let first = values.next()?;
            let (min, max) = values.fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
            let fits = min.len() <= MAX_TEXT_BYTES && max.len() <= MAX_TEXT_BYTES;
            fits.then(|| Span::Text(min.to_owned(), max.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::shape::Column;

    fn keys(columns: &[&str], batches: Vec<Vec<(&str, ArrayRef)>>) -> Vec<KeyRange> {
        let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
        let mut keys = FileKeys::new(&columns, &Shape::default());
        batches.into_iter().for_each(|batch| keys.add(&RecordBatch::try_from_iter(batch).unwrap()));
        keys.ranges()
    }

    #[test]
    fn a_range_holds_every_value() {
        let id = |ids: Vec<Option<i64>>| Arc::new(Int64Array::from(ids)) as ArrayRef;
        let name = |names: Vec<&str>| Arc::new(StringArray::from(names)) as ArrayRef;
        let batches = vec![
            vec![("id", id(vec![Some(7), None])), ("name", name(vec!["b", "é"]))],
            vec![("id", id(vec![None, None])), ("name", name(vec!["", "a"]))],
            vec![("id", id(vec![Some(-3), Some(5)])), ("name", name(vec!["c", "c"]))],
        ];
        let found = keys(&["id", "name"], batches);
        let range = |column: &str, span| KeyRange { column: column.into(), span };
        assert_eq!(found, [range("id", Span::Int(-3, 7)), range("name", Span::Text(String::new(), "é".into()))]);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(text, r#"[{"column":"id","int":[-3,7]},{"column":"name","text":["","é"]}]"#);
        assert_eq!(serde_json::from_str::<Vec<KeyRange>>(&text).unwrap(), found);
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let nulls = || Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef;
        let floats = || Arc::new(Float64Array::from(vec![1.5])) as ArrayRef;
        let long = || Arc::new(StringArray::from(vec!["x".repeat(MAX_TEXT_BYTES + 1)])) as ArrayRef;
        for column in [nulls(), floats(), long()] {
            assert_eq!(keys(&["id"], vec![vec![("id", column)]]), []);
        }
        assert_eq!(keys(&["id"], vec![vec![("other", floats())]]), []);
        let json = Shape { columns: vec![Column { name: "id".into(), kind: Kind::Json }] };
        assert!(FileKeys::new(&["id".into()], &json).lost);
    }

    #[test]
    fn ranges_meet_where_a_value_can_be_in_both() {
        let text = |a: &str, b: &str| Span::Text(a.into(), b.into());
        assert!(Span::Int(1, 5).overlaps(&Span::Int(5, 9)));
        assert!(!Span::Int(1, 5).overlaps(&Span::Int(6, 9)));
        assert!(text("a", "c").overlaps(&text("b", "b")));
        assert!(!text("a", "c").overlaps(&text("ca", "d")));
        assert!(Span::Int(1, 5).overlaps(&text("x", "y")));
    }
}
