//! A folder of views that DuckDB reads: one script a schema, and `load.sql` with all of them.
//!
//! Nothing is copied: a view names the files of the present, so each load writes the script anew, whole, under a lock.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::column::{Column, Engine, Type, quoted};
use super::fault::Fault;
use super::plan::{Table, tables};
use super::rows::format_of;
use super::{Load, LoadOutcome};
use crate::lake::Lake;
use crate::spec::{FileFormat, Pipeline};

/// The script that has all others in it.
const ALL: &str = "load.sql";
/// Another load is waited for so long, asking so often.
const LOCK_TRIES: u32 = 600;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// What the first line of a script begins with.
const HEAD: &str = "-- tessera: ";
/// Longest row of JSON Lines that DuckDB reads.
const MAX_ROW_BYTES: u32 = 256 << 20;

/// The first line of a script.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    dataset: String,
    commit: u64,
}

/// Writes the views.
pub(super) async fn load(
    folder: &str,
    target: &Load,
    pipeline: &Pipeline,
    lake: &Lake,
) -> Result<Vec<LoadOutcome>, Fault> {
    let folder = PathBuf::from(folder);
    let refused = refused(&folder);
    std::fs::create_dir_all(&folder).map_err(&refused)?;
    let _lock = lock(&folder).await?;
    let present = lake.present().await?;
    let dataset = pipeline.destination.dataset.as_deref().unwrap_or(&pipeline.name);
    let schema = target.schema.as_deref().unwrap_or(dataset);
    let file = folder.join(format!("{}.sql", file_name(schema)));
    let old = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(refused(error)),
    };
    let head = old.as_deref().map(|text| head(&file, text, dataset)).transpose()?;
    let tables = tables(target, pipeline, &present, Engine::Postgres);
    let script = script(&Head { dataset: dataset.into(), commit: present.number }, schema, &tables, lake)?;
    let already = old.as_deref() == Some(script.as_str());
    if !already {
        replace(&file, &script).map_err(&refused)?;
    }
    gather(&folder).map_err(&refused)?;
    let outcomes = tables.iter().map(|table| LoadOutcome {
        resource: table.resource.clone(),
        table: format!("{}.{}", quoted(schema), quoted(&table.resource)),
        rows: if already { 0 } else { table.rows },
        from_commit: head.as_ref().map_or(0, |head| head.commit),
        to_commit: present.number,
        already,
        nuls_removed: 0,
    });
    Ok(outcomes.collect())
}

fn refused(folder: &Path) -> impl Fn(io::Error) -> Fault + use<> {
    let folder = folder.display().to_string();
    move |error| Fault::Refused(format!("cannot write into {folder}: {error}; choose a folder that can be written"))
}

async fn lock(folder: &Path) -> Result<File, Fault> {
    let file = File::create(folder.join(".tessera.lock")).map_err(refused(folder))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(std::fs::TryLockError::Error(error)) => return Err(refused(folder)(error)),
        }
    }
    Err(Fault::Refused("another load is writing into the folder; run it again when it is done".into()))
}

/// A schema's name as a file's.
fn file_name(schema: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let name: String = schema.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if name == schema && name != "load" { name } else { format!("{name}_{}", super::column::digest(schema, 8)) }
}

/// The first line of a script that is there: it must be ours.
fn head(file: &Path, text: &str, dataset: &str) -> Result<Head, Fault> {
    let line = text.lines().next().and_then(|line| line.strip_prefix(HEAD));
    let head: Option<Head> = line.and_then(|line| serde_json::from_str(line).ok());
    match head {
        Some(head) if head.dataset == dataset => Ok(head),
        Some(head) => Err(Fault::Refused(format!(
            "{} has the views of dataset `{}`; set another `schema` for this load",
            file.display(),
            head.dataset
        ))),
        None => Err(Fault::Refused(format!(
            "{} was not written by a load; rename it, or set another `schema` for this load",
            file.display()
        ))),
    }
}

