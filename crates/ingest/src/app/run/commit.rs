//! The end of a run: rows of one key become one, rules are judged, and files and cursors are committed together.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use tessera_kernel::{Clock, Timestamp};

use super::checkpoint::{Checkpoint, TableCheckpoint};
use super::resource::{as_text, child_key, quarantine_shape};
use super::table::{QUARANTINE_FORMAT, Target, file_path};
use crate::Error;
use crate::lake::{
    Cursor, CursorColumn, DataFile, Lake, Manifest, Present, ResourceCommit, ResourceState, State, VERSION,
};
use crate::quality::{Facts, QualityReport, judge, report};
use crate::shape::Shape;
use crate::spec::{OnFail, Pipeline, QualityRules, Resource, WriteMode, primary_key, write_mode};
use crate::write::{Combined, Combining, Encoder, IncomingKeys, Rule, StoredFile, combine, rewrite};

/// Files fetched at once.
const FETCHES: usize = 4;

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
    parents: Option<Parents>,
}

/// Of a child table: its parent's new rows.
struct Parents {
    table: String,
    files: Vec<DataFile>,
    shape: Arc<Shape>,
    /// The columns that name a row in them.
    key: Vec<String>,
}

/// A file of the lake, not yet on the local disk.
struct Held {
    path: String,
    bytes: u64,
    shape: Arc<Shape>,
    /// See [`StoredFile::key`].
    key: Option<Vec<String>>,
}

impl Held {
    fn committed(file: &DataFile, shape: &Arc<Shape>) -> Self {
        Self { path: file.path.clone(), bytes: file.bytes, shape: Arc::clone(shape), key: None }
    }

