//! The value of a cursor column: a moment or a number.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use crate::shape::parse_timestamp;
use crate::spec::CursorFormat;

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

impl Cursor {
    /// As a request parameter.
    pub fn parameter(self, format: CursorFormat) -> String {
        match (self, format) {
            (Self::Number(number), _) => number.to_string(),
            (Self::At(at), CursorFormat::Date) => at.to_utc().format("%Y-%m-%d").to_string(),
            (Self::At(at), CursorFormat::Unix) => at.micros().div_euclid(1_000_000).to_string(),
            (Self::At(at), CursorFormat::UnixMs) => at.micros().div_euclid(1_000).to_string(),
            (Self::At(at), CursorFormat::Number) => at.micros().to_string(),
            (Self::At(at), CursorFormat::Rfc3339) => at.to_string(),
        }
    }

    /// From the command line.
    ///
    /// # Errors
    /// In words, naming the text.
    pub fn parse(text: &str, format: CursorFormat) -> Result<Self, String> {
        match format {
            CursorFormat::Number => {
                text.parse().map(Self::Number).map_err(|_| format!("`{text}` is not a number, which this cursor is"))
            }
            _ => text.parse().map(Self::At),
        }
    }

    /// The order of cursors as one integer.
    pub fn rank(self) -> i64 {
        match self {
            Self::Number(number) => number,
            Self::At(at) => at.micros(),
        }
    }
}

/// A column that cursors are read from.
#[derive(Clone, Debug)]
pub struct CursorColumn {
    /// Dotted path into the row.
    pub path: String,
    /// How numbers in it are read.
    pub format: CursorFormat,
}

impl CursorColumn {
    /// The cursor of every row; none where the row has none.
    pub fn read(&self, batch: &RecordBatch) -> Vec<Option<Cursor>> {
        let Some(column) = column(batch, &self.path) else { return vec![None; batch.num_rows()] };
        let values = |read: &dyn Fn(usize) -> Option<Cursor>| {
            (0..column.len()).map(|row| if column.is_null(row) { None } else { read(row) }).collect()
        };
        let moment = |micros: i64| Some(Cursor::At(Timestamp::from_micros(micros)));
        match column.data_type() {
            DataType::Timestamp(..) => {
                let column = column.as_primitive::<TimestampMicrosecondType>();
                values(&|row| moment(column.value(row)))
            }
            DataType::Date32 => {
                let column = column.as_primitive::<Date32Type>();
                values(&|row| moment(i64::from(column.value(row)) * 86_400_000_000))
            }
            DataType::Int64 => {
                let column = column.as_primitive::<Int64Type>();
                values(&|row| match self.format {
                    CursorFormat::Unix => moment(column.value(row).saturating_mul(1_000_000)),
                    CursorFormat::UnixMs => moment(column.value(row).saturating_mul(1_000)),
                    _ => Some(Cursor::Number(column.value(row))),
                })
            }
            DataType::Utf8 => {
                let column = column.as_string::<i32>();
                values(&|row| moment(any_time(column.value(row))?))
            }
            _ => vec![None; batch.num_rows()],
        }
    }
}

/// Micros of a time in text; one without an offset is taken as UTC.
fn any_time(text: &str) -> Option<i64> {
    parse_timestamp(text).or_else(|| {
        let naive = |format| chrono::NaiveDateTime::parse_from_str(text, format).ok();
        let at = naive("%Y-%m-%dT%H:%M:%S%.f").or_else(|| naive("%Y-%m-%d %H:%M:%S%.f"))?;
        Some(at.and_utc().timestamp_micros())
    })
}

/// A column by its dotted path, through structs; `outer__inner` of flattened ones too.
pub(crate) fn column(batch: &RecordBatch, path: &str) -> Option<ArrayRef> {
    if let Some(found) = batch.column_by_name(path).or_else(|| batch.column_by_name(&path.replace('.', "__"))) {
        return Some(found.clone());
    }
    let mut steps = path.split('.');
    let mut array = batch.column_by_name(steps.next()?)?.clone();
    for step in steps {
        array = array.as_struct_opt()?.column_by_name(step)?.clone();
    }
    Some(array)
}
