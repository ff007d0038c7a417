//! One table being written: the open file, the files before it, the shape, the counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use tessera_kernel::Timestamp;
use tessera_store::objects::Objects;

use super::checkpoint::TableCheckpoint;
use crate::Error;
use crate::lake::{Cursor, CursorColumn, DataFile, FileKeys, Lake, align, any_json};
use crate::quality::Profile;
use crate::shape::{Column, Kind, SYSTEM, Shape};
use crate::spec::{Destination, FileFormat};
use crate::write::{Distinct, Encoder};

/// Where and how a run writes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The dataset.
    pub objects: Objects,
    /// Format and chunk sizes.
    pub destination: Destination,
    /// The run.
    pub run_id: String,
    /// Tells this process's files from those of another one that resumed the run.
    pub attempt: String,
    /// When the run began.
    pub started_at: Timestamp,
    /// What this process found out about the keys of each table that it read from start to end.
    pub verdicts: Arc<Verdicts>,
}

/// What was found out about keys while rows went by, by table. It spares the commit a second look.
#[derive(Debug, Default)]
pub struct Verdicts(Mutex<BTreeMap<String, Verdict>>);

/// What was found out about the keys of a table's rows in this run; false where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// No two rows have one key; where rows are appended, no two of them one cursor too.
    pub key: bool,
    /// No two rows are equal in the columns of the rule `unique`.
    pub unique: bool,
}

impl Verdicts {
    /// Keeps a verdict.
    pub fn set(&self, table: &str, verdict: Verdict) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), verdict);
    }

    /// The verdict on a table.
    pub fn of(&self, table: &str) -> Verdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(table).copied().unwrap_or_default()
    }
}

/// What is watched of a table's rows as they go by.
#[derive(Debug, Default)]
pub struct Watch {
    /// Columns that name a row.
    pub columns: Vec<String>,
    /// Whether keys come twice.
    pub key: Option<Distinct>,
    /// Whether rows repeat the columns of `unique`.
    pub unique: Option<Distinct>,
}

impl Watch {
    fn sets(&mut self) -> impl Iterator<Item = &mut Distinct> {
        self.key.iter_mut().chain(&mut self.unique)
    }

    /// What was found. Blocking.
    pub fn verdict(self) -> Verdict {
        let found = |watched: Option<Distinct>| watched.is_some_and(Distinct::all_distinct);
        Verdict { key: found(self.key), unique: found(self.unique) }
    }
}

/// A table.
#[derive(Debug)]
pub struct Table {
    name: String,
    target: Arc<Target>,
    cursor: Option<CursorColumn>,
    watch: Watch,
    /// The shape of the data columns.
    pub shape: Shape,
    /// Its version.
    pub schema_version: u32,
    /// The counts.
    pub profile: Profile,
    /// The counts as the present stream began.
    began: Profile,
    /// Complete files since the last checkpoint.
    files: Vec<DataFile>,
    open: Option<OpenFile>,
    count: u32,
}

#[derive(Debug)]
struct OpenFile {
    encoder: Encoder,
    path: String,
    rows: u64,
    cursors: Option<(Cursor, Cursor)>,
    keys: FileKeys,
}

impl Table {
    /// A table that goes on from a checkpoint, or begins.
    pub fn new(
        name: &str,
        target: Arc<Target>,
        cursor: Option<CursorColumn>,
        mut watch: Watch,
        before: Option<TableCheckpoint>,
    ) -> Self {
        let before = before.unwrap_or_default();
        if before.profile.rows > 0 || !before.files.is_empty() {
            // Rows that another process wrote did not go by here.
            watch.sets().for_each(Distinct::forget);
        }
        Self {
            name: name.to_owned(),
            target,
            cursor,
            watch,
            shape: before.shape,
            schema_version: before.schema_version,
            profile: before.profile,
            began: before.began,
            files: Vec::new(),
            open: None,
            count: 0,
        }
    }

    /// Rows and bytes of the open file.
    pub fn open_size(&self) -> (u64, u64) {
        self.open.as_ref().map_or((0, 0), |open| (open.rows, open.encoder.bytes()))
    }

