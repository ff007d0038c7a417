//! What the lakes of the pipelines hold, as the pages ask for it: read at most every few seconds, and manifests, which
//! never change, once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use tessera_kernel::Timestamp;
use tokio::time::{Instant, timeout};

use crate::Error;
use crate::lake::{DataFile, Lake, Manifest, Present, State};
use crate::quality::{History, HistoryEntry};
use crate::spec::Pipeline;

/// How old a look may be.
const FRESH: Duration = Duration::from_secs(2);
/// How long a page waits for a lake.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a lake that did not answer is left out of lists.
const SILENCE: Duration = Duration::from_secs(30);
/// Commits looked back on; older ones are in the lake only.
pub const COMMITS: u64 = 500;
/// Manifests read at once.
const READS: usize = 8;

/// A look at a dataset.
#[derive(Clone, Debug)]
pub struct Look {
    /// The present.
    pub state: State,
    /// The last [`COMMITS`] commits, oldest first.
    pub commits: Arc<BTreeMap<u64, Arc<Manifest>>>,
}

impl Look {
    /// When a run's files were committed.
    fn committed_at(&self, file: &DataFile) -> Timestamp {
        let commit = self.commits.values().rev().find(|commit| commit.run_id == file.run_id);
        commit.map_or(file.written_at, |commit| commit.committed_at)
    }

    /// The files that count, newest commit first, then by resource and path.
    pub fn files(&self) -> Vec<(String, DataFile, Timestamp)> {
        let mut known: HashMap<&str, Timestamp> = HashMap::new();
        let mut files = Vec::new();
        for (resource, state) in &self.state.resources {
            for file in &state.files {
                let at = *known.entry(file.run_id.as_str()).or_insert_with(|| self.committed_at(file));
                files.push((resource.clone(), file.clone(), at));
            }
        }
        files.sort_by(|(_, a, at), (_, b, bt)| bt.cmp(at).then_with(|| a.path.cmp(&b.path)));
        files
    }

    /// What the last `most` commits found out about each table, oldest first.
    pub fn histories(&self, most: usize) -> Vec<History> {
        let skipped = self.commits.len().saturating_sub(most);
        let mut histories: BTreeMap<&str, Vec<HistoryEntry>> = BTreeMap::new();
        for commit in self.commits.values().skip(skipped) {
            for (name, resource) in &commit.resources {
                let (run_id, at) = (commit.run_id.clone(), commit.committed_at);
                histories.entry(name).or_default().push(HistoryEntry { run_id, at, report: resource.report.clone() });
            }
        }
        histories.into_iter().map(|(name, history)| History { name: name.to_owned(), history }).collect()
    }
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    number: u64,
    look: Arc<Look>,
    /// Of another destination than before.
    url: String,
}

/// The looks of all pipelines.
#[derive(Debug, Default)]
pub(super) struct Lakes {
    seen: Mutex<HashMap<String, Seen>>,
    /// When a lake did not answer.
    silent: Mutex<HashMap<String, Instant>>,
}

impl Lakes {
    /// The look at a pipeline's dataset, at most [`FRESH`] old.
    pub(super) async fn look(&self, pipeline: &Pipeline) -> Result<Arc<Look>, Error> {
        let url = format!("{} {:?}", pipeline.destination.url, pipeline.destination.dataset);
        let known = self.known(&pipeline.name, &url);
        if let Some((_, look, true)) = known {
            return Ok(look);
        }
        let late = |_| Error::Lake {
            detail: format!("no answer from {} within {} s", pipeline.destination.url, DEADLINE.as_secs()),
        };
        let known = known.map(|(number, look, _)| (number, look));
        let (number, look) = timeout(DEADLINE, read(pipeline, known)).await.map_err(late)??;
        let seen = Seen { at: Instant::now(), number, look: look.clone(), url };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(pipeline.name.clone(), seen);
        Ok(look)
    }

    /// The same for lists, which show the rest where a lake cannot be read; such a one is left alone for a while.
    pub(super) async fn try_look(&self, pipeline: &Pipeline) -> Option<Arc<Look>> {
        let silent = |lakes: &Self| {
            let silent = lakes.silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.get(&pipeline.name).is_some_and(|at| at.elapsed() < SILENCE)
        };
        if silent(self) {
            return None;
        }
        match self.look(pipeline).await {
            Ok(look) => Some(look),
            Err(error) => {
                tracing::debug!(pipeline.name = pipeline.name, %error, "the lake cannot be read");
                let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
                silent.insert(pipeline.name.clone(), Instant::now());
                None
            }
        }
    }

    fn known(&self, name: &str, url: &str) -> Option<(u64, Arc<Look>, bool)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get(name).filter(|seen| seen.url == url)?;
        Some((seen.number, seen.look.clone(), seen.at.elapsed() < FRESH))
    }

    /// The next look reads anew.
    pub(super) fn forget(&self, name: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

async fn read(pipeline: &Pipeline, known: Option<(u64, Arc<Look>)>) -> Result<(u64, Arc<Look>), Error> {
    let lake = Lake::open(pipeline)?;
    let Present { number, state } = lake.present().await?;
    if let Some((_, look)) = known.as_ref().filter(|(before, look)| *before == number && look.state == state) {
        return Ok((number, look.clone()));
    }
    let before = known.filter(|(before, _)| *before <= number).map(|(_, look)| look);
    let mut commits: BTreeMap<u64, Arc<Manifest>> = BTreeMap::new();
    let first = number.saturating_sub(COMMITS - 1).max(1);
    let known_commits = before.map(|look| look.commits.clone()).unwrap_or_default();
    let wanted: Vec<u64> = (first..=number).filter(|wanted| !known_commits.contains_key(wanted)).collect();
    commits.extend(known_commits.range(first..).map(|(number, commit)| (*number, commit.clone())));
    let lake = &lake;
    let mut reading =
        stream::iter(wanted).map(|number| async move { (number, lake.manifest(number).await) }).buffered(READS);
    while let Some((number, manifest)) = reading.next().await {
        match manifest {
            Ok(manifest) => drop(commits.insert(number, Arc::new(manifest))),
            // History that someone removed is no reason not to show the rest.
            Err(error) => tracing::debug!(commit.number = number, %error, "a commit cannot be read"),
        }
    }
    drop(reading);
    Ok((number, Arc::new(Look { state, commits: Arc::new(commits) })))
}
