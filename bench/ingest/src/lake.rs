//! What a contender wrote, counted: nobody is fast by losing rows.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bench_ingest::rows::FIRST_ID;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What lies in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Reads the ids of all Parquet files below a folder, except in folders that begin with `_`, and compares their number
/// and their sum with what was served: each row once.
pub(crate) fn verify(folder: &Path, rows: u64) -> anyhow::Result<Written> {
    let mut written = Written::default();
    let mut sum = 0_u128;
    for path in parquet_files(folder)? {
        let file = File::open(&path)?;
        written.files += 1;
        written.bytes += file.metadata()?.len();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let ids = ProjectionMask::columns(reader.parquet_schema(), ["id"]);
        for batch in reader.with_projection(ids).build()? {
            let batch = batch?;
            written.rows += batch.num_rows() as u64;
            let ids = batch.columns().first().and_then(|ids| ids.as_primitive_opt::<Int64Type>());
            let ids = ids.with_context(|| format!("{}: no 64-bit column `id`", path.display()))?;
            sum += ids.iter().flatten().map(|id| u128::from(id.unsigned_abs())).sum::<u128>();
        }
    }
    let (first, count) = (u128::from(FIRST_ID), u128::from(rows));
    let expected = first * count + count * count.saturating_sub(1) / 2;
    ensure!(written.rows == rows, "{rows} rows were served and {} written to {}", written.rows, folder.display());
    ensure!(sum == expected, "{rows} rows in {}, but not each id once", folder.display());
    Ok(written)
}

fn parquet_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('_') {
            found.extend(parquet_files(&path)?);
        } else if name.ends_with(".parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn a_lost_or_doubled_row_is_seen() {
        let folder = std::env::temp_dir().join(format!("tessera-bench-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("rows")).unwrap();
        let first = i64::try_from(FIRST_ID).unwrap();
        let write = |ids: &[i64]| {
            let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
            let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
            let file = File::create(folder.join("rows/a.parquet")).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            verify(&folder, 3)
        };
        assert_eq!(write(&[first + 2, first, first + 1]).unwrap().rows, 3);
        assert!(write(&[first, first + 1]).unwrap_err().to_string().contains("3 rows were served and 2 written"));
        assert!(write(&[first, first + 1, first + 1]).unwrap_err().to_string().contains("not each id once"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
