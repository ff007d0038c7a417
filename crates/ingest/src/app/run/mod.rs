//! A run: plan from the pipeline, read pages, write files, commit files and cursors together.
//!
//! Until the commit everything a run does lies in its staging folder and its journal. A run that is killed is resumed
//! by the next one from its last checkpoint; a run that ends otherwise leaves nothing behind.

mod checkpoint;
mod commit;
mod pages;
mod pass;
mod resource;
mod shaper;
mod table;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, Ids, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use checkpoint::{Begun, Checkpoint, Position, RunJournal, TableCheckpoint, Unfinished};
pub use commit::commit_state;
use commit::{Commit, Reach, cursor_column};
use pages::Reading;
use pass::PASSES;
use resource::Writing;
use shaper::Shaper;
use table::Target;
use units::{Bounds, incremental_from, parent_values, units};
pub use units::{Unit, request as first_request};

use crate::Error;
use crate::app::progress::{Progress, ResourceProgress};
use crate::lake::{Cursor, Lake, Present};
use crate::quality::{QualityReport, RowRules};
use crate::source::{Cassette, Client, Plan};
use crate::spec::{Loaded, Pipeline, Resource, WriteMode, effective_paginator, parent, primary_key, write_mode};
use crate::write::StoredFile;

/// Resources read side by side.
const AT_ONCE: usize = 4;

/// What a run reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunType {
    /// Everything.
    Backfill,
    /// What is new or changed since the saved cursor.
    Incremental,
}

impl fmt::Display for RunType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Backfill { "backfill" } else { "incremental" })
    }
}

impl FromStr for RunType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "backfill" => Ok(Self::Backfill),
            "incremental" => Ok(Self::Incremental),
            _ => Err(format!("`{text}` is not a run type; use backfill or incremental")),
        }
    }
}

/// What is asked of a run.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// Incremental when not given.
    pub run_type: Option<RunType>,
    /// Rows from this cursor on.
    pub from: Option<String>,
    /// Rows before this cursor.
    pub to: Option<String>,
    /// Only these resources.
    pub resources: Vec<String>,
    /// At most so many rows a resource; the saved cursors stay.
    pub limit: Option<u64>,
    /// Forget an interrupted run instead of resuming it.
    pub fresh: bool,
    /// Record the exchanges, or replay them.
    pub cassette: Option<Cassette>,
}

/// What a run needs from outside.
#[derive(Clone)]
pub struct RunDeps {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Mints ids.
    pub ids: Arc<dyn Ids>,
    /// Stops the run: it saves its progress and ends.
    pub stop: CancellationToken,
    /// Counters to watch it by.
    pub progress: Arc<Progress>,
    /// For alerts.
    pub http: reqwest::Client,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything is committed.
    Succeeded,
    /// Committed, but for resources that a quality rule held back.
    GateFailed,
    /// By a signal or at its budget; the next run goes on.
    Stopped,
    /// At least one resource could not be read.
    Failed,
}

/// How a run ended, and what it found.
#[derive(Debug)]
pub struct RunReport {
    /// The run.
    pub run_id: String,
    /// What it read.
    pub run_type: RunType,
    /// How it ended.
    pub status: RunStatus,
    /// It went on with an interrupted run.
    pub resumed: bool,
    /// The first failure.
    pub error: Option<Error>,
    /// What was found out about each table.
    pub reports: BTreeMap<String, QualityReport>,
    /// Number of the commit; none if nothing was committed.
    pub commit: Option<u64>,
    /// When it began; of a resumed run, when it first began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What is worth a look.
    pub warnings: Vec<String>,
    /// What was loaded into databases.
    pub loads: Vec<crate::load::LoadOutcome>,
}

/// Runs a pipeline to its commit.
///
/// # Errors
/// Only where nothing could begin: bad options, another run at work, a lake that cannot be reached. Everything later is
/// in the report.
pub async fn run(loaded: &Loaded, options: RunOptions, deps: &RunDeps) -> Result<RunReport, Error> {
    let pipeline = Arc::clone(&loaded.pipeline);
    check_options(&pipeline, &options)?;
    let lake = Lake::open(&pipeline)?;
    let minted = format!("run_{}", deps.ids.next().simple());
    let lease = lake.lock(minted.clone()).await?;
    let outcome = Run::begin(loaded, pipeline, lake, options, deps, minted).await;
    let outcome = match outcome {
        Ok(run) => {
            let span =
                tracing::info_span!("ingest.run", run.id = %run.begun.run_id, pipeline.name = %run.pipeline.name);
            run.go().instrument(span).await
        }
        Err(error) => Err(error),
    };
    let released = lease.release().await;
    let report = outcome?;
    if let Err(error) = released {
        tracing::warn!(error = %error, "the lease was not given back; it ends by itself");
    }
    Ok(report)
}

