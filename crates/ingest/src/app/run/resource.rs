//! One resource: its pages in order, into its tables, with checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::filter::filter_record_batch;
use tokio::time::Instant;

use super::checkpoint::{Checkpoint, Position, RunJournal};
use super::pages::{PageItem, Reading, read};
use super::shaper::Content;
use super::table::{QUARANTINE_FORMAT, Table, Target, Watch, file_path, kind_of, shape_of};
use crate::Error;
use crate::lake::{Cursor, CursorColumn, Lake};
use crate::quality::RowRules;
use crate::shape::{Column, Decoded, EXTRACTED_AT, Kind, Shape, child_rows, flatten};
use crate::source::Place;
use crate::spec::{CursorFormat, OnFail};
use crate::write::{Distinct, Encoder, json};

/// The shape is settled after so many rows, pages or bytes.
const SAMPLE_ROWS: usize = 1_000;
const SAMPLE_PAGES: usize = 200;
const SAMPLE_BYTES: usize = 8 << 20;

/// What a resource's rows are written with.
pub struct Writing {
    /// Where rows go.
    pub target: Arc<Target>,
    /// Where progress is saved; none for a run that saves none.
    pub journal: Arc<RunJournal>,
    /// Row rules.
    pub rules: RowRules,
    /// What a broken rule does.
    pub on_fail: OnFail,
    /// Key columns.
    pub key: Vec<String>,
    /// Columns of the rule `unique`.
    pub unique: Vec<String>,
    /// Rows are added to the old ones.
    pub appends: bool,
    /// The cursor.
    pub cursor: Option<CursorColumn>,
    /// Rows outside of these cursors are left out.
    pub from: Option<Cursor>,
    /// See `from`.
    pub until: Option<Cursor>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// What decides about the pages.
    pub fingerprint: String,
}

impl Writing {
    /// What is watched of the resource's own rows.
    fn watch(&self) -> Watch {
        // Appended rows of one key stay where their cursors differ.
        let cursor = self.cursor.clone().filter(|_| self.appends);
        let key = (!self.key.is_empty()).then(|| Distinct::new(self.key.clone(), cursor));
        let other = !self.unique.is_empty() && self.unique != self.key;
        let unique = other.then(|| Distinct::new(self.unique.clone(), None));
        Watch { columns: self.key.clone(), key, unique }
    }

    /// What is watched of a child table's rows.
    fn child_watch(&self) -> Watch {
        Watch { columns: child_key(&self.key, self.appends), ..Watch::default() }
    }
}

/// The columns of a child table that name its parent's row. Appended items are told apart by all their columns.
pub(super) fn child_key(key: &[String], appends: bool) -> Vec<String> {
    if appends { vec![] } else { key.iter().map(|column| format!("_parent_{column}")).collect() }
}

/// A resource under way.
struct Resource {
    reading: Arc<Reading>,
    writing: Writing,
    tables: BTreeMap<String, Table>,
    quarantine: Option<(Encoder, String)>,
    quarantined: Vec<String>,
    quarantine_count: u32,
    position: Position,
    saved_at: Instant,
    parked: Vec<PageItem>,
    total: Option<u64>,
}

/// Reads a resource to its end from where a checkpoint left it. Everything it wrote is in the journal when it returns.
///
/// # Errors
/// What the API, the lake or a signal did; what was read before is saved.
pub async fn run(reading: Arc<Reading>, writing: Writing, before: Option<Checkpoint>) -> Result<(), Error> {
    let position = before.as_ref().map_or(Position::START, |before| before.position.clone());
    let progress = Arc::clone(&reading.progress);
    progress.began.store(true, Ordering::Relaxed);
    let name = reading.resource().name.clone();
    let mut tables = BTreeMap::new();
    for (table, checkpoint) in before.into_iter().flat_map(|before| before.tables) {
        let bytes: u64 = checkpoint.files.iter().map(|file| file.bytes).sum();
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        progress.files.fetch_add(checkpoint.files.len() as u64, Ordering::Relaxed);
        if table == name {
            progress.rows.store(checkpoint.profile.rows, Ordering::Relaxed);
            progress.expect(checkpoint.profile.expected_rows());
        }
        let (cursor, watch) = match table == name {
            true => (writing.cursor.clone(), writing.watch()),
            false => (None, writing.child_watch()),
        };
        tables.insert(table.clone(), Table::new(&table, Arc::clone(&writing.target), cursor, watch, Some(checkpoint)));
    }
    let main = Table::new(&name, Arc::clone(&writing.target), writing.cursor.clone(), writing.watch(), None);
    tables.entry(name).or_insert(main);
    let mut resource = Resource {
        reading,
        writing,
        tables,
        quarantine: None,
        quarantined: Vec::new(),
        quarantine_count: 0,
        position,
        saved_at: Instant::now(),
        parked: Vec::new(),
        total: None,
    };
    let outcome = resource.read_all().await;
    let finished = outcome.is_ok();
    // Whatever ended it, what is complete is kept.
    let saved = match &outcome {
        Err(Error::Lake { .. } | Error::Conflict(_) | Error::Internal(_)) => Ok(()),
        _ => resource.save(finished).await,
    };
    if finished && saved.is_ok() {
        resource.give_verdicts().await?;
    }
    progress.done.store(finished && saved.is_ok(), Ordering::Relaxed);
    progress.failed.store(!matches!(outcome, Ok(()) | Err(Error::Stopped(_))) || saved.is_err(), Ordering::Relaxed);
    outcome.and(saved)
}

