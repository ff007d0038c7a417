//! Rows of the lake on their way into a database: read and encoded on a thread of their own, a few batches ahead.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Schema};
use arrow_select::filter::filter_record_batch;
use tessera_store::objects::Objects;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;
use crate::lake::{DataFile, align};
use crate::shape::{RUN_ID, Shape};
use crate::spec::FileFormat;
use crate::write::StoredFile;

/// Encoded batches that wait for the database.
const QUEUE: usize = 2;

/// Encoded rows.
pub(super) struct Chunk<T> {
    /// How many.
    pub rows: u64,
    /// NUL characters that were left out of them.
    pub nuls: u64,
    /// The rows.
    pub data: T,
}

/// Encodes batches.
pub(super) type Encode<T> = Arc<dyn Fn(&RecordBatch) -> Result<Chunk<T>, String> + Send + Sync>;

/// Which rows are read, from where.
#[derive(Clone)]
pub(super) struct Source {
    /// The lake.
    pub objects: Objects,
    /// The files.
    pub files: Vec<DataFile>,
    /// Their shape, system columns included.
    pub shape: Arc<Shape>,
    /// Only rows of these runs; none: all.
    pub runs: Option<Arc<HashSet<String>>>,
}

/// Rows being read.
pub(super) struct Rows<T> {
    source: Source,
    files: std::vec::IntoIter<DataFile>,
    schema: Arc<Schema>,
    encode: Encode<T>,
    reading: Option<Reading<T>>,
}

struct Reading<T> {
    chunks: mpsc::Receiver<Result<Chunk<T>, String>>,
    thread: JoinHandle<()>,
}

impl Source {
    /// Reads the rows.
    pub(super) fn rows<T: Send + 'static>(&self, encode: Encode<T>) -> Rows<T> {
        let schema = Arc::new(self.shape.schema());
        Rows { files: self.files.clone().into_iter(), source: self.clone(), schema, encode, reading: None }
    }
}

impl<T: Send + 'static> Rows<T> {
    /// The next rows; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk<T>>, Error> {
        loop {
            if let Some(reading) = &mut self.reading
                && let Some(chunk) = reading.chunks.recv().await
            {
                return chunk.map(Some).map_err(|detail| Error::Lake { detail });
            }
            if let Some(done) = self.reading.take() {
                done.thread.await.map_err(|error| Error::Internal(error.to_string()))?;
            }
            let Some(file) = self.files.next() else { return Ok(None) };
            self.reading = Some(self.open(&file).await?);
        }
    }

    async fn open(&self, file: &DataFile) -> Result<Reading<T>, Error> {
        let shape = Arc::clone(&self.source.shape);
        let stored = StoredFile::fetch(&self.source.objects, &file.path, format_of(&file.path), shape).await?;
        let (sender, chunks) = mpsc::channel(QUEUE);
        let (schema, encode, runs) = (Arc::clone(&self.schema), Arc::clone(&self.encode), self.source.runs.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let read = || -> Result<(), String> {
                for batch in stored.read(None)? {
                    let batch = of_runs(batch?, runs.as_deref()).map_err(|error| error.to_string())?;
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    let batch = align(&batch, &schema).map_err(|error| error.to_string())?;
                    if sender.blocking_send(Ok(encode(&batch)?)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(detail) = read() {
                // Nobody is left to be told when the load was given up.
                let _ = sender.blocking_send(Err(detail));
            }
        });
        Ok(Reading { chunks, thread })
    }
}

/// The rows that one of these runs fetched. A row that does not say counts as new.
fn of_runs(batch: RecordBatch, runs: Option<&HashSet<String>>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let Some(runs) = runs else { return Ok(batch) };
    let Some(column) = batch.column_by_name(RUN_ID).filter(|column| *column.data_type() == DataType::Utf8) else {
        return Ok(batch);
    };
    let column = column.as_string::<i32>();
    let new = |row: usize| column.is_null(row) || runs.contains(column.value(row));
    let keep: BooleanArray = (0..column.len()).map(|row| Some(new(row))).collect();
    if keep.true_count() == batch.num_rows() { Ok(batch) } else { filter_record_batch(&batch, &keep) }
}

/// A file's format, by its name: a dataset may have files of several.
pub(super) fn format_of(path: &str) -> FileFormat {
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("csv") => FileFormat::Csv,
        Some("jsonl") => FileFormat::Jsonl,
        _ => FileFormat::Parquet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_runs_in_a_file_stay_out() {
        let column = |name: &str, kind| crate::shape::Column { name: name.into(), kind };
        let shape = Shape { columns: vec![column("id", crate::shape::Kind::Int)] }.stored(&[]);
        let json = br#"[{"id":1,"_run_id":"old"},{"id":2,"_run_id":"new"},{"id":3},{"id":4,"_run_id":"older"}]"#;
        let batch = crate::shape::decode_stored(&Arc::new(shape), json).unwrap();
        let runs = HashSet::from(["new".to_owned()]);
        let ids =
            |batch: &RecordBatch| batch.column(0).as_primitive::<arrow_array::types::Int64Type>().values().to_vec();
        assert_eq!(ids(&of_runs(batch.clone(), Some(&runs)).unwrap()), [2, 3]);
        assert_eq!(ids(&of_runs(batch, None).unwrap()), [1, 2, 3, 4]);
    }
}
