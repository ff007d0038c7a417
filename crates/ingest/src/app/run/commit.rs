//! The end of a run: rows of one key become one, rules are judged, and files and cursors are committed together.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_kernel::{Clock, Timestamp};

use super::checkpoint::{Checkpoint, TableCheckpoint};
use super::resource::{as_text, quarantine_shape};
use super::table::{QUARANTINE_FORMAT, Target, file_path};
use crate::Error;
use crate::lake::{
    Cursor, CursorColumn, DataFile, Lake, Manifest, Present, ResourceCommit, ResourceState, State, VERSION,
};
use crate::quality::{Facts, QualityReport, judge, report};
use crate::shape::Shape;
use crate::spec::{OnFail, Pipeline, QualityRules, Resource, WriteMode, primary_key, write_mode};
use crate::write::{Combined, Combining, Encoder, Rule, StoredFile, combine, rewrite};

/// What decides how a resource's rows meet the old ones.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Everything the API has was read: a backfill without bounds, or a resource without a cursor.
    pub everything: bool,
    /// Rows from here on were read.
    pub from: Option<Cursor>,
    /// The saved cursor may advance.
    pub advances: bool,
}

/// A commit in the making.
pub struct Commit<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The dataset.
    pub lake: &'a Lake,
    /// Where rows are written.
    pub target: Arc<Target>,
    /// The present.
    pub present: &'a Present,
    /// Tells the time.
    pub clock: &'a dyn Clock,
}

/// A table of a resource on its way into the commit.
struct Incoming {
    name: String,
    table: TableCheckpoint,
    key: Vec<String>,
    cursor: Option<CursorColumn>,
    include: Vec<String>,
    /// Of a child table: the parent's new files, and the columns that name a row in them.
    parents: Option<(Vec<DataFile>, Arc<Shape>, Vec<String>)>,
}

