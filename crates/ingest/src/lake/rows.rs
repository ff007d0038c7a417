//! Rows read back from the lake's files, whatever their format.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::shape::{Shape, decode_stored};
use crate::spec::FileFormat;

const BATCH: usize = 4096;

/// Reads a local file of rows in batches. The order is that of the file.
pub enum RowReader {
    /// Parquet.
    Parquet(ParquetRecordBatchReader),
    /// JSON Lines or CSV, decoded by the shape.
    Text {
        /// Lines or records as JSON objects.
        source: TextRows,
        /// The columns to decode.
        shape: Arc<Shape>,
    },
}

/// Rows of a text file, a JSON object each.
pub enum TextRows {
    /// JSON Lines.
    Lines(Box<BufReader<File>>),
    /// CSV.
    Csv(Box<csv::Reader<File>>, csv::StringRecord),
}

impl RowReader {
    /// Opens a file. `columns` are the top-level columns that are wanted; none: all. `shape` is the file's, with system
    /// columns; Parquet carries its own.
    ///
    /// # Errors
    /// In words.
    pub fn open(path: &Path, format: FileFormat, shape: &Shape, columns: Option<&[String]>) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let broken = |error: String| format!("{} is broken: {error}", path.display());
        let wanted = |name: &str| columns.is_none_or(|columns| columns.iter().any(|column| column == name));
        match format {
            FileFormat::Parquet => {
                let builder =
                    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| broken(error.to_string()))?;
                let roots =
                    builder.schema().fields().iter().enumerate().filter(|(_, f)| wanted(f.name())).map(|(at, _)| at);
                let mask = ProjectionMask::roots(builder.parquet_schema(), roots.collect::<Vec<_>>());
                let reader = builder.with_projection(mask).with_batch_size(BATCH).build();
                Ok(Self::Parquet(reader.map_err(|error| broken(error.to_string()))?))
            }
            FileFormat::Jsonl | FileFormat::Csv => {
                let columns = shape.columns.iter().filter(|column| wanted(&column.name)).cloned().collect();
                let source = if format == FileFormat::Jsonl {
                    TextRows::Lines(Box::new(BufReader::with_capacity(1 << 16, file)))
                } else {
                    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(file);
                    let header = reader.headers().map_err(|error| broken(error.to_string()))?.clone();
                    TextRows::Csv(Box::new(reader), header)
                };
                Ok(Self::Text { source, shape: Arc::new(Shape { columns }) })
            }
        }
    }
}

impl Iterator for RowReader {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Parquet(reader) => Some(reader.next()?.map_err(|error| error.to_string())),
            Self::Text { source, shape } => {
                let rows = match source.next_rows(shape) {
                    Ok(rows) => rows,
                    Err(error) => return Some(Err(error)),
                };
                (rows.len() > 2).then(|| decode_stored(shape, &rows))
            }
        }
    }
}

impl TextRows {
    /// The next rows as a JSON array; `[]` at the end.
    fn next_rows(&mut self, shape: &Shape) -> Result<Vec<u8>, String> {
        let mut rows = vec![b'['];
        for _ in 0..BATCH {
            let start = rows.len();
            if start > 1 {
                rows.push(b',');
            }
            let found = match self {
                Self::Lines(reader) => reader.read_until(b'\n', &mut rows).map_err(|error| error.to_string())? > 0,
                Self::Csv(reader, header) => {
                    let mut record = csv::StringRecord::new();
                    let found = reader.read_record(&mut record).map_err(|error| error.to_string())?;
                    if found {
                        csv_row(&mut rows, header, &record, shape);
                    }
                    found
                }
            };
            if !found {
                rows.truncate(start);
                break;
            }
        }
        rows.push(b']');
        Ok(rows)
    }
}

/// A CSV record as a JSON object, by the types of its columns: text is quoted, everything else stands as it is.
fn csv_row(rows: &mut Vec<u8>, header: &csv::StringRecord, record: &csv::StringRecord, shape: &Shape) {
    use crate::shape::Kind;
    rows.push(b'{');
    let mut first = true;
    for (name, field) in header.iter().zip(record) {
        let Some(column) = shape.column(name) else { continue };
        if field.is_empty() {
            continue;
        }
        if !first {
            rows.push(b',');
        }
        first = false;
        rows.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
        rows.push(b':');
        match column.kind {
            Kind::String | Kind::Timestamp | Kind::Date => {
                rows.extend_from_slice(serde_json::Value::from(field).to_string().as_bytes());
            }
            _ => rows.extend_from_slice(field.as_bytes()),
        }
    }
    rows.push(b'}');
}

/// The batch with exactly the columns of `schema`: missing ones null, narrower ones widened, others left out.
///
/// # Errors
/// A column that cannot be cast.
pub fn align(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref().fields() == schema.fields() {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => align_column(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn align_column(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    use arrow_array::cast::AsArray;
    use arrow_array::{Array, ListArray, StructArray};
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    match (column.data_type(), wanted) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let column = column.as_struct();
            let inner = fields.iter().map(|field| match column.column_by_name(field.name()) {
                Some(inner) => align_column(inner, field.data_type()),
                None => Ok(new_null_array(field.data_type(), column.len())),
            });
            let inner = inner.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), inner, column.nulls().cloned())?))
        }
        (DataType::List(_), DataType::List(field)) => {
            let column = column.as_list::<i32>();
            let values = align_column(column.values(), field.data_type())?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(field),
                column.offsets().clone(),
                values,
                column.nulls().cloned(),
            )?))
        }
        _ => cast(column, wanted),
    }
}