fn check_options(pipeline: &Pipeline, options: &RunOptions) -> Result<(), Error> {
    let wrong = |place: &str, detail: String| Err(Error::Spec { place: place.to_owned(), detail });
    let names: Vec<&str> = pipeline.resources.iter().map(|resource| resource.name.as_str()).collect();
    if let Some(unknown) = options.resources.iter().find(|name| !names.contains(&name.as_str())) {
        return wrong("--resources", format!("there is no resource `{unknown}`; there are {}", names.join(", ")));
    }
    check_range(pipeline, ("--from or RUN_FROM", options.from.as_ref()), ("--to or RUN_TO", options.to.as_ref()))
}

/// That both ends can be compared with the cursors, and are in order; each has the name under which it was given.
pub(crate) fn check_range(
    pipeline: &Pipeline,
    from: (&str, Option<&String>),
    to: (&str, Option<&String>),
) -> Result<(), Error> {
    let wrong = |place: &str, detail: String| Err(Error::Spec { place: place.to_owned(), detail });
    for (name, value) in [from, to] {
        let cursors = pipeline.resources.iter().filter_map(|resource| resource.incremental.cursor());
        for cursor in cursors {
            if let Some(Err(detail)) = value.map(|value| Cursor::parse(value, cursor.format)) {
                return wrong(name, detail);
            }
        }
    }
    if let ((name, Some(begin)), (other, Some(end))) = (from, to)
        && let (Ok(a), Ok(b)) = (begin.parse::<Timestamp>(), end.parse::<Timestamp>())
        && a >= b
    {
        let name = name.split(' ').next().unwrap_or(name);
        return wrong(other, format!("{end} is not after {name} {begin}"));
    }
    Ok(())
}

/// A part of the rows must not take the place of all of them.
fn check_limit(pipeline: &Pipeline, options: &RunOptions, present: &Present) -> Result<(), Error> {
    let Some(limit) = options.limit else { return Ok(()) };
    for resource in &pipeline.resources {
        let wanted = options.resources.is_empty() || options.resources.contains(&resource.name);
        let replaces =
            write_mode(pipeline, resource) == WriteMode::Replace && primary_key(pipeline, resource).is_empty();
        let known = present.state.resources.get(&resource.name).filter(|known| known.rows > 0 && !known.limited);
        if let (Some(known), true, true) = (known, wanted, replaces) {
            return Err(Error::Spec {
                place: "--limit".into(),
                detail: format!(
                    "`{0}` is replaced as a whole, so that {limit} rows would take the place of its {1}; give `{0}` a primary_key, leave it out with --resources, or try it in another destination.dataset",
                    resource.name, known.rows
                ),
            });
        }
    }
    Ok(())
}

/// Forgets a run whose process may only be paused right before its commit. The commit after which its files are deleted
/// takes the number that it would have had, so that it cannot name files that are gone.
async fn give_up(lake: &Lake, present: &mut Present, what: &str, run_id: &str, now: Timestamp) -> Result<(), Error> {
    commit_state(lake, present, &present.state, what, now).await?;
    present.number += 1;
    lake.forget_run(run_id).await
}

struct Run<'a> {
    loaded: &'a Loaded,
    pipeline: Arc<Pipeline>,
    lake: Lake,
    present: Present,
    deps: &'a RunDeps,
    begun: Begun,
    unfinished: Option<Unfinished>,
    journal: Arc<RunJournal>,
    target: Arc<Target>,
    limit: Option<u64>,
    cassette: Option<Cassette>,
    warnings: Vec<String>,
}

