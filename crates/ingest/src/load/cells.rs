//! The values of a batch, column by column, as a table wants them.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;

use super::column::{Column, Type};
use crate::shape::Kind;
use crate::write::json;

/// The values of one column.
pub(super) struct Cells<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
}

enum Values<'a> {
    Bool(&'a BooleanBuffer),
    Int(&'a [i64]),
    Float(&'a [f64]),
    Text(&'a arrow_array::StringArray),
    Timestamp(&'a [i64]),
    Date(&'a [i32]),
    Json(&'a arrow_array::StringArray),
    Nested(&'a Kind),
}

/// One value.
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Microseconds since 1970 UTC.
    Timestamp(i64),
    /// Days since 1970.
    Date(i32),
    /// JSON text.
    Json(std::borrow::Cow<'a, str>),
}

impl<'a> Cells<'a> {
    /// The columns of an aligned batch.
    pub(super) fn of(batch: &'a RecordBatch, columns: &'a [Column]) -> Result<Vec<Self>, String> {
        columns.iter().map(|column| Self::one(batch, column)).collect()
    }

    fn one(batch: &'a RecordBatch, column: &'a Column) -> Result<Self, String> {
        let array = batch.column_by_name(&column.source).ok_or_else(|| format!("no column `{}`", column.source))?;
        let values = match column.kind {
            Type::Bool => array.as_boolean_opt().map(|array| Values::Bool(array.values())),
            Type::Int => array.as_primitive_opt::<Int64Type>().map(|array| Values::Int(array.values())),
            Type::Float => array.as_primitive_opt::<Float64Type>().map(|array| Values::Float(array.values())),
            Type::Timestamp => {
                array.as_primitive_opt::<TimestampMicrosecondType>().map(|array| Values::Timestamp(array.values()))
            }
            Type::Date => array.as_primitive_opt::<Date32Type>().map(|array| Values::Date(array.values())),
            Type::Text => array.as_string_opt::<i32>().map(Values::Text),
            Type::Json if column.shape == Kind::Json => array.as_string_opt::<i32>().map(Values::Json),
            Type::Json => Some(Values::Nested(&column.shape)),
        };
        let values = values.ok_or_else(|| format!("column `{}` is {}", column.source, array.data_type()))?;
        Ok(Self { array: array.as_ref(), values })
    }

    /// The value of a row.
    pub(super) fn at(&self, row: usize) -> Cell<'a> {
        if self.array.is_null(row) {
            return Cell::Null;
        }
        match self.values {
            Values::Bool(values) => Cell::Bool(values.value(row)),
            Values::Int(values) => Cell::Int(values[row]),
            Values::Float(values) => Cell::Float(values[row]),
            Values::Text(values) => Cell::Text(values.value(row)),
            Values::Timestamp(values) => Cell::Timestamp(values[row]),
            Values::Date(values) => Cell::Date(values[row]),
            Values::Json(values) => Cell::Json(values.value(row).into()),
            Values::Nested(kind) => {
                let mut text = String::new();
                json(&mut text, kind, self.array, row);
                Cell::Json(text.into())
            }
        }
    }
}
