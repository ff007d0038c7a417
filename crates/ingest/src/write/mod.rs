//! Rows into files: Parquet, JSON Lines or CSV, streamed to the lake as they are encoded.

mod distinct;
mod merge;
mod sink;
mod stored;
mod text;
mod touched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tessera_store::objects::Objects;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use distinct::Distinct;
pub use merge::{Combined, Combining, Rule, combine, rewrite};
use sink::Sink;
pub use stored::StoredFile;
pub(crate) use text::json;
use text::{CsvWriter, JsonlWriter};
pub use touched::IncomingKeys;

use crate::Error;
use crate::shape::Shape;
use crate::spec::FileFormat;

/// Batches that wait for the encoder.
const QUEUE: usize = 4;
/// A Parquet row group is closed at this size in memory, or at this number of rows.
const ROW_GROUP_BYTES: usize = 24 << 20;
const ROW_GROUP_ROWS: usize = 1 << 20;

/// A file being written. Encoding runs on a thread of its own, uploading beside it.
#[derive(Debug)]
pub struct Encoder {
    batches: mpsc::Sender<RecordBatch>,
    done: oneshot::Receiver<Result<Written, String>>,
    upload: JoinHandle<Result<(), Error>>,
    written: Arc<AtomicU64>,
    schema: Arc<Schema>,
    path: String,
}

/// A file that is complete and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

enum Format {
    Parquet(Box<ArrowWriter<Sink>>),
    Jsonl(Box<JsonlWriter<Sink>>),
    Csv(Box<CsvWriter<Sink>>),
}

impl Encoder {
    /// Opens a file at `path` for rows of this stored shape.
    pub fn open(objects: Objects, path: String, format: FileFormat, shape: Shape) -> Self {
        let schema = Arc::new(shape.schema());
        let (batches, mut queue) = mpsc::channel::<RecordBatch>(QUEUE);
        let (answer, done) = oneshot::channel();
        let (sink, parts) = sink::pipe();
        let written = sink.counter();
        let upload = tokio::spawn(sink::upload(objects, path.clone(), parts));
        let encoder_schema = Arc::clone(&schema);
        let approximate = Arc::clone(&written);
        tokio::task::spawn_blocking(move || {
            let run = || -> Result<Written, String> {
                let mut file = Format::open(format, sink, &encoder_schema, shape)?;
                let mut rows = 0;
                while let Some(batch) = queue.blocking_recv() {
                    rows += batch.num_rows() as u64;
                    file.write(&batch)?;
                    approximate.fetch_max(file.size(), Ordering::Relaxed);
                }
                let (bytes, sha256) = file.finish()?;
                Ok(Written { rows, bytes, sha256 })
            };
            // Nobody is left to be told when the file was given up.
            let _ = answer.send(run());
        });
        Self { batches, done, upload, written, schema, path }
    }

    /// The schema that batches must have.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Bytes so far; what is still in memory is estimated.
    pub fn bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Adds rows. Waits while the encoder is behind.
    ///
    /// # Errors
    /// [`Error::Lake`] when the file cannot be written.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), Error> {
        if self.batches.send(batch).await.is_ok() {
            return Ok(());
        }
        Err(self.why().await)
    }

    async fn why(&mut self) -> Error {
        let encoder = (&mut self.done).await;
        match (&mut self.upload).await {
            Ok(Err(error)) => error,
            _ => Error::Lake {
                detail: format!(
                    "cannot write `{}`: {}",
                    self.path,
                    match encoder {
                        Ok(Err(detail)) => detail,
                        _ => "the encoder stopped".into(),
                    }
                ),
            },
        }
    }

    /// Completes the file and makes it durable.
    ///
    /// # Errors
    /// [`Error::Lake`] when the file cannot be written.
    pub async fn finish(self) -> Result<Written, Error> {
        drop(self.batches);
        let encoded = self.done.await.map_err(|_| Error::Internal("the encoder stopped".into()))?;
        self.upload.await.map_err(|error| Error::Internal(error.to_string()))??;
        encoded.map_err(|detail| Error::Lake { detail: format!("cannot write `{}`: {detail}", self.path) })
    }
}

impl Format {
    fn open(format: FileFormat, sink: Sink, schema: &Arc<Schema>, shape: Shape) -> Result<Self, String> {
        Ok(match format {
            FileFormat::Parquet => {
                let level = ZstdLevel::try_new(1).map_err(|error| error.to_string())?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_statistics_enabled(EnabledStatistics::Chunk)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                    .build();
                let writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties));
                Self::Parquet(Box::new(writer.map_err(|error| error.to_string())?))
            }
            FileFormat::Jsonl => Self::Jsonl(Box::new(JsonlWriter::new(sink, shape))),
            FileFormat::Csv => Self::Csv(Box::new(CsvWriter::new(sink, shape)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(|error| error.to_string()),
            Self::Jsonl(writer) => writer.write(batch),
            Self::Csv(writer) => writer.write(batch),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Self::Jsonl(_) | Self::Csv(_) => 0,
        }
    }

    fn finish(self) -> Result<(u64, String), String> {
        let sink = match self {
            Self::Parquet(writer) => writer.into_inner().map_err(|error| error.to_string())?,
            Self::Jsonl(writer) => writer.finish(),
            Self::Csv(writer) => writer.finish()?,
        };
        sink.finish().map_err(|error| error.to_string())
    }
}