impl<'a> Run<'a> {
    async fn begin(
        loaded: &'a Loaded,
        pipeline: Arc<Pipeline>,
        lake: Lake,
        options: RunOptions,
        deps: &'a RunDeps,
        minted: String,
    ) -> Result<Self, Error> {
        let mut present = lake.present().await?;
        check_limit(&pipeline, &options, &present)?;
        lake.recover(&present).await?;
        let mut unfinished = Unfinished::find(&lake, present.number).await?;
        // What was read under a limit is not all there is, and the other way round.
        let other_limit = unfinished.as_ref().is_some_and(|old| old.begun.limit != options.limit);
        if let (true, Some(old)) = (options.fresh || other_limit, &unfinished) {
            let what = format!("given-up-{}", old.begun.run_id);
            give_up(&lake, &mut present, &what, &old.begun.run_id, deps.clock.now()).await?;
            unfinished = None;
        }
        let mut warnings = loaded.warnings.clone();
        let asked = Begun {
            version: 1,
            run_id: minted,
            run_type: options.run_type.unwrap_or(RunType::Incremental),
            from: options.from,
            to: options.to,
            resources: options.resources,
            limit: options.limit,
            started_at: deps.clock.now(),
            base: present.number,
        };
        let begun = match &unfinished {
            // Staged files that no checkpoint names stay until the commit: the process that wrote them may only be paused,
            // and still win the commit with them.
            Some(unfinished) => {
                let old = &unfinished.begun;
                let same = (old.run_type, &old.from, &old.to, &old.resources)
                    == (asked.run_type, &asked.from, &asked.to, &asked.resources);
                if !same {
                    warnings.push(format!(
                        "an interrupted {} run goes first; run again for what was asked now, or drop it with --fresh",
                        old.run_type
                    ));
                }
                old.clone()
            }
            None => asked,
        };
        let journal = match &unfinished {
            Some(unfinished) => RunJournal::resume(&lake, unfinished),
            None => RunJournal::begin(&lake, &begun).await?,
        };
        let target = Arc::new(Target {
            objects: lake.objects().clone(),
            destination: pipeline.destination.clone(),
            run_id: begun.run_id.clone(),
            attempt: deps.ids.next().simple().to_string().chars().rev().take(6).collect(),
            started_at: begun.started_at,
            verdicts: Arc::default(),
        });
        let (limit, cassette, journal) = (options.limit, options.cassette, Arc::new(journal));
        Ok(Self {
            loaded,
            pipeline,
            lake,
            present,
            deps,
            begun,
            unfinished,
            journal,
            target,
            limit,
            cassette,
            warnings,
        })
    }

    async fn go(mut self) -> Result<RunReport, Error> {
        let resumed = self.unfinished.is_some();
        let outcome = self.read_all().await?;
        let (stopped, mut failure): (Vec<Error>, Vec<Error>) =
            outcome.into_iter().partition(|error| matches!(error, Error::Stopped(_)));
        // Files that vanish below a run say no more than that.
        let lake_failed = failure.iter().any(|error| matches!(error, Error::Lake { .. }));
        if lake_failed && self.journal.is_gone().await {
            failure = vec![Error::Conflict("another process finished this run; this one stops".into())];
        }
        let keep = failure.iter().any(Error::can_be_resumed) || !stopped.is_empty();
        let mut status = match (failure.is_empty(), stopped.is_empty()) {
            (false, _) => RunStatus::Failed,
            (true, false) => RunStatus::Stopped,
            (true, true) => RunStatus::Succeeded,
        };
        let (mut reports, mut number) = (BTreeMap::new(), None);
        if !keep {
            let finished = self.finished().await?;
            let nothing = finished.is_empty() && status == RunStatus::Failed;
            if nothing && resumed {
                // Another process may be paused with all of this run in its hands.
                let what = format!("given-up-{}", self.begun.run_id);
                let now = self.deps.clock.now();
                give_up(&self.lake, &mut self.present, &what, &self.begun.run_id, now).await?;
            }
            let commit = Commit {
                pipeline: &self.pipeline,
                lake: &self.lake,
                target: Arc::clone(&self.target),
                present: &self.present,
                clock: self.deps.clock.as_ref(),
            };
            let made = match nothing {
                true => self.lake.forget_run(&self.begun.run_id).await.map(|()| None),
                false => commit.make(&self.begun.run_type.to_string(), finished).await.map(Some),
            };
            match made {
                Ok(None) => {}
                Ok(Some((manifest, found))) => {
                    number = Some(manifest.number);
                    reports = found;
                    if status == RunStatus::Succeeded && reports.values().any(QualityReport::gate_failed) {
                        status = RunStatus::GateFailed;
                    }
                }
                Err(error) => {
                    status = RunStatus::Failed;
                    failure.push(error);
                }
            }
        }
        self.warnings.extend(
            reports.iter().flat_map(|(table, report)| report.notes.iter().map(move |note| format!("{table}: {note}"))),
        );
        Ok(RunReport {
            run_id: self.begun.run_id.clone(),
            run_type: self.begun.run_type,
            status,
            resumed,
            error: failure.into_iter().chain(stopped).next(),
            reports,
            commit: number,
            started_at: self.begun.started_at,
            finished_at: self.deps.clock.now(),
            warnings: self.warnings,
            loads: vec![],
        })
    }

