//! The progress of a run that has not committed yet: how it began, and where each resource stands. A journal beside
//! the data; whoever resumes the run reads it from its start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;
use tessera_store::journal::Journal;
use tokio::sync::Mutex;

use super::pass::Pass;
use crate::Error;
use crate::lake::{DataFile, Lake, to_json};
use crate::quality::Profile;
use crate::shape::Shape;
use crate::source::Place;

/// How a run began. Its first journal entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Version of the journal.
    pub version: u32,
    /// The run.
    pub run_id: String,
    /// backfill or incremental.
    pub run_type: super::RunType,
    /// Start of a bounded backfill.
    pub from: Option<String>,
    /// End of a bounded backfill.
    pub to: Option<String>,
    /// Only these resources.
    pub resources: Vec<String>,
    /// At most so many rows a resource.
    #[serde(default)]
    pub limit: Option<u64>,
    /// When it began.
    pub started_at: Timestamp,
    /// The commit it builds on.
    pub base: u64,
}

/// Where a resource's stream stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the unit: the parent row, partition or window.
    pub unit: usize,
    /// The next page in it.
    pub place: Place,
    /// What the reading of the unit has seen so far.
    #[serde(default)]
    pub pass: Pass,
}

impl Position {
    /// The beginning.
    pub const START: Self = Self { unit: 0, place: Place::Start, pass: Pass::FIRST };
}

/// A resource's progress. Files are those since the entry before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The resource.
    pub resource: String,
    /// What of the pipeline decides about its pages; another one starts the resource anew.
    pub fingerprint: String,
    /// What is read next.
    pub position: Position,
    /// Its tables: itself, and its child tables.
    pub tables: BTreeMap<String, TableCheckpoint>,
    /// Files of rows set aside.
    pub quarantine: Vec<String>,
    /// Everything is read.
    pub finished: bool,
}

/// One table's part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableCheckpoint {
    /// Complete files.
    pub files: Vec<DataFile>,
    /// The shape by now.
    pub shape: Shape,
    /// Its version.
    pub schema_version: u32,
    /// The counts.
    pub profile: Profile,
    /// The counts as the present stream began, for when it is read again.
    #[serde(default)]
    pub began: Profile,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Begun(Begun),
    Checkpoint(Checkpoint),
}

/// The journal of one run.
#[derive(Debug)]
pub struct RunJournal {
    journal: Journal,
    next: Mutex<u64>,
}

/// A run that was interrupted.
#[derive(Debug)]
pub struct Unfinished {
    /// How it began.
    pub begun: Begun,
    /// Where each resource stands, all entries of it added up.
    pub resources: BTreeMap<String, Checkpoint>,
    next: u64,
}

impl RunJournal {
    fn of(lake: &Lake, run_id: &str) -> Journal {
        Journal::new(lake.objects().clone(), format!("_tessera/progress/{run_id}"))
    }

    /// Begins the journal of a new run.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be written.
    pub async fn begin(lake: &Lake, begun: &Begun) -> Result<Self, Error> {
        let this = Self { journal: Self::of(lake, &begun.run_id), next: Mutex::new(1) };
        this.append(&Entry::Begun(begun.clone())).await?;
        Ok(this)
    }

    /// Goes on with the journal of an interrupted run.
    pub fn resume(lake: &Lake, unfinished: &Unfinished) -> Self {
        Self { journal: Self::of(lake, &unfinished.begun.run_id), next: Mutex::new(unfinished.next) }
    }

    /// Saves where a resource stands. Its files are durable by now.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another process goes on with this run; [`Error::Lake`] when it cannot be written.
    pub async fn save(&self, checkpoint: Checkpoint) -> Result<(), Error> {
        self.append(&Entry::Checkpoint(checkpoint)).await
    }

    /// Whether the run was committed or given up by another process, which deletes its journal.
    pub async fn is_gone(&self) -> bool {
        matches!(self.journal.read(1).await, Ok(None))
    }

    async fn append(&self, entry: &Entry) -> Result<(), Error> {
        let mut next = self.next.lock().await;
        if !self.journal.append(*next, to_json(entry)?).await? {
            return Err(Error::Conflict("another process goes on with this run; this one stops".into()));
        }
        *next += 1;
        Ok(())
    }
}

impl Unfinished {
    /// The run that was interrupted, if there is one that builds on the present commit. Those that build on an older one
    /// are forgotten: they cannot commit any more. A second one on the present commit is left alone until then.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read.
    pub async fn find(lake: &Lake, base: u64) -> Result<Option<Self>, Error> {
        let listed = lake.objects().list("_tessera/progress").await?;
        let mut runs: Vec<String> =
            listed.iter().filter_map(|listed| Some(listed.path.split('/').nth(2)?.to_owned())).collect();
        // One that was killed in its very first write left a part of a file, which is not listed.
        let folders = lake.objects().local_path("_tessera/progress").and_then(|local| std::fs::read_dir(local).ok());
        runs.extend(folders.into_iter().flatten().filter_map(|folder| folder.ok()?.file_name().into_string().ok()));
        runs.sort_unstable();
        runs.dedup();
        let mut found = None;
        for run in runs {
            match Self::read(lake, &run).await? {
                Some(unfinished) if unfinished.begun.base == base => found = found.or(Some(unfinished)),
                _ => lake.forget_run(&run).await?,
            }
        }
        Ok(found)
    }

    pub async fn read(lake: &Lake, run_id: &str) -> Result<Option<Self>, Error> {
        let journal = RunJournal::of(lake, run_id);
        let mut unfinished: Option<Self> = None;
        for number in journal.numbers(None).await? {
            let Some(entry) = lake.read_json::<Entry>(&journal.path(number)).await? else { continue };
            match (entry, &mut unfinished) {
                (Entry::Begun(begun), None) => {
                    unfinished = Some(Self { begun, resources: BTreeMap::new(), next: 0 });
                }
                (Entry::Checkpoint(checkpoint), Some(unfinished)) => unfinished.add(checkpoint),
                _ => return Ok(None),
            }
            if let Some(unfinished) = &mut unfinished {
                unfinished.next = number + 1;
            }
        }
        Ok(unfinished)
    }

    fn add(&mut self, mut checkpoint: Checkpoint) {
        let Some(before) = self.resources.get_mut(&checkpoint.resource) else {
            self.resources.insert(checkpoint.resource.clone(), checkpoint);
            return;
        };
        if before.fingerprint != checkpoint.fingerprint {
            *before = checkpoint;
            return;
        }
        for (name, table) in &mut before.tables {
            let files = std::mem::take(&mut table.files);
            let after = checkpoint.tables.entry(name.clone()).or_insert_with(|| TableCheckpoint { ..table.clone() });
            after.files.splice(0..0, files);
        }
        let mut quarantine = std::mem::take(&mut before.quarantine);
        quarantine.append(&mut checkpoint.quarantine);
        *before = Checkpoint { quarantine, ..checkpoint };
    }
}