fn script(head: &Head, schema: &str, tables: &[Table], lake: &Lake) -> Result<String, Fault> {
    let head = serde_json::to_string(head).map_err(|error| crate::Error::Internal(error.to_string()))?;
    let mut script = format!("{HEAD}{head}\nCREATE SCHEMA IF NOT EXISTS {};\n", quoted(schema));
    for table in tables {
        // Writing to a string does not fail.
        let _ = writeln!(
            script,
            "CREATE OR REPLACE VIEW {}.{} AS\n{};",
            quoted(schema),
            quoted(&table.resource),
            select(table, lake)
        );
    }
    Ok(script)
}

fn select(table: &Table, lake: &Lake) -> String {
    let parts: Vec<String> = [FileFormat::Parquet, FileFormat::Jsonl, FileFormat::Csv]
        .into_iter()
        .filter_map(|format| {
            let files = table.files.iter().filter(|file| format_of(&file.path) == format);
            let files: Vec<String> = files.map(|file| literal(&lake.objects().url_of(&file.path))).collect();
            (!files.is_empty()).then(|| read(format, &files.join(",\n  "), &table.columns))
        })
        .collect();
    if parts.is_empty() {
        let nulls =
            table.columns.iter().map(|column| format!("CAST(NULL AS {}) AS {}", kind(column), quoted(&column.source)));
        return format!("SELECT {} WHERE FALSE", nulls.collect::<Vec<_>>().join(", "));
    }
    parts.join("\nUNION ALL BY NAME\n")
}

/// The folders `dt=…` are no column: the rows have their own times.
fn read(format: FileFormat, files: &str, columns: &[Column]) -> String {
    match format {
        FileFormat::Parquet => {
            format!("SELECT * FROM read_parquet([\n  {files}\n], union_by_name = true, hive_partitioning = false)")
        }
        FileFormat::Jsonl => {
            let types = columns.iter().map(|column| format!("{}: {}", literal(&column.source), literal(kind(column))));
            format!(
                "SELECT * FROM read_json([\n  {files}\n], format = 'newline_delimited', hive_partitioning = false, \
                 maximum_object_size = {MAX_ROW_BYTES}, columns = {{{}}})",
                types.collect::<Vec<_>>().join(", ")
            )
        }
        FileFormat::Csv => {
            let casts = columns.iter().map(|column| {
                let name = quoted(&column.source);
                format!("CAST({name} AS {}) AS {name}", kind(column))
            });
            format!(
                "SELECT {} FROM read_csv([\n  {files}\n], header = true, all_varchar = true, union_by_name = true, \
                 hive_partitioning = false)",
                casts.collect::<Vec<_>>().join(", ")
            )
        }
    }
}

fn kind(column: &Column) -> &'static str {
    match column.kind {
        Type::Bool => "BOOLEAN",
        Type::Int => "BIGINT",
        Type::Float => "DOUBLE",
        Type::Text => "VARCHAR",
        Type::Timestamp => "TIMESTAMPTZ",
        Type::Date => "DATE",
        Type::Json => "JSON",
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Puts all scripts of the folder into one.
fn gather(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") && path.file_name() != Some(ALL.as_ref()) {
            files.push(path);
        }
    }
    files.sort();
    let mut all = String::new();
    for file in files {
        let text = std::fs::read_to_string(file)?;
        if text.starts_with(HEAD) {
            all.push_str(&text);
        }
    }
    let path = folder.join(ALL);
    match std::fs::read_to_string(&path) {
        Ok(old) if old == all => Ok(()),
        _ => replace(&path, &all),
    }
}

/// Writes a file so that a reader finds the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let new = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(new.path(), text)?;
    new.as_file().sync_all()?;
    // A temporary file is for its maker only; a view is for whoever may read the folder.
    #[cfg(unix)]
    std::fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    new.persist(path).map(drop).map_err(|error| error.error)
}