    /// Reads all resources, parents before children, several at a time; gives the failures.
    async fn read_all(&mut self) -> Result<Vec<Error>, Error> {
        let stop = self.deps.stop.child_token();
        let cassette = self.cassette.take();
        let client = Arc::new(Client::new(self.loaded, cassette, Arc::clone(&self.deps.clock), stop.clone())?);
        let wanted: Vec<usize> = (0..self.pipeline.resources.len()).filter(|at| self.is_wanted(*at)).collect();
        let progress: BTreeMap<usize, Arc<ResourceProgress>> =
            wanted.iter().map(|at| (*at, self.deps.progress.add(&self.pipeline.resources[*at].name))).collect();
        let mut waiting: Vec<usize> = wanted.clone();
        let (mut done, mut failed): (BTreeSet<String>, BTreeSet<String>) = Default::default();
        let mut failures = Vec::new();
        let mut running: JoinSet<(usize, Result<(), Error>)> = JoinSet::new();
        loop {
            let mut at = 0;
            while at < waiting.len() && running.len() < AT_ONCE && !stop.is_cancelled() {
                let resource = &self.pipeline.resources[waiting[at]];
                let above =
                    parent(resource).filter(|name| wanted.iter().any(|at| self.pipeline.resources[*at].name == *name));
                if above.as_ref().is_some_and(|name| failed.contains(name)) {
                    failed.insert(resource.name.clone());
                    waiting.remove(at);
                    continue;
                }
                if above.is_some_and(|name| !done.contains(&name)) {
                    at += 1;
                    continue;
                }
                let index = waiting.remove(at);
                match self.prepare(index, Arc::clone(&client), Arc::clone(&progress[&index])).await {
                    Ok(Some((reading, writing, before))) => {
                        let span = tracing::info_span!("ingest.resource", resource.name = %self.pipeline.resources[index].name);
                        running.spawn(
                            async move { (index, resource::run(reading, writing, before).await) }.instrument(span),
                        );
                    }
                    Ok(None) => {
                        done.insert(self.pipeline.resources[index].name.clone());
                        at = 0;
                    }
                    Err(error) => {
                        failed.insert(self.pipeline.resources[index].name.clone());
                        failures.push(error);
                    }
                }
            }
            let Some(joined) = running.join_next().await else {
                if stop.is_cancelled() && !waiting.is_empty() && failures.is_empty() {
                    failures.push(Error::Stopped("by a signal or a request".into()));
                }
                return Ok(failures);
            };
            let (index, outcome) =
                joined.map_err(|error| Error::Internal(format!("a resource's task failed: {error}")))?;
            let name = self.pipeline.resources[index].name.clone();
            match outcome {
                Ok(()) => {
                    done.insert(name);
                }
                Err(error) => {
                    failed.insert(name);
                    // A resource that can be resumed stops the others, so that all are resumed together.
                    if matches!(
                        error,
                        Error::Unreachable { .. } | Error::Stopped(_) | Error::Lake { .. } | Error::Conflict(_)
                    ) {
                        stop.cancel();
                    }
                    let only_stopped = matches!(error, Error::Stopped(_)) && !failures.is_empty();
                    if !only_stopped {
                        failures.push(error);
                    }
                }
            }
        }
    }

    fn is_wanted(&self, at: usize) -> bool {
        self.begun.resources.is_empty() || self.begun.resources.contains(&self.pipeline.resources[at].name)
    }

