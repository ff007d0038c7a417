//! What the cases play on: a lake with real files, committed as a run does, and a database to load into.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use sqlx::{AssertSqlSafe, Connection};
use tessera_kernel::Timestamp;
use tessera_testkit::ScratchDir;
use tessera_testkit::postgres::Postgres;

use crate::Error;
use crate::lake::{CursorColumn, DataFile, Lake, Manifest, ResourceCommit, VERSION, align};
use crate::load::{LoadOutcome, load};
use crate::quality::QualityReport;
use crate::shape::{Column, Decoder, Kind, Meta, SYSTEM, Shape, child_rows, infer};
use crate::spec::{self, Environment, Lists, Load, Pipeline, SchemaPolicy, Secrets, WriteMode};
use crate::write::{Combining, Encoder, Rule, StoredFile, combine, rewrite};

/// One server for all cases; it stops when the process does.
static SERVER: LazyLock<Postgres> = LazyLock::new(tessera_testkit::postgres::start);

/// A database to load into.
pub(super) struct Place {
    pub url: String,
    _folder: ScratchDir,
}

impl Place {
    pub(super) fn sqlite() -> Self {
        let folder = ScratchDir::new();
        Self { url: format!("sqlite:{}", folder.file("new/shop.db").display()), _folder: folder }
    }

    pub(super) fn postgres() -> Self {
        Self { url: SERVER.new_database(), _folder: ScratchDir::new() }
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    pub(super) fn target(&self) -> Load {
        Load { url: self.url.clone(), schema: Some("raw".into()), write: None, resources: vec![] }
    }

    /// A table as a statement names it.
    pub(super) fn table(&self, name: &str) -> String {
        let name = name.replace('"', "\"\"");
        if self.is_postgres() { format!("raw.\"{name}\"") } else { format!("\"raw_{name}\"") }
    }

    /// The rows of a query for one text. `@name` stands for a table; ∅ for null.
    pub(super) async fn ask(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(self.with_tables(query));
        let rows: Vec<Option<String>> = if self.is_postgres() {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
        } else {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
        };
        rows.into_iter().map(|row| row.unwrap_or_else(|| "∅".into())).collect()
    }

    pub(super) async fn count(&self, table: &str) -> u64 {
        self.ask(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {}", self.table(table))).await[0].parse().unwrap()
    }

    pub(super) async fn run(&self, statements: &str) {
        let statements = AssertSqlSafe(self.with_tables(statements));
        if self.is_postgres() {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        } else {
            let url = format!("{}?mode=rwc", self.url);
            std::fs::create_dir_all(std::path::Path::new(&self.url["sqlite:".len()..]).parent().unwrap()).unwrap();
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        }
    }

    fn with_tables(&self, query: &str) -> String {
        let mut words = query.split('@');
        let mut text = words.next().unwrap().to_owned();
        for word in words {
            let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            match &word[..end] {
                "loads" if self.is_postgres() => text.push_str("raw._tessera_loads"),
                "loads" => text.push_str("_tessera_loads"),
                name => text.push_str(&self.table(name)),
            }
            text.push_str(&word[end..]);
        }
        text
    }
}

/// A dataset that grows commit by commit.
pub(super) struct World {
    pub pipeline: Pipeline,
    pub lake: Lake,
    pub secrets: Secrets,
    pub folder: ScratchDir,
    files: u32,
}

/// What one run brings to one resource.
pub(super) struct Part<'a> {
    pub resource: &'a str,
    pub rows: String,
    pub replaced: bool,
    pub held_back: bool,
}

/// Rows that come to those before.
pub(super) fn more<'a>(resource: &'a str, rows: &str) -> Part<'a> {
    Part { resource, rows: rows.into(), replaced: false, held_back: false }
}

/// Rows that take the place of all before.
pub(super) fn instead<'a>(resource: &'a str, rows: &str) -> Part<'a> {
    Part { replaced: true, ..more(resource, rows) }
}

pub(super) const ORDERS: &str =
    "- { name: orders, path: /orders, primary_key: [id], incremental: { cursor: at, param: since, format: number } }";

impl World {
    /// A pipeline with these resources.
    pub(super) fn of(resources: &str) -> Self {
        Self::with_format(resources, "parquet")
    }

    pub(super) fn with_format(resources: &str, format: &str) -> Self {
        let folder = ScratchDir::new();
        let destination = format!("{{ url: \"{}\", format: {format} }}", folder.file("lake").display());
        Self::in_folder(resources, &destination, folder)
    }