impl Commit<'_> {
    /// Combines, judges and commits the finished resources. Nothing counts before the last step, everything after it.
    ///
    /// # Errors
    /// [`Error::Lake`] when the store fails; [`Error::Conflict`] when somebody else committed.
    pub async fn make(
        &self,
        kind: &str,
        finished: BTreeMap<String, (Checkpoint, Reach)>,
    ) -> Result<(Manifest, BTreeMap<String, QualityReport>), Error> {
        let mut state = self.present.state.clone();
        let mut commits = BTreeMap::new();
        let mut count = 0;
        for (name, (checkpoint, reach)) in finished {
            let Some(resource) = self.pipeline.resources.iter().find(|resource| resource.name == name) else {
                continue;
            };
            self.resource(resource, checkpoint, reach, &mut state, &mut commits, &mut count).await?;
        }
        let reports = commits.iter().map(|(name, commit)| (name.clone(), commit.report.clone())).collect();
        let manifest = Manifest {
            version: VERSION,
            number: 0,
            pipeline: self.pipeline.name.clone(),
            run_id: self.target.run_id.clone(),
            kind: kind.to_owned(),
            started_at: self.target.started_at,
            committed_at: self.clock.now(),
            resources: commits,
            state: String::new(),
        };
        let manifest = self.lake.commit(self.present, manifest, &state).await?;
        self.lake.publish(&manifest).await?;
        Ok((manifest, reports))
    }

    async fn resource(
        &self,
        resource: &Resource,
        checkpoint: Checkpoint,
        reach: Reach,
        state: &mut State,
        commits: &mut BTreeMap<String, ResourceCommit>,
        count: &mut u32,
    ) -> Result<(), Error> {
        let before = state.resources.clone();
        let no_rules = QualityRules::default();
        let mut held_back = false;
        let appends = write_mode(self.pipeline, resource) == WriteMode::Append;
        let own = checkpoint.tables.get(&resource.name).cloned().unwrap_or_default();
        let include: Vec<String> = resource.include.keys().cloned().collect();
        // The resource itself comes first by its name; its child tables follow its fate.
        for (name, table) in checkpoint.tables {
            let is_child = name != resource.name;
            let key = primary_key(self.pipeline, resource);
            let incoming = Incoming {
                key: match is_child {
                    false => key.to_vec(),
                    // Items of one parent are told apart by all their columns.
                    true if appends => vec![],
                    true => key.iter().map(|column| format!("_parent_{column}")).collect(),
                },
                cursor: (!is_child).then(|| cursor_column(resource)).flatten(),
                parents: is_child.then(|| (own.files.clone(), Arc::new(own.shape.stored(&include)), key.to_vec())),
                include: if is_child { vec![] } else { include.clone() },
                table,
                name,
            };
            let rules =
                if is_child { &no_rules } else { self.pipeline.quality.get(&resource.name).unwrap_or(&no_rules) };
            let quarantine = if is_child { vec![] } else { checkpoint.quarantine.clone() };
            let (mut commit, after) = self
                .table(resource, incoming, rules, reach, before.get(&resource.name), state, quarantine, count)
                .await?;
            held_back |= commit.1.report.gate_failed();
            if held_back {
                commit.1.held_back = true;
                commit.1.added.clear();
                commit.1.removed.clear();
                commit.1.quarantine.clear();
                commit.1.replaced = false;
            } else {
                state.resources.insert(commit.0.clone(), after);
            }
            commits.insert(commit.0, commit.1);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one step of one caller; a struct would only rename them")]
    async fn table(
        &self,
        resource: &Resource,
        incoming: Incoming,
        rules: &QualityRules,
        reach: Reach,
        parent: Option<&ResourceState>,
        state: &State,
        mut quarantine: Vec<String>,
        count: &mut u32,
    ) -> Result<((String, ResourceCommit), ResourceState), Error> {
        let write = write_mode(self.pipeline, resource);
        let known = state.resources.get(&incoming.name).cloned().unwrap_or_default();
        // A limited run reads a part of the rows, which must not take the place of all of them.
        let part = !reach.advances && !incoming.key.is_empty();
        let replaced = (write == WriteMode::Replace && !part) || reach.everything;
        let old: Vec<DataFile> = if replaced { vec![] } else { self.overlapping(&known, write, reach) };
        let stored = Arc::new(incoming.table.shape.stored(&incoming.include));
        let mut files = Vec::new();
        for file in &old {
            files.push(self.fetch(&file.path, &stored).await?);
        }
        for file in &incoming.table.files {
            files.push(self.fetch(&Lake::staged(&self.target.run_id, &file.path), &stored).await?);
        }
        let mut combined = self.combined(&incoming, write, replaced, &files, old.len()).await?;
        // Rows that came again because they were asked for again are nobody's duplicates.
        let reread = incoming.table.profile.reread;
        combined.duplicates = combined.duplicates.saturating_sub(reread);
        let (repeated, unique) = self.repeated(&incoming, rules, &combined, &files, old.len()).await?;
        let mut table = incoming.table.clone();
        let mut gone = 0;
        let set_aside = rules.on_fail == OnFail::Quarantine && repeated > 0;
        let mut aside = match set_aside {
            true => Some(self.open_quarantine(&incoming.name, count)),
            false => None,
        };
        let mut added = Vec::new();
        let mut removed: Vec<String> =
            if replaced { known.files.iter().map(|file| file.path.clone()).collect() } else { vec![] };
        let mut kept: Vec<DataFile> = if replaced { vec![] } else { known.files.clone() };
        for (at, stored) in files.iter().enumerate() {
            let is_old = at < old.len();
            let file = if is_old { &old[at] } else { &incoming.table.files[at - old.len()] };
            let mut losers = combined.losers[at].clone();
            if set_aside && !is_old {
                losers.extend(&unique.losers[at]);
                losers.sort_unstable();
                losers.dedup();
            }
            if losers.is_empty() {
                if !is_old {
                    added.push(file.clone());
                }
                continue;
            }
            if is_old {
                removed.push(file.path.clone());
                kept.retain(|kept| kept.path != file.path);
            }
            let to_quarantine = aside.as_mut().filter(|_| !is_old);
            let rewritten = self.rewrite(&incoming.name, file, stored, &losers, to_quarantine, count).await?;
            if !is_old {
                gone += losers.len() as u64;
            }
            added.extend(rewritten);
        }
        if let Some(Aside { encoder, path, rows }) = aside {
            encoder.finish().await?;
            table.profile.quarantined += rows;
            quarantine.push(path);
        }
        kept.extend(added.iter().cloned());
        let rows_total = kept.iter().map(|file| file.rows).sum();
        let schema_changes = if known.schema_version > 0 { table.shape.changes_since(&known.schema) } else { vec![] };
        let newest = known.cursor.max(table.profile.cursor_max);
        let now = self.clock.now();
        let facts =
            Facts { profile: &table.profile, rows_total, newest, repeated, schema_changes: &schema_changes, now };
        let checks = judge(rules, &facts);
        let mut report = report(&table.profile, &facts, checks, combined.duplicates, combined.overlap);
        report.rows = table.profile.rows + reread - gone;
        let cursor = self.advanced(
            parent.filter(|_| incoming.parents.is_none()).and_then(|known| known.cursor),
            &table,
            reach,
            replaced,
        );
        let after = ResourceState {
            cursor,
            committed_at: Some(now),
            rows: rows_total,
            limited: if replaced { !reach.advances } else { known.limited },
            schema_version: table.schema_version,
            schema: table.shape,
            files: kept,
        };
        Ok((
            (incoming.name, ResourceCommit { write, replaced, held_back: false, added, removed, quarantine, report }),
            after,
        ))
    }

    /// The saved cursor after the run: never back, never into the future, never over rows that were not read.
    fn advanced(&self, saved: Option<Cursor>, table: &TableCheckpoint, reach: Reach, replaced: bool) -> Option<Cursor> {
        if !reach.advances {
            return saved;
        }
        let leaves_a_gap = matches!((saved, reach.from), (Some(saved), Some(from)) if from > saved);
        if leaves_a_gap && !replaced {
            return saved;
        }
        let limit = Cursor::At(self.target.started_at);
        let seen = table.profile.cursor_max.map(|cursor| match cursor {
            Cursor::At(_) => cursor.min(limit),
            number => number,
        });
        if replaced { seen.or(saved) } else { saved.max(seen) }
    }

    fn overlapping(&self, known: &ResourceState, write: WriteMode, reach: Reach) -> Vec<DataFile> {
        let in_reach = |file: &&DataFile| match (write, reach.from, file.max_cursor) {
            (WriteMode::Append, Some(from), Some(newest)) => newest >= from,
            _ => true,
        };
        known.files.iter().filter(in_reach).cloned().collect()
    }

    async fn fetch(&self, path: &str, shape: &Arc<Shape>) -> Result<StoredFile, Error> {
        StoredFile::fetch(self.lake.objects(), path, self.target.destination.format, Arc::clone(shape)).await
    }

    /// Which rows go because others have their key.
    async fn combined(
        &self,
        incoming: &Incoming,
        write: WriteMode,
        replaced: bool,
        files: &[StoredFile],
        old: usize,
    ) -> Result<Combined, Error> {
        let none = || Combined { losers: vec![Vec::new(); files.len()], ..Combined::default() };
        let nothing_to_combine = incoming.key.is_empty() && (replaced || write != WriteMode::Append || old == 0);
        let mut all = files.to_vec();
        let mut parents = 0;
        if let (Some((parent_files, shape, key)), false) = (&incoming.parents, incoming.key.is_empty()) {
            // A parent that came again has only the items that came with it, even if that is none.
            for file in parent_files {
                let path = Lake::staged(&self.target.run_id, &file.path);
                let parent = StoredFile { key: Some(key.clone()), ..self.fetch(&path, shape).await? };
                all.insert(old + parents, parent);
                parents += 1;
            }
        }
        if nothing_to_combine || all.len() == old {
            return Ok(none());
        }
        let rule = if write == WriteMode::Append { Rule::FirstOfKeyAndCursor } else { Rule::LatestOfKey };
        let groups = incoming.parents.is_some();
        let combining = Combining { key: incoming.key.clone(), cursor: incoming.cursor.clone(), rule, groups };
        let mut combined = blocking(combining, all, old).await?;
        if parents > 0 {
            combined.losers.drain(old..old + parents);
            combined.duplicates = 0;
        }
        Ok(combined)
    }

    /// Rows of the run that repeat the columns of `unique`.
    async fn repeated(
        &self,
        incoming: &Incoming,
        rules: &QualityRules,
        combined: &Combined,
        files: &[StoredFile],
        old: usize,
    ) -> Result<(u64, Combined), Error> {
        let none = Combined { losers: vec![Vec::new(); files.len()], ..Combined::default() };
        if rules.unique.is_empty() {
            return Ok((0, none));
        }
        if rules.unique == incoming.key {
            return Ok((combined.duplicates, none));
        }
        let combining = Combining { key: rules.unique.clone(), cursor: None, rule: Rule::LatestOfKey, groups: false };
        let mut found = blocking(combining, files[old..].to_vec(), 0).await?;
        found.losers.splice(0..0, vec![Vec::new(); old]);
        Ok((found.duplicates.saturating_sub(incoming.table.profile.reread), found))
    }

    fn next_path(&self, table: &str, count: &mut u32) -> String {
        *count += 1;
        // Beyond what the reading of a resource numbers its files.
        file_path(&self.target, table, 50_000 + *count)
    }

    fn open_quarantine(&self, table: &str, count: &mut u32) -> Aside {
        let path = self.next_path(&format!("_quarantine/{table}"), count);
        let path =
            path.rsplit_once('.').map_or(path.clone(), |(stem, _)| format!("{stem}.{}", QUARANTINE_FORMAT.extension()));
        let staged = Lake::staged(&self.target.run_id, &path);
        let encoder = Encoder::open(self.lake.objects().clone(), staged, QUARANTINE_FORMAT, quarantine_shape());
        Aside { encoder, path, rows: 0 }
    }

    async fn rewrite(
        &self,
        table: &str,
        file: &DataFile,
        stored: &StoredFile,
        losers: &[u32],
        aside: Option<&mut Aside>,
        count: &mut u32,
    ) -> Result<Option<DataFile>, Error> {
        let path = self.next_path(table, count);
        let staged = Lake::staged(&self.target.run_id, &path);
        let (sender, mut gone) = tokio::sync::mpsc::channel(2);
        let sender = aside.is_some().then_some(sender);
        let writing = rewrite(self.lake.objects(), stored, losers, staged.clone(), sender);
        let keeping = async {
            let Some(aside) = aside else { return Ok(()) };
            while let Some(batch) = gone.recv().await {
                aside.rows += batch.num_rows() as u64;
                let reasons = vec!["unique".to_owned(); batch.num_rows()];
                let batch = as_text(&batch, reasons).map_err(|error| Error::Internal(error.to_string()))?;
                aside.encoder.write(batch).await?;
            }
            Ok::<(), Error>(())
        };
        let (written, kept) = tokio::join!(writing, keeping);
        kept?;
        let written = written?;
        if written.rows == 0 {
            self.lake.objects().delete(&staged).await?;
            return Ok(None);
        }
        Ok(Some(DataFile { path, rows: written.rows, bytes: written.bytes, sha256: written.sha256, ..file.clone() }))
    }
}

/// A quarantine file being written.
struct Aside {
    encoder: Encoder,
    path: String,
    rows: u64,
}

async fn blocking(combining: Combining, files: Vec<StoredFile>, old: usize) -> Result<Combined, Error> {
    let combined = tokio::task::spawn_blocking(move || combine(&combining, &files, old)).await;
    combined.map_err(|error| Error::Internal(error.to_string()))?.map_err(|detail| Error::Lake { detail })
}

/// The column that a resource's cursor is read from.
pub fn cursor_column(resource: &Resource) -> Option<CursorColumn> {
    let cursor = resource.incremental.cursor()?;
    Some(CursorColumn { path: cursor.cursor.clone(), format: cursor.format })
}

/// A commit without rows: a change of state by hand (`state set` and `state reset`), or a number taken.
///
/// # Errors
/// [`Error::Lake`] when the store fails; [`Error::Conflict`] when a run committed meanwhile.
pub async fn commit_state(
    lake: &Lake,
    present: &Present,
    state: &State,
    what: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let manifest = Manifest {
        version: VERSION,
        number: 0,
        pipeline: state.pipeline.clone(),
        run_id: format!("state-{what}"),
        kind: "state".into(),
        started_at: now,
        committed_at: now,
        resources: BTreeMap::new(),
        state: String::new(),
    };
    lake.commit(present, manifest, state).await.map(|_| ())
}
