//! Rows as JSON Lines and as CSV.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use serde_json::Value;
use tessera_kernel::Timestamp;

use crate::shape::{Kind, Shape};

/// One JSON object a line. Missing values are left out; JSON columns stand as JSON.
pub(super) struct JsonlWriter<W> {
    sink: W,
    shape: Shape,
}

impl<W: Write> JsonlWriter<W> {
    pub(super) fn new(sink: W, shape: Shape) -> Self {
        Self { sink, shape }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns: Vec<_> = self
            .shape
            .columns
            .iter()
            .filter_map(|column| {
                let name = Value::from(column.name.as_str()).to_string();
                Some((name, &column.kind, batch.column_by_name(&column.name)?))
            })
            .collect();
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            text.push('{');
            let mut first = true;
            for (name, kind, array) in &columns {
                if array.is_valid(row) {
                    if !first {
                        text.push(',');
                    }
                    first = false;
                    text.push_str(name);
                    text.push(':');
                    json(&mut text, kind, array, row);
                }
            }
            text.push_str("}\n");
            if text.len() > 1 << 16 {
                self.sink.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
                text.clear();
            }
        }
        self.sink.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    pub(super) fn finish(self) -> W {
        self.sink
    }
}

/// One value as JSON.
pub(crate) fn json(text: &mut String, kind: &Kind, array: &dyn Array, row: usize) {
    use std::fmt::Write;
    if array.is_null(row) {
        text.push_str("null");
        return;
    }
    // Writing to a string does not fail.
    let _ = match kind {
        Kind::Unknown => write!(text, "null"),
        Kind::Bool => write!(text, "{}", array.as_boolean().value(row)),
        Kind::Int => write!(text, "{}", array.as_primitive::<Int64Type>().value(row)),
        Kind::Float => write!(text, "{}", Value::from(array.as_primitive::<Float64Type>().value(row))),
        Kind::Json => write!(text, "{}", array.as_string::<i32>().value(row)),
        Kind::String => write!(text, "{}", Value::from(array.as_string::<i32>().value(row))),
        Kind::Timestamp => {
            let at = Timestamp::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(row));
            write!(text, "\"{at}\"")
        }
        Kind::Date => write!(text, "\"{}\"", day(array.as_primitive::<Date32Type>().value(row))),
        Kind::List(item) => {
            let list = array.as_list::<i32>();
            text.push('[');
            let offsets = list.value_offsets();
            for (at, item_row) in (offsets[row]..offsets[row + 1]).enumerate() {
                if at > 0 {
                    text.push(',');
                }
                json(text, item, list.values().as_ref(), item_row as usize);
            }
            text.push(']');
            Ok(())
        }
        Kind::Struct(fields) => {
            let object = array.as_struct();
            text.push('{');
            let mut first = true;
            for field in fields {
                let Some(column) = object.column_by_name(&field.name) else { continue };
                if column.is_valid(row) {
                    if !first {
                        text.push(',');
                    }
                    first = false;
                    let _ = write!(text, "{}:", Value::from(field.name.as_str()));
                    json(text, &field.kind, column.as_ref(), row);
                }
            }
            text.push('}');
            Ok(())
        }
    };
}

fn day(days: i32) -> String {
    let at = Timestamp::from_micros(i64::from(days) * 86_400_000_000);
    at.to_utc().format("%Y-%m-%d").to_string()
}

/// Comma-separated values with a header; structs and lists as JSON text.
pub(super) struct CsvWriter<W: Write> {
    writer: csv::Writer<W>,
    shape: Shape,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(sink: W, shape: Shape) -> Result<Self, String> {
        let mut writer = csv::WriterBuilder::new().buffer_capacity(1 << 16).from_writer(sink);
        let columns = shape.columns.iter().filter(|column| column.kind.data_type().is_some());
        writer.write_record(columns.map(|column| &column.name)).map_err(|error| error.to_string())?;
        Ok(Self { writer, shape })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns: Vec<_> = self
            .shape
            .columns
            .iter()
            .filter(|column| column.kind.data_type().is_some())
            .map(|column| (&column.kind, batch.column_by_name(&column.name)))
            .collect();
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            for (kind, array) in &columns {
                text.clear();
                match array {
                    Some(array) if array.is_valid(row) => match kind {
                        Kind::String => text.push_str(array.as_string::<i32>().value(row)),
                        Kind::Timestamp | Kind::Date => {
                            json(&mut text, kind, array.as_ref(), row);
                            text = text.trim_matches('"').to_owned();
                        }
                        _ => json(&mut text, kind, array.as_ref(), row),
                    },
                    _ => {}
                }
                self.writer.write_field(&text).map_err(|error| error.to_string())?;
            }
            self.writer.write_record(None::<&[u8]>).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<W, String> {
        self.writer.into_inner().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lake::RowReader;
    use crate::shape::{Decoder, Meta, infer};
    use crate::spec::{FileFormat, SchemaPolicy};

    /// What is written in a text format reads back the same.
    #[test]
    fn text_formats_read_back_as_written() {
        let rows = br#"[{"id":1,"name":"a \"b\", c\nd","at":"2024-01-31T00:00:00.5Z","d":"2024-01-31","w":1.5,"s":{"a":1,"b":null},"l":[1,2],"ok":true},
                       {"id":2,"name":"","w":-0.0,"l":[],"mixed":1},{"id":null,"name":null,"mixed":"x"}]"#;
        let shape = infer(rows).unwrap().shape;
        let stored = shape.stored(&[]);
        let decoder = Decoder::new(Arc::new(shape), SchemaPolicy::Evolve, Arc::new([]), Arc::new([]));
        let meta = Meta { extracted_at: 1, run_id: "r".into(), source: "s".into(), include: vec![] };
        let batch = decoder.decode(rows, &meta).unwrap().batch;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");

        let mut writer = JsonlWriter::new(Vec::new(), stored.clone());
        writer.write(&batch).unwrap();
        std::fs::write(&path, writer.finish()).unwrap();
        let read: Vec<_> =
            RowReader::open(&path, FileFormat::Jsonl, &stored, None).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, std::slice::from_ref(&batch));

        let mut writer = CsvWriter::new(Vec::new(), stored.clone()).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        let read: Vec<_> =
            RowReader::open(&path, FileFormat::Csv, &stored, None).unwrap().collect::<Result<_, _>>().unwrap();
        // CSV cannot tell an empty text from a missing one.
        assert_eq!(read[0].num_rows(), 3);
        for name in ["id", "at", "d", "w", "s", "l", "ok", "_extracted_at"] {
            assert_eq!(read[0].column_by_name(name), batch.column_by_name(name), "{name}");
        }
    }
}