    /// What decides about a resource's pages: with another one they must be read anew.
    fn fingerprint(&self, resource: &Resource) -> String {
        let mut hash = Sha256::new();
        let parts = [
            serde_json::to_string(resource),
            serde_json::to_string(&self.pipeline.defaults),
            serde_json::to_string(&(
                &self.pipeline.source.base_url,
                &self.pipeline.source.params,
                self.target.destination.format,
            )),
        ];
        for part in parts {
            hash.update(part.unwrap_or_default());
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a resource's reading needs; none if it is read already.
    async fn prepare(
        &self,
        index: usize,
        client: Arc<Client>,
        progress: Arc<ResourceProgress>,
    ) -> Result<Option<(Arc<Reading>, Writing, Option<Checkpoint>)>, Error> {
        let resource = &self.pipeline.resources[index];
        let fingerprint = self.fingerprint(resource);
        let saved = self.unfinished.as_ref().and_then(|unfinished| unfinished.resources.get(&resource.name));
        let before = saved.filter(|saved| saved.fingerprint == fingerprint).cloned();
        if let Some(before) = before.as_ref().filter(|before| before.finished) {
            let rows = before.tables.get(&resource.name).map_or(0, |table| table.profile.rows);
            progress.rows.store(rows, std::sync::atomic::Ordering::Relaxed);
            progress.done.store(true, std::sync::atomic::Ordering::Relaxed);
            return Ok(None);
        }
        let parents = match parent(resource) {
            Some(name) => Some(self.parent_values(resource, &name).await?),
            None => None,
        };
        let bounds = self.bounds(resource)?;
        let defaults = &self.pipeline.defaults;
        let paginator = effective_paginator(&self.pipeline, resource).clone();
        let records = resource.records.as_deref().or(defaults.records.as_deref());
        let total = resource.total.as_deref().or(defaults.total.as_deref());
        let paths = Arc::new(Plan::paths(&paginator, records, total));
        let known = self.known_tables(resource);
        let known_shape = before.as_ref().map(|before| &before.tables).unwrap_or(&known).get(&resource.name);
        let known_shape = known_shape.filter(|table| table.schema_version > 0).map(|table| table.shape.clone());
        let shaper = Shaper::new(&self.pipeline, resource, None);
        // Flattened columns and child tables do not say what their rows were like: their shape is found anew.
        let shaper = match known_shape.filter(|_| !shaper.flattens() && !shaper.child_tables()) {
            Some(shape) => Shaper::new(&self.pipeline, resource, Some(shape)),
            None => shaper,
        };
        let rules = self.pipeline.quality.get(&resource.name);
        let reading = Reading {
            client,
            pipeline: Arc::clone(&self.pipeline),
            index,
            paginator,
            paths,
            shaper: Arc::new(shaper),
            run_id: self.begun.run_id.clone(),
            progress,
            units: units(resource, parents, &self.begun.run_id, bounds)?,
            passes: if self.may_repeat(resource) { PASSES } else { 1 },
        };
        let writing = Writing {
            target: Arc::clone(&self.target),
            journal: Arc::clone(&self.journal),
            rules: rules.map(RowRules::new).unwrap_or_default(),
            on_fail: rules.map(|rules| rules.on_fail).unwrap_or_default(),
            key: primary_key(&self.pipeline, resource).to_vec(),
            unique: rules.map(|rules| rules.unique.clone()).unwrap_or_default(),
            appends: write_mode(&self.pipeline, resource) == WriteMode::Append,
            cursor: cursor_column(resource),
            from: bounds.from,
            until: bounds.until,
            limit: self.limit,
            fingerprint: fingerprint.clone(),
        };
        let start = Checkpoint {
            resource: resource.name.clone(),
            fingerprint,
            position: Position::START,
            tables: known,
            quarantine: vec![],
            finished: false,
        };
        Ok(Some((Arc::new(reading), writing, Some(before.unwrap_or(start)))))
    }

    /// Whether a list may be read again: its rows are told apart by a key, and the API's total may be believed.
    fn may_repeat(&self, resource: &Resource) -> bool {
        let believed = self.pipeline.quality.get(&resource.name).is_none_or(|rules| rules.reconcile != Some(false));
        believed && self.limit.is_none() && !primary_key(&self.pipeline, resource).is_empty()
    }

    /// The tables of a resource as the last commit left their schemas, without rows.
    fn known_tables(&self, resource: &Resource) -> BTreeMap<String, TableCheckpoint> {
        let children = format!("{}__", resource.name);
        let known = self
            .present
            .state
            .resources
            .iter()
            .filter(|(name, _)| **name == resource.name || name.starts_with(&children));
        known
            .map(|(name, state)| {
                let (shape, schema_version) = (state.schema.clone(), state.schema_version);
                (name.clone(), TableCheckpoint { shape, schema_version, ..TableCheckpoint::default() })
            })
            .collect()
    }

    fn bounds(&self, resource: &Resource) -> Result<Bounds, Error> {
        let started_at = self.begun.started_at;
        let Some(cursor) = resource.incremental.cursor() else { return Ok(Bounds { started_at, ..Bounds::default() }) };
        let parse = |value: &Option<String>, flag: &str| match value {
            Some(value) => Cursor::parse(value, cursor.format)
                .map(Some)
                .map_err(|detail| Error::Spec { place: flag.to_owned(), detail }),
            None => Ok(None),
        };
        let (asked_from, until) = (parse(&self.begun.from, "--from")?, parse(&self.begun.to, "--to")?);
        let saved = self.present.state.resources.get(&resource.name).and_then(|state| state.cursor);
        let backfill = self.begun.run_type == RunType::Backfill;
        let from = if backfill {
            asked_from.or_else(|| incremental_from(cursor, None))
        } else {
            // Rows between the saved cursor and a later start would be missing for ever.
            match (incremental_from(cursor, saved), asked_from) {
                (Some(saved), Some(asked)) => Some(saved.min(asked)),
                (saved, asked) => saved.or(asked),
            }
        };
        Ok(Bounds { from, until, started_at, windows: backfill || saved.is_none() })
    }

    async fn parent_values(&self, resource: &Resource, name: &str) -> Result<Vec<BTreeMap<String, String>>, Error> {
        let in_this_run =
            self.pipeline.resources.iter().position(|r| r.name == name).is_some_and(|at| self.is_wanted(at));
        let include: Vec<String> = self
            .pipeline
            .resources
            .iter()
            .find(|resource| resource.name == name)
            .map(|resource| resource.include.keys().cloned().collect())
            .unwrap_or_default();
        let mut files = Vec::new();
        let format = self.target.destination.format;
        if in_this_run {
            let run = self.progress_so_far().await?;
            if let Some(table) = run.get(name).and_then(|checkpoint| checkpoint.tables.get(name)) {
                let shape = Arc::new(table.shape.stored(&include));
                for file in &table.files {
                    let path = Lake::staged(&self.begun.run_id, &file.path);
                    files.push(StoredFile::fetch(self.lake.objects(), &path, format, Arc::clone(&shape)).await?);
                }
            }
        } else if let Some(state) = self.present.state.resources.get(name) {
            let shape = Arc::new(state.schema.stored(&include));
            for file in &state.files {
                files.push(StoredFile::fetch(self.lake.objects(), &file.path, format, Arc::clone(&shape)).await?);
            }
        } else {
            let detail =
                format!("its parent `{name}` was never read; run it too: --resources {name},{}", resource.name);
            return Err(Error::Spec { place: format!("resource `{}`", resource.name), detail });
        }
        let (resource, name) = (resource.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || parent_values(&resource, &name, &files))
            .await
            .map_err(|error| Error::Internal(error.to_string()))?
    }

    async fn progress_so_far(&self) -> Result<BTreeMap<String, Checkpoint>, Error> {
        Ok(Unfinished::read(&self.lake, &self.begun.run_id).await?.map(|run| run.resources).unwrap_or_default())
    }

    /// The resources that are read to their end, and how far they reach.
    async fn finished(&self) -> Result<BTreeMap<String, (Checkpoint, Reach)>, Error> {
        let mut finished = BTreeMap::new();
        for (name, checkpoint) in self.progress_so_far().await? {
            let Some(resource) = self.pipeline.resources.iter().find(|resource| resource.name == name) else {
                continue;
            };
            if !checkpoint.finished || checkpoint.fingerprint != self.fingerprint(resource) {
                continue;
            }
            let unbounded = self.begun.from.is_none() && self.begun.to.is_none() && self.limit.is_none();
            let everything = unbounded && self.begun.run_type == RunType::Backfill;
            let from = self.bounds(resource)?.from;
            finished.insert(name, (checkpoint, Reach { everything, from, advances: self.limit.is_none() }));
        }
        Ok(finished)
    }
}