    /// A pipeline with this destination.
    pub(super) fn at(resources: &str, destination: &str) -> Self {
        Self::in_folder(resources, destination, ScratchDir::new())
    }

    fn in_folder(resources: &str, destination: &str, folder: ScratchDir) -> Self {
        let text = format!(
            "version: 1\nname: shop\nsource: {{ base_url: http://127.0.0.1 }}\nresources:\n  {}\ndestination: {destination}\n",
            resources.replace('\n', "\n  "),
        );
        let loaded = spec::load(&text, "test", &Environment::default()).unwrap();
        let pipeline = loaded.pipeline.as_ref().clone();
        Self { lake: Lake::open(&pipeline).unwrap(), pipeline, secrets: loaded.secrets, folder, files: 0 }
    }

    pub(super) async fn load(&self, target: &Load) -> Result<Vec<LoadOutcome>, Error> {
        load(target, &self.pipeline, &self.lake, &self.secrets).await
    }

    /// One run: files, manifest, state.
    pub(super) async fn commit(&mut self, parts: Vec<Part<'_>>) {
        let present = self.lake.present().await.unwrap();
        let (number, mut state) = (present.number + 1, present.state.clone());
        let run_id = format!("run_{number:04}");
        let at = Timestamp::from_micros(1_700_000_000_000_000 + number as i64 * 60_000_000);
        let mut commits = BTreeMap::new();
        for part in parts {
            let resource = self.pipeline.resources.iter().find(|known| known.name == part.resource).unwrap().clone();
            let write = spec::write_mode(&self.pipeline, &resource);
            let children = resource.lists.unwrap_or_default() == Lists::ChildTable;
            let key = spec::primary_key(&self.pipeline, &resource).to_vec();
            let include: Vec<String> = resource.include.keys().cloned().collect();
            let cursor = resource.incremental.cursor();
            let cursor = cursor.map(|c| CursorColumn { path: c.cursor.clone(), format: c.format });
            let meta = Meta {
                extracted_at: at.micros(),
                run_id: run_id.clone(),
                source: "http://127.0.0.1".into(),
                include: include.iter().map(|name| format!("of {name}")).collect(),
            };
            let known = state.resources.get(part.resource).cloned().unwrap_or_default();
            let found = infer(part.rows.as_bytes()).unwrap().shape;
            let found = found.with(Default::default(), Default::default(), &resource.columns, &[]);
            // The shape of a parent is without the lists that went to tables of their own: it is found anew.
            let shape = if children || part.replaced { found } else { known.schema.clone().widen(found) };
            let decoder =
                Decoder::new(Arc::new(shape.clone()), SchemaPolicy::Evolve, Arc::new([]), include.clone().into());
            let batch = match part.rows.as_str() {
                "[]" => None,
                rows => Some(decoder.decode(rows.as_bytes(), &meta).unwrap().batch),
            };
            let mut tables = vec![(part.resource.to_owned(), shape, batch, key.clone(), cursor)];
            if let Some(batch) = tables[0].2.clone().filter(|_| children) {
                let (parent, items) = child_rows(&batch, &key).unwrap();
                let lists: Vec<String> = items.iter().map(|(list, _)| list.clone()).collect();
                tables[0].1.columns.retain(|column| !lists.contains(&column.name));
                tables[0].2 = Some(parent);
                for (list, items) in items {
                    let key = key.iter().map(|name| format!("_parent_{name}")).collect();
                    tables.push((format!("{}__{list}", part.resource), shape_of(&items), Some(items), key, None));
                }
            }
            for (name, shape, batch, key, cursor) in tables {
                let mut known = state.resources.get(&name).cloned().unwrap_or_default();
                let include = if name == part.resource { include.clone() } else { vec![] };
                let is_child = name != part.resource;
                let schema = if part.replaced { shape } else { known.schema.clone().widen(shape) };
                let stored = Arc::new(schema.stored(&include));
                let mut added = Vec::new();
                if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
                    let path = self.path(&name, &run_id);
                    added.push(self.write(&path, &stored, &batch, &run_id, at).await);
                }
                let mut removed = vec![];
                let rule = match write {
                    _ if part.held_back => None,
                    WriteMode::Merge => Some(Rule::LatestOfKey),
                    WriteMode::Append => Some(Rule::FirstOfKeyAndCursor),
                    WriteMode::Replace => None,
                };
                if part.replaced {
                    removed = known.files.drain(..).map(|file| file.path).collect();
                } else if let (Some(rule), false) = (rule, added.is_empty()) {
                    let combining = Combining { key, cursor, rule, groups: is_child };
                    self.combine(&combining, &stored, &run_id, &name, &mut known.files, &mut added, &mut removed).await;
                }
                let commit = ResourceCommit {
                    write,
                    replaced: part.replaced,
                    held_back: part.held_back,
                    added: if part.held_back { vec![] } else { added.clone() },
                    removed,
                    quarantine: vec![],
                    report: QualityReport::default(),
                };
                commits.insert(name.clone(), commit);
                if part.held_back {
                    continue;
                }
                known.files.extend(added);
                known.rows = known.files.iter().map(|file| file.rows).sum();
                known.schema = schema;
                known.schema_version += 1;
                state.resources.insert(name, known);
            }
        }
        let manifest = Manifest {
            version: VERSION,
            number: 0,
            pipeline: "shop".into(),
            run_id,
            kind: "incremental".into(),
            started_at: at,
            committed_at: at,
            resources: commits,
            state: String::new(),
        };
        let manifest = self.lake.commit(&present, manifest, &state).await.unwrap();
        self.lake.publish(&manifest).await.unwrap();
    }

    fn path(&mut self, name: &str, run_id: &str) -> String {
        self.files += 1;
        let extension = self.pipeline.destination.format.extension();
        format!("{name}/dt=2023-11-14/{run_id}-{}.{extension}", self.files)
    }

    /// Takes out the rows that have others in their place, as a run does.
    #[expect(clippy::too_many_arguments, reason = "one step of one caller")]
    async fn combine(
        &mut self,
        combining: &Combining,
        stored: &Arc<Shape>,
        run_id: &str,
        name: &str,
        known: &mut Vec<DataFile>,
        added: &mut Vec<DataFile>,
        removed: &mut Vec<String>,
    ) {
        let objects = self.lake.objects().clone();
        let format = self.pipeline.destination.format;
        let old = known.len();
        let all: Vec<DataFile> = known.iter().chain(added.iter()).cloned().collect();
        let mut files = Vec::new();
        for (at, file) in all.iter().enumerate() {
            let path = if at < old { file.path.clone() } else { Lake::staged(run_id, &file.path) };
            files.push(StoredFile::fetch(&objects, &path, format, Arc::clone(stored)).await.unwrap());
        }
        let combined = combine(combining, &files, old).unwrap();
        for (at, losers) in combined.losers.iter().enumerate().filter(|(_, losers)| !losers.is_empty()) {
            let path = self.path(name, run_id);
            let written = rewrite(&objects, &files[at], losers, Lake::staged(run_id, &path), None).await.unwrap();
            if at < old {
                removed.push(all[at].path.clone());
            }
            known.retain(|file| file.path != all[at].path);
            added.retain(|file| file.path != all[at].path);
            if written.rows > 0 {
                added.push(DataFile { path, rows: written.rows, bytes: written.bytes, ..all[at].clone() });
            }
        }
    }

    async fn write(&self, path: &str, stored: &Shape, batch: &RecordBatch, run_id: &str, at: Timestamp) -> DataFile {
        let staged = Lake::staged(run_id, path);
        let format = self.pipeline.destination.format;
        let mut encoder = Encoder::open(self.lake.objects().clone(), staged, format, stored.clone());
        encoder.write(align(batch, encoder.schema()).unwrap()).await.unwrap();
        let written = encoder.finish().await.unwrap();
        DataFile {
            path: path.into(),
            rows: written.rows,
            bytes: written.bytes,
            sha256: written.sha256,
            schema_version: 1,
            min_cursor: None,
            max_cursor: None,
            keys: vec![],
            run_id: run_id.into(),
            written_at: at,
        }
    }
}

/// The shape of a child table's own columns; the cases nest no further.
fn shape_of(batch: &RecordBatch) -> Shape {
    let schema = batch.schema();
    let fields = schema.fields().iter().filter(|field| !SYSTEM.contains(&field.name().as_str()));
    let columns = fields.map(|field| {
        let kind = match field.data_type() {
            DataType::Int64 => Kind::Int,
            DataType::Float64 => Kind::Float,
            DataType::Boolean => Kind::Bool,
            _ => Kind::String,
        };
        Column { name: field.name().clone(), kind }
    });
    Shape { columns: columns.collect() }
}

/// The outcome for a table.
pub(super) fn of<'a>(outcomes: &'a [LoadOutcome], resource: &str) -> &'a LoadOutcome {
    outcomes.iter().find(|outcome| outcome.resource == resource).unwrap()
}
