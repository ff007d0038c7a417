//! A column being filled, row by row.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::{Column, Kind, Shape};

/// Fields of a row or a nested object.
pub(super) struct RowBuffer {
    pub(super) items: Vec<FieldBuffer>,
    pub(super) rows: usize,
}

/// A named buffer.
pub(super) struct FieldBuffer {
    pub(super) name: String,
    pub(super) values: ColumnBuffer,
}

/// Values of one column.
pub(super) enum ColumnBuffer {
    Unknown(usize),
    Bool(BooleanBufferBuilder, NullBufferBuilder),
    Int(Vec<i64>, NullBufferBuilder),
    Float(Vec<f64>, NullBufferBuilder),
    String(Text),
    Json(Text),
    Timestamp(Vec<i64>, NullBufferBuilder),
    Date(Vec<i32>, NullBufferBuilder),
    List { offsets: Vec<i32>, valid: NullBufferBuilder, items: Box<ColumnBuffer> },
    Struct { fields: RowBuffer, valid: NullBufferBuilder },
}

/// UTF-8 values behind one another.
pub(super) struct Text {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    valid: NullBufferBuilder,
}

impl Text {
    fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new(), valid: NullBufferBuilder::new(0) }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.offsets.push(self.bytes.len() as i32);
        self.valid.append_non_null();
    }

    pub(super) fn push_null(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
        self.valid.append_null();
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(self.bytes), self.valid.finish())?))
    }
}

impl ColumnBuffer {
    pub(super) fn new(kind: &Kind) -> Self {
        let valid = || NullBufferBuilder::new(0);
        match kind {
            Kind::Unknown => Self::Unknown(0),
            Kind::Bool => Self::Bool(BooleanBufferBuilder::new(0), valid()),
            Kind::Int => Self::Int(Vec::new(), valid()),
            Kind::Float => Self::Float(Vec::new(), valid()),
            Kind::String => Self::String(Text::new()),
            Kind::Json => Self::Json(Text::new()),
            Kind::Timestamp => Self::Timestamp(Vec::new(), valid()),
            Kind::Date => Self::Date(Vec::new(), valid()),
            Kind::List(item) => Self::List { offsets: vec![0], valid: valid(), items: Box::new(Self::new(item)) },
            Kind::Struct(columns) => Self::Struct { fields: RowBuffer::new(columns), valid: valid() },
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Unknown(len) => *len,
            Self::Bool(values, _) => values.len(),
            Self::Int(values, _) | Self::Timestamp(values, _) => values.len(),
            Self::Float(values, _) => values.len(),
            Self::Date(values, _) => values.len(),
            Self::String(text) | Self::Json(text) => text.offsets.len() - 1,
            Self::List { offsets, .. } => offsets.len() - 1,
            Self::Struct { fields, .. } => fields.rows,
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Unknown(len) => *len += 1,
            Self::Bool(values, valid) => {
                values.append(false);
                valid.append_null();
            }
            Self::Int(values, valid) | Self::Timestamp(values, valid) => {
                values.push(0);
                valid.append_null();
            }
            Self::Float(values, valid) => {
                values.push(0.0);
                valid.append_null();
            }
            Self::Date(values, valid) => {
                values.push(0);
                valid.append_null();
            }
            Self::String(text) | Self::Json(text) => text.push_null(),
            Self::List { offsets, valid, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                valid.append_null();
            }
            Self::Struct { fields, valid } => {
                fields.end_row();
                valid.append_null();
            }
        }
    }

    /// The finished array; none where nothing is known of the column.
    fn finish(self) -> Result<Option<ArrayRef>, ArrowError> {
        Ok(Some(match self {
            Self::Unknown(_) => return Ok(None),
            Self::Bool(mut values, mut valid) => Arc::new(BooleanArray::new(values.finish(), valid.finish())),
            Self::Int(values, mut valid) => Arc::new(Int64Array::new(values.into(), valid.finish())),
            Self::Float(values, mut valid) => Arc::new(Float64Array::new(values.into(), valid.finish())),
            Self::String(text) | Self::Json(text) => text.finish()?,
            Self::Timestamp(values, mut valid) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), valid.finish()).with_timezone("UTC"))
            }
            Self::Date(values, mut valid) => Arc::new(Date32Array::new(values.into(), valid.finish())),
            Self::List { offsets, mut valid, items } => {
                let Some(items) = items.finish()? else { return Ok(None) };
                let field = Field::new("item", items.data_type().clone(), true);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(field.into(), offsets, items, valid.finish())?)
            }
            Self::Struct { fields, mut valid } => {
                let (fields, arrays) = fields.finish()?;
                if fields.is_empty() {
                    return Ok(None);
                }
                Arc::new(StructArray::try_new(fields, arrays, valid.finish())?)
            }
        }))
    }
}

impl RowBuffer {
    pub(super) fn new(columns: &[Column]) -> Self {
        let items = columns.iter().map(|c| FieldBuffer { name: c.name.clone(), values: ColumnBuffer::new(&c.kind) });
        Self { items: items.collect(), rows: 0 }
    }

    pub(super) fn of(shape: &Shape) -> Self {
        Self::new(&shape.columns)
    }

    /// Ends a row: fields it did not name are null.
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
        for field in &mut self.items {
            if field.values.len() < self.rows {
                field.values.push_null();
            }
        }
    }

    pub(super) fn finish(self) -> Result<(Fields, Vec<ArrayRef>), ArrowError> {
        let mut fields = Vec::with_capacity(self.items.len());
        let mut arrays = Vec::with_capacity(self.items.len());
        for item in self.items {
            if let Some(array) = item.values.finish()? {
                fields.push(Field::new(item.name, array.data_type().clone(), true));
                arrays.push(array);
            }
        }
        Ok((Fields::from(fields), arrays))
    }
}

/// One text value for every row.
pub(super) fn constant_text(text: &str, rows: usize) -> ArrayRef {
    let offsets = OffsetBuffer::from_repeated_length(text.len(), rows);
    let bytes = Buffer::from_vec(text.as_bytes().repeat(rows));
    match StringArray::try_new(offsets, bytes, None) {
        Ok(array) => Arc::new(array),
        Err(_) => arrow_array::new_null_array(&DataType::Utf8, rows),
    }
}
