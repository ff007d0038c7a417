//! Files of the lake as local files. One in S3 is copied; where only some columns of a Parquet file are wanted, only its
//! footer and the chunks of those columns are fetched, and lie in the copy where they lie in the file.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tessera_store::objects::Objects;

use crate::Error;
use crate::lake::RowReader;
use crate::shape::Shape;
use crate::spec::FileFormat;

/// Files up to this size are fetched whole: one request instead of three.
const WHOLE: u64 = 1 << 20;
/// So much of a file's end is fetched first; a footer of some hundred columns and row groups fits.
const TAIL: u64 = 64 << 10;
/// So much is in memory at once, or a single chunk where that is larger.
const AT_ONCE: u64 = 8 << 20;

/// A file of rows on the local disk: of the lake itself, or a copy of one in S3.
#[derive(Clone, Debug)]
pub struct StoredFile {
    /// Where it is.
    pub local: Arc<PathBuf>,
    /// Deletes the copy when the last user is done.
    pub copy: Option<Arc<tempfile::TempPath>>,
    /// The top-level columns that the copy holds; none: all.
    pub columns: Option<Vec<String>>,
    /// Its format.
    pub format: FileFormat,
    /// Its shape, system columns included.
    pub shape: Arc<Shape>,
    /// Columns that name a row here, where they are called otherwise than in the other files.
    pub key: Option<Vec<String>>,
}

impl StoredFile {
    /// A file on the local disk.
    pub fn local(path: PathBuf, format: FileFormat, shape: Arc<Shape>) -> Self {
        Self { local: Arc::new(path), copy: None, columns: None, format, shape, key: None }
    }

    /// Makes an object readable as a local file.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read.
    pub async fn fetch(objects: &Objects, path: &str, format: FileFormat, shape: Arc<Shape>) -> Result<Self, Error> {
        if let Some(local) = objects.local_path(path) {
            return Ok(Self::local(local, format, shape));
        }
        let copy = tempfile::NamedTempFile::new().map_err(no_room)?.into_temp_path();
        objects.download(path, &copy).await?;
        Ok(Self::copied(copy, None, format, shape))
    }

    /// Makes these top-level columns of an object of `size` bytes readable. What else is in it may not be.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read.
    pub async fn fetch_columns(
        objects: &Objects,
        path: &str,
        size: u64,
        format: FileFormat,
        shape: Arc<Shape>,
        columns: &[String],
    ) -> Result<Self, Error> {
        let here = objects.local_path(path).is_some();
        if here || format != FileFormat::Parquet || size <= WHOLE {
            return Self::fetch(objects, path, format, shape).await;
        }
        let copy = tempfile::NamedTempFile::new().map_err(no_room)?.into_temp_path();
        fetch_chunks(objects, path, size, &copy, columns).await?;
        Ok(Self::copied(copy, Some(columns.to_vec()), format, shape))
    }

    fn copied(copy: tempfile::TempPath, columns: Option<Vec<String>>, format: FileFormat, shape: Arc<Shape>) -> Self {
        let local = copy.to_path_buf();
        Self { copy: Some(Arc::new(copy)), columns, ..Self::local(local, format, shape) }
    }

    /// Its rows.
    ///
    /// # Errors
    /// In words.
    pub fn read(&self, columns: Option<&[String]>) -> Result<RowReader, String> {
        let here = match (&self.columns, columns) {
            (None, _) => true,
            (Some(here), Some(wanted)) => wanted.iter().all(|column| here.contains(column)),
            (Some(_), None) => false,
        };
        if !here {
            return Err(format!("only some columns of {} were fetched", self.local.display()));
        }
        RowReader::open(&self.local, self.format, &self.shape, columns)
    }
}

fn no_room(error: std::io::Error) -> Error {
    Error::Lake { detail: format!("cannot make a temporary file: {error}; set TMPDIR to a larger disk") }
}

/// Fetches the footer and the chunks of some columns to their places in a file with holes.
async fn fetch_chunks(objects: &Objects, path: &str, size: u64, to: &Path, columns: &[String]) -> Result<(), Error> {
    let mut copy = File::create(to).map_err(no_room)?;
    copy.set_len(size).map_err(no_room)?;
    let (metadata, tail) = footer(objects, path, size).await?;
    put(&mut copy, size - tail.len() as u64, &tail)?;
    let mut wanted: Vec<Range<u64>> = metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
        .filter(|chunk| chunk.column_path().parts().first().is_some_and(|root| columns.contains(root)))
        .map(|chunk| {
            let (start, length) = chunk.byte_range();
            start..start + length
        })
        .collect();
    wanted.sort_by_key(|range| range.start);
    let mut rest = &wanted[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take_while(|range| {
            bytes += range.end - range.start;
            bytes <= AT_ONCE
        });
        let (now, later) = rest.split_at(count.count().max(1));
        for (range, bytes) in now.iter().zip(objects.get_ranges(path, now).await?) {
            put(&mut copy, range.start, &bytes)?;
        }
        rest = later;
    }
    Ok(())
}

fn put(copy: &mut File, at: u64, bytes: &[u8]) -> Result<(), Error> {
    copy.seek(SeekFrom::Start(at)).and_then(|_| copy.write_all(bytes)).map_err(no_room)
}

/// A Parquet file's metadata, and the end of the file in which it lies.
async fn footer(objects: &Objects, path: &str, size: u64) -> Result<(ParquetMetaData, Bytes), Error> {
    let broken = |detail: String| Error::Lake { detail: format!("{} is broken: {detail}", objects.url_of(path)) };
    let mut length = TAIL.min(size);
    loop {
        let from = size - length;
        let tail = objects.get_ranges(path, std::slice::from_ref(&(from..size))).await?.pop().unwrap_or_default();
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&tail, size) {
            Ok(()) => return Ok((reader.finish().map_err(|error| broken(error.to_string()))?, tail)),
            Err(ParquetError::NeedMoreData(more)) if more as u64 > length && more as u64 <= size => {
                length = more as u64
            }
            Err(error) => return Err(broken(error.to_string())),
        }
    }
}