    /// Adds rows whose data columns are of `shape`, the present one.
    ///
    /// # Errors
    /// [`Error::Lake`] when the file cannot be written.
    pub async fn write(&mut self, batch: RecordBatch, shape: &Shape, include: &[String]) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if *shape != self.shape {
            // A file has one schema: the next rows go to another.
            if shape.schema() != self.shape.schema() {
                self.close().await?;
                self.schema_version += 1;
            }
            self.shape = shape.clone();
        }
        self.profile.add(&batch);
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                self.count += 1;
                let path = file_path(&self.target, &self.name, self.count);
                let stored = self.shape.stored(include);
                let staged = Lake::staged(&self.target.run_id, &path);
                let format = self.target.destination.format;
                let encoder = Encoder::open(self.target.objects.clone(), staged, format, stored);
                let keys = FileKeys::new(&self.watch.columns, &self.shape);
                self.watch.sets().filter(|set| any_json(set.columns(), &self.shape)).for_each(Distinct::forget);
                self.open.insert(OpenFile { encoder, path, rows: 0, cursors: None, keys })
            }
        };
        let seen = self.cursor.as_ref().map(|cursor| cursor.read(&batch));
        if let Some(seen) = &seen
            && let Some((low, high)) = self.profile.add_cursors(seen)
        {
            let (min, max) = open.cursors.unwrap_or((low, high));
            open.cursors = Some((min.min(low), max.max(high)));
        }
        open.rows += batch.num_rows() as u64;
        let aligned = align(&batch, open.encoder.schema()).map_err(|error| misfit(&self.name, &error))?;
        open.keys.add(&aligned);
        self.watch.sets().for_each(|set| set.add(&aligned, seen.as_deref()));
        open.encoder.write(aligned).await
    }

    /// Completes the open file.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be completed.
    pub async fn close(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let written = open.encoder.finish().await?;
        self.files.push(DataFile {
            path: open.path,
            rows: written.rows,
            bytes: written.bytes,
            sha256: written.sha256,
            schema_version: self.schema_version,
            min_cursor: open.cursors.map(|(min, _)| min),
            max_cursor: open.cursors.map(|(_, max)| max),
            keys: open.keys.ranges(),
            run_id: self.target.run_id.clone(),
            written_at: self.target.started_at,
        });
        Ok(())
    }

    /// What was watched, once all rows went by.
    pub fn into_watch(self) -> Watch {
        self.watch
    }

    /// Files and counts since the last checkpoint.
    pub fn checkpoint(&mut self) -> TableCheckpoint {
        TableCheckpoint {
            files: std::mem::take(&mut self.files),
            shape: self.shape.clone(),
            schema_version: self.schema_version,
            profile: self.profile.clone(),
            began: self.began.clone(),
        }
    }

    /// The next stream begins.
    pub fn begin_stream(&mut self) {
        self.began = self.profile.clone();
    }

    /// The stream is read again from its start: its rows stay, the counts are those of the next reading. Gives how many
    /// rows that are.
    pub fn read_again(&mut self) -> u64 {
        let rows = self.profile.rows - self.began.rows;
        self.profile = Profile { reread: self.profile.reread + rows, ..self.began.clone() };
        rows
    }
}

fn misfit(table: &str, error: &ArrowError) -> Error {
    Error::Internal(format!("rows of `{table}` cannot be brought into its schema: {error}"))
}

/// Where a table's next file goes: below its folder, in the folder of the day on which the run began.
pub fn file_path(target: &Target, table: &str, count: u32) -> String {
    let day = target.started_at.to_utc().format("%Y-%m-%d");
    let run = target.run_id.trim_start_matches("run_");
    let extension = target.destination.format.extension();
    format!("{table}/dt={day}/{run}-{}-{count:05}.{extension}", target.attempt)
}

/// The shape of a batch's data columns: of a flattened one or a child table, whose columns are not the resource's own.
pub fn shape_of(batch: &RecordBatch, resource: &Shape, include: &[String]) -> Shape {
    let data = batch.schema();
    let columns = data
        .fields()
        .iter()
        .filter(|field| !SYSTEM.contains(&field.name().as_str()) && !include.iter().any(|name| name == field.name()));
    let columns = columns.map(|field| {
        let json = is_json(resource, field.name());
        Column { name: field.name().clone(), kind: if json { Kind::Json } else { kind_of(field.data_type()) } }
    });
    Shape { columns: columns.collect() }
}

/// Whether a flattened column, or a child table's, is JSON text in the resource's shape.
fn is_json(resource: &Shape, name: &str) -> bool {
    let mut columns = &resource.columns;
    for step in name.split("__") {
        let Some(column) = columns.iter().find(|column| column.name == step) else { return false };
        match &column.kind {
            Kind::Json => return true,
            Kind::Struct(inner) => columns = inner,
            _ => return false,
        }
    }
    false
}

/// The kind that has this Arrow type.
pub fn kind_of(data_type: &arrow_schema::DataType) -> Kind {
    use arrow_schema::DataType;
    match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Int64 => Kind::Int,
        DataType::Float64 => Kind::Float,
        DataType::Timestamp(..) => Kind::Timestamp,
        DataType::Date32 => Kind::Date,
        DataType::List(item) => Kind::List(Box::new(kind_of(item.data_type()))),
        DataType::Struct(fields) => Kind::Struct(
            fields.iter().map(|f| Column { name: f.name().clone(), kind: kind_of(f.data_type()) }).collect(),
        ),
        _ => Kind::String,
    }
}

/// Format of quarantined rows, whatever the data's: a person reads them.
pub const QUARANTINE_FORMAT: FileFormat = FileFormat::Jsonl;