    fn staged(run_id: &str, file: &DataFile, shape: &Arc<Shape>) -> Self {
        Self { path: Lake::staged(run_id, &file.path), ..Self::committed(file, shape) }
    }
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
                key: if is_child { child_key(key, appends) } else { key.to_vec() },
                cursor: (!is_child).then(|| cursor_column(resource)).flatten(),
                parents: is_child.then(|| Parents {
                    table: resource.name.clone(),
                    files: own.files.clone(),
                    shape: Arc::new(own.shape.stored(&include)),
                    key: key.to_vec(),
                }),
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
        let stored = Arc::new(incoming.table.shape.stored(&incoming.include));
        let run_id = &self.target.run_id;
        let new: Vec<Held> = incoming.table.files.iter().map(|file| Held::staged(run_id, file, &stored)).collect();
        let old: Vec<DataFile> = match replaced {
            true => vec![],
            false => self.touched(&incoming, &new, self.overlapping(&known, write, reach)).await?,
        };
        let files: Vec<Held> = old.iter().map(|file| Held::committed(file, &stored)).chain(new).collect();
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
        for (at, held) in files.iter().enumerate() {
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
            let rewritten = self.rewrite(&incoming.name, file, held, &losers, to_quarantine, count).await?;
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

    /// A file on the local disk, whole or as far as some columns go.
    async fn fetch(&self, held: &Held, columns: Option<&[String]>) -> Result<StoredFile, Error> {
        let (objects, format, shape) = (self.lake.objects(), self.target.destination.format, Arc::clone(&held.shape));
        let fetched = match columns {
            Some(columns) => StoredFile::fetch_columns(objects, &held.path, held.bytes, format, shape, columns).await?,
            None => StoredFile::fetch(objects, &held.path, format, shape).await?,
        };
        Ok(StoredFile { key: held.key.clone(), ..fetched })
    }

    /// All files, as far as they are combined.
    async fn fetch_all(&self, combining: &Combining, files: &[Held]) -> Result<Vec<StoredFile>, Error> {
        let mut fetched = Vec::with_capacity(files.len());
        for several in files.chunks(FETCHES) {
            let several = several.iter().map(|held| async {
                let columns = combining.columns(held.key.as_ref().unwrap_or(&combining.key));
                self.fetch(held, columns.as_deref()).await
            });
            fetched.extend(try_join_all(several).await?);
        }
        Ok(fetched)
    }

    /// The parent's new files, to be combined with a child table's.
    fn parents(&self, incoming: &Incoming) -> Vec<Held> {
        let Some(parents) = incoming.parents.as_ref().filter(|_| !incoming.key.is_empty()) else { return vec![] };
        let held =
            |file| Held { key: Some(parents.key.clone()), ..Held::staged(&self.target.run_id, file, &parents.shape) };
        parents.files.iter().map(held).collect()
    }

    /// The old files that can hold a key of the new rows.
    async fn touched(&self, incoming: &Incoming, new: &[Held], old: Vec<DataFile>) -> Result<Vec<DataFile>, Error> {
        let key = &incoming.key;
        let mut files: Vec<(&DataFile, &[String])> =
            incoming.table.files.iter().map(|file| (file, key.as_slice())).collect();
        let parents = self.parents(incoming);
        if let Some(Parents { files: above, key, .. }) = incoming.parents.as_ref().filter(|_| !parents.is_empty()) {
            files.extend(above.iter().map(|file| (file, key.as_slice())));
        }
        let mut keys = IncomingKeys::of(&files);
        let near: Vec<DataFile> = old.into_iter().filter(|file| keys.may_be_in(file, key)).collect();
        let rows = files.iter().map(|(file, _)| file.rows).sum();
        if near.iter().all(|file| file.keys.is_empty()) || !keys.may_be_narrowed(rows) {
            return Ok(near);
        }
        let combining = Combining { key: key.clone(), cursor: None, rule: Rule::LatestOfKey, groups: false };
        let mut stored = self.fetch_all(&combining, new).await?;
        stored.extend(self.fetch_all(&combining, &parents).await?);
        let key = key.clone();
        let narrowed = tokio::task::spawn_blocking(move || {
            keys.narrow(&stored, &key)?;
            Ok(near.into_iter().filter(|file| keys.may_be_in(file, &key)).collect())
        });
        let narrowed = narrowed.await.map_err(|error| Error::Internal(error.to_string()))?;
        narrowed.map_err(|detail| Error::Lake { detail })
    }

    /// Which rows go because others have their key.
    async fn combined(
        &self,
        incoming: &Incoming,
        write: WriteMode,
        replaced: bool,
        files: &[Held],
        old: usize,
    ) -> Result<Combined, Error> {
        let none = || Combined { losers: vec![Vec::new(); files.len()], ..Combined::default() };
        // A parent that came again has only the items that came with it, even if that is none.
        let above = self.parents(incoming);
        let parents = above.len();
        let nothing_to_combine = incoming.key.is_empty() && (replaced || write != WriteMode::Append || old == 0);
        // Items lie together by parent, so parents that came once leave nothing to do among new files.
        let named = incoming.parents.as_ref().map_or(&incoming.name, |parents| &parents.table);
        let all_came_once = old == 0 && self.target.verdicts.of(named).key;
        if nothing_to_combine || all_came_once || files.len() + parents == old {
            return Ok(none());
        }
        let rule = if write == WriteMode::Append { Rule::FirstOfKeyAndCursor } else { Rule::LatestOfKey };
        let groups = incoming.parents.is_some();
        let combining = Combining { key: incoming.key.clone(), cursor: incoming.cursor.clone(), rule, groups };
        let mut all = self.fetch_all(&combining, &files[..old]).await?;
        all.extend(self.fetch_all(&combining, &above).await?);
        all.extend(self.fetch_all(&combining, &files[old..]).await?);
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
        files: &[Held],
        old: usize,
    ) -> Result<(u64, Combined), Error> {
        let none = Combined { losers: vec![Vec::new(); files.len()], ..Combined::default() };
        if rules.unique.is_empty() || self.target.verdicts.of(&incoming.name).unique {
            return Ok((0, none));
        }
        if rules.unique == incoming.key {
            return Ok((combined.duplicates, none));
        }
        let combining = Combining { key: rules.unique.clone(), cursor: None, rule: Rule::LatestOfKey, groups: false };
        let new = self.fetch_all(&combining, &files[old..]).await?;
        let mut found = blocking(combining, new, 0).await?;
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
        held: &Held,
        losers: &[u32],
        aside: Option<&mut Aside>,
        count: &mut u32,
    ) -> Result<Option<DataFile>, Error> {
        let path = self.next_path(table, count);
        let staged = Lake::staged(&self.target.run_id, &path);
        let stored = self.fetch(held, None).await?;
        let (sender, mut gone) = tokio::sync::mpsc::channel(2);
        let sender = aside.is_some().then_some(sender);
        let writing = rewrite(self.lake.objects(), &stored, losers, staged.clone(), sender);
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