impl Resource {
    /// Leaves for the commit what was found out about keys.
    async fn give_verdicts(&mut self) -> Result<(), Error> {
        let verdicts = Arc::clone(&self.writing.target.verdicts);
        let tables = std::mem::take(&mut self.tables);
        tokio::task::spawn_blocking(move || {
            for (name, table) in tables {
                verdicts.set(&name, table.into_watch().verdict());
            }
        })
        .await
        .map_err(|error| Error::Internal(error.to_string()))
    }

    async fn read_all(&mut self) -> Result<(), Error> {
        let mut pages = read(Arc::clone(&self.reading), self.position.clone());
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    self.settle().await?;
                    return Err(error);
                }
            };
            let parked = self.reading.shaper.shape().is_none();
            if parked {
                self.parked.push(page);
                if self.sample_is_enough() {
                    self.settle().await?;
                }
            } else {
                self.take(page).await?;
            }
            if self.is_full() {
                break;
            }
        }
        self.settle().await
    }

    fn is_full(&self) -> bool {
        self.writing.limit.is_some_and(|limit| self.main().profile.rows >= limit)
    }

    fn main(&self) -> &Table {
        &self.tables[&self.reading.resource().name]
    }

    fn sample_is_enough(&self) -> bool {
        let sizes = self.parked.iter().filter_map(|page| match &page.content {
            Content::Raw(answer, inference) => Some((inference.rows, answer.page.records.len())),
            Content::Rows(_) => None,
        });
        let (rows, bytes) = sizes.fold((0, 0), |(rows, bytes), (r, b)| (rows + r, bytes + b));
        rows >= SAMPLE_ROWS || bytes >= SAMPLE_BYTES || self.parked.len() >= SAMPLE_PAGES
    }

    /// Settles on a shape from the pages that waited for one, and takes them.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.parked.is_empty() {
            return Ok(());
        }
        let mut shape = Shape::default();
        for page in &self.parked {
            if let Content::Raw(_, inference) = &page.content {
                shape = shape.merge(inference.shape.clone());
            }
        }
        self.reading.shaper.establish(shape);
        for page in std::mem::take(&mut self.parked) {
            self.take(page).await?;
        }
        Ok(())
    }

    /// Takes a page: its rows into the tables, its place into the position.
    async fn take(&mut self, page: PageItem) -> Result<(), Error> {
        let (position, again, shrank) = (page.position_after(), page.starts_again(), page.pass.shrank());
        self.total = page.total.or(self.total);
        let decoded = match page.content {
            Content::Rows(decoded) => decoded,
            Content::Raw(answer, _) => {
                let (shaper, meta) = (Arc::clone(&self.reading.shaper), page.meta);
                let decoded = tokio::task::spawn_blocking(move || shaper.decode(&answer, &meta)).await;
                let decoded = decoded.map_err(|error| Error::Internal(error.to_string()))?;
                decoded.map_err(|detail| self.unreadable(&detail))?
            }
        };
        self.write(decoded).await?;
        self.reading.progress.expect(self.expected());
        if again {
            self.read_again();
        }
        if page.next == Place::End {
            let total = self.total.take();
            let profile = &mut self.main_mut().profile;
            profile.end_stream(total);
            profile.shrank += u64::from(shrank);
            self.reading.progress.expect(self.expected());
            if self.reading.passes > 1 {
                self.tables.values_mut().for_each(Table::begin_stream);
            }
        }
        self.position = position;
        let destination = &self.writing.target.destination;
        let (rows, bytes) = self
            .tables
            .values()
            .map(Table::open_size)
            .fold((0, 0), |(r, b), (rows, bytes)| (r.max(rows), b.max(bytes)));
        let full = rows >= destination.chunk.rows || bytes >= destination.chunk.bytes.0;
        if full || self.saved_at.elapsed() >= destination.checkpoint.0 {
            self.save(false).await?;
        }
        Ok(())
    }

    /// The API's own total as far as it is known: of the streams before, and of this one.
    fn expected(&self) -> Option<u64> {
        let profile = &self.main().profile;
        let known = profile.expected.is_some() || self.total.is_some();
        (known && !profile.expected_unknown).then(|| profile.expected.unwrap_or(0) + self.total.unwrap_or(0))
    }

    /// The stream's list moved: what was read of it stays, and is counted no more.
    fn read_again(&mut self) {
        self.total = None;
        let name = &self.reading.resource().name;
        for (table, written) in self.tables.iter_mut().map(|(name, table)| (name, table.read_again())) {
            if table == name {
                self.reading.progress.rows.fetch_sub(written, Ordering::Relaxed);
            }
        }
    }

    fn main_mut(&mut self) -> &mut Table {
        let name = self.reading.resource().name.clone();
        let writing = &self.writing;
        self.tables.entry(name.clone()).or_insert_with(|| {
            Table::new(&name, Arc::clone(&writing.target), writing.cursor.clone(), writing.watch(), None)
        })
    }

    fn unreadable(&self, detail: &str) -> Error {
        let resource = self.reading.resource();
        Error::BadResponse { resource: resource.name.clone(), url: resource.path.clone(), detail: detail.to_owned() }
    }

    async fn write(&mut self, decoded: Decoded) -> Result<(), Error> {
        let internal = |error: arrow_schema::ArrowError| Error::Internal(error.to_string());
        let Decoded { mut batch, rescued, dropped, .. } = decoded;
        {
            let main = self.main_mut();
            main.profile.rows_read += batch.num_rows() as u64;
            main.profile.rescued += rescued;
            main.profile.dropped += dropped;
        }
        batch = self.within_bounds(batch)?;
        if let Some(limit) = self.writing.limit {
            let left = limit.saturating_sub(self.main().profile.rows) as usize;
            batch = batch.slice(0, batch.num_rows().min(left));
        }
        batch = self.apply_rules(batch).await?;
        self.reading.progress.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.reading.progress.written.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let shape = self.reading.shaper.shape().ok_or_else(|| Error::Internal("no shape".into()))?;
        let include = self.reading.shaper.include().to_vec();
        let flattens = self.reading.shaper.flattens();
        if flattens {
            batch = flatten(&batch).map_err(internal)?;
        }
        if !self.reading.shaper.child_tables() {
            let shape = if flattens {
                widened(&self.main().shape, shape_of(&batch, &shape, &include))
            } else {
                shape.as_ref().clone()
            };
            return self.main_mut().write(batch, &shape, &include).await;
        }
        let (parent, children) = child_rows(&batch, &self.writing.key).map_err(internal)?;
        let own = widened(&self.main().shape, shape_of(&parent, &shape, &include));
        self.main_mut().write(parent, &own, &include).await?;
        let name = self.reading.resource().name.clone();
        for (list, rows) in children {
            let child = format!("{name}__{list}");
            let inner = match shape.column(&list).map(|column| &column.kind) {
                Some(Kind::List(item)) => match item.as_ref() {
                    Kind::Struct(columns) => Shape { columns: columns.clone() },
                    kind => Shape { columns: vec![Column { name: "value".into(), kind: kind.clone() }] },
                },
                _ => Shape::default(),
            };
            let writing = &self.writing;
            let table = self
                .tables
                .entry(child.clone())
                .or_insert_with(|| Table::new(&child, Arc::clone(&writing.target), None, writing.child_watch(), None));
            let shape = widened(&table.shape, shape_of(&rows, &inner, &[]));
            table.profile.rows_read += rows.num_rows() as u64;
            table.write(rows, &shape, &[]).await?;
        }
        Ok(())
    }

    /// Leaves out rows that were not asked for, where the API gives them all the same.
    fn within_bounds(&mut self, batch: RecordBatch) -> Result<RecordBatch, Error> {
        let (Some(column), true) = (&self.writing.cursor, batch.num_rows() > 0) else { return Ok(batch) };
        // A minute for the difference between the API's clock and ours.
        let fetched =
            CursorColumn { path: EXTRACTED_AT.into(), format: CursorFormat::Rfc3339 }.read(&batch.slice(0, 1));
        let now = match fetched.first() {
            Some(Some(Cursor::At(at))) => Cursor::At(at.plus(Duration::from_secs(60))),
            _ => Cursor::At(self.writing.target.started_at),
        };
        let (from, until) = (self.writing.from, self.writing.until);
        let cursors = column.read(&batch);
        let older = |cursor: &Option<Cursor>| matches!((cursor, from), (Some(cursor), Some(from)) if *cursor < from);
        let later =
            |cursor: &Option<Cursor>| matches!((cursor, until), (Some(cursor), Some(until)) if *cursor >= until);
        let future =
            cursors.iter().flatten().filter(|cursor| matches!(cursor, Cursor::At(_)) && **cursor > now).count();
        let too_old = cursors.iter().filter(|cursor| older(cursor)).count();
        let profile = &mut self.main_mut().profile;
        profile.older_than_asked += too_old as u64;
        profile.in_the_future += future as u64;
        if too_old == 0 && !cursors.iter().any(&later) {
            return Ok(batch);
        }
        let keep: BooleanArray = cursors.iter().map(|cursor| Some(!older(cursor) && !later(cursor))).collect();
        filter_record_batch(&batch, &keep).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Counts rows that break rules; with `quarantine` they are set aside.
    async fn apply_rules(&mut self, batch: RecordBatch) -> Result<RecordBatch, Error> {
        let broken = self.writing.rules.check(&batch);
        if broken.is_empty() {
            return Ok(batch);
        }
        let mut reasons: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for rule in &broken {
            *self.main_mut().profile.broken.entry(rule.label.clone()).or_insert(0) += rule.rows.len() as u64;
            if self.writing.on_fail == OnFail::Quarantine {
                rule.rows.iter().for_each(|row| reasons.entry(*row).or_default().push(&rule.label));
            }
        }
        if reasons.is_empty() {
            return Ok(batch);
        }
        let internal = |error: arrow_schema::ArrowError| Error::Internal(error.to_string());
        let bad: BooleanArray = (0..batch.num_rows()).map(|row| Some(reasons.contains_key(&row))).collect();
        let good: BooleanArray = bad.iter().map(|bad| bad.map(|bad| !bad)).collect();
        let aside = filter_record_batch(&batch, &bad).map_err(internal)?;
        self.main_mut().profile.quarantined += aside.num_rows() as u64;
        let reasons: Vec<String> = reasons.values().map(|labels| labels.join("; ")).collect();
        let aside = as_text(&aside, reasons).map_err(internal)?;
        if self.quarantine.is_none() {
            self.quarantine_count += 1;
            let name = format!("_quarantine/{}", self.reading.resource().name);
            let path = file_path(&self.writing.target, &name, self.quarantine_count);
            let path = path
                .rsplit_once('.')
                .map_or(path.clone(), |(stem, _)| format!("{stem}.{}", QUARANTINE_FORMAT.extension()));
            let target = &self.writing.target;
            let staged = Lake::staged(&target.run_id, &path);
            let encoder = Encoder::open(target.objects.clone(), staged, QUARANTINE_FORMAT, quarantine_shape());
            self.quarantine = Some((encoder, path));
        }
        if let Some((encoder, _)) = &mut self.quarantine {
            encoder.write(aside).await?;
        }
        filter_record_batch(&batch, &good).map_err(internal)
    }

    /// Completes all files and saves where the resource stands.
    async fn save(&mut self, finished: bool) -> Result<(), Error> {
        for table in self.tables.values_mut() {
            table.close().await?;
        }
        if let Some((encoder, path)) = self.quarantine.take() {
            encoder.finish().await?;
            self.quarantined.push(path);
        }
        let tables: BTreeMap<_, _> =
            self.tables.iter_mut().map(|(name, table)| (name.clone(), table.checkpoint())).collect();
        let progress = &self.reading.progress;
        for table in tables.values() {
            progress.files.fetch_add(table.files.len() as u64, Ordering::Relaxed);
            progress.bytes.fetch_add(table.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        }
        let checkpoint = Checkpoint {
            resource: self.reading.resource().name.clone(),
            fingerprint: self.writing.fingerprint.clone(),
            position: self.position.clone(),
            tables,
            quarantine: std::mem::take(&mut self.quarantined),
            finished,
        };
        self.writing.journal.save(checkpoint).await?;
        self.saved_at = Instant::now();
        Ok(())
    }
}

fn widened(before: &Shape, now: Shape) -> Shape {
    before.clone().widen(now)
}

pub(super) fn quarantine_shape() -> Shape {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    Shape { columns: vec![column("_reason", Kind::String), column("row", Kind::Json)] }
}

/// Bad rows as `{_reason, row}`, whatever their schema.
pub(super) fn as_text(batch: &RecordBatch, reasons: Vec<String>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let rows: Vec<String> = (0..batch.num_rows())
        .map(|row| {
            let fields =
                batch.schema_ref().fields().iter().zip(batch.columns()).filter(|(_, column)| column.is_valid(row));
            let object: serde_json::Map<String, serde_json::Value> =
                fields.map(|(field, column)| (field.name().clone(), value(column, row))).collect();
            serde_json::Value::Object(object).to_string()
        })
        .collect();
    let fields = vec![Field::new("_reason", DataType::Utf8, true), Field::new("row", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(reasons)), Arc::new(StringArray::from(rows))];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn value(column: &ArrayRef, row: usize) -> serde_json::Value {
    let mut text = String::new();
    json(&mut text, &kind_of(column.data_type()), column.as_ref(), row);
    serde_json::from_str(&text).unwrap_or(text.into())
}
