//! The lake: where files lie, which of them count, and how a run commits.
//!
//! `<url>/<dataset>/<resource>/dt=…/…` holds the rows, `<dataset>/_tessera/` everything else:
//!
//! | path | what |
//! |---|---|
//! | `log/<n>.json` | manifests; the highest number is the present |
//! | `state/<n>-<run>-<digest>.json` | the dataset after a commit, named by its manifest |
//! | `progress/<run>/<n>.json` | checkpoints of a run under way |
//! | `staging/<run>/…` | its files, until the commit |
//! | `lock/<n>.json` | the lease that keeps two runs apart |
//! | `alerts/<n>.json` | which alerts are open, and what is to be sent; the highest number counts |
//!
//! Invariants: a manifest is created, never changed; a file named by a state is never written again; files are durable
//! before a manifest names them. After a commit its files move from staging to their place; a crash in between is made
//! good by whoever opens the lake next to write.

mod cursor;
mod keys;
mod manifest;
mod rows;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tessera_store::journal::Journal;
use tessera_store::lease::{Lease, LeaseError};
use tessera_store::objects::{Objects, ObjectsError, S3Access};

pub(crate) use cursor::column;
pub use cursor::{Cursor, CursorColumn};
pub(crate) use keys::any_json;
pub use keys::{FileKeys, KeyRange, Span};
pub use manifest::{DataFile, Manifest, ResourceCommit, ResourceState, State, VERSION};
pub use rows::{RowReader, align};

use crate::Error;
use crate::spec::Pipeline;

/// A contender waits this long for a holder that may be dead.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// States kept; older ones are deleted. Manifests stay: they are the history.
const STATES_KEPT: u64 = 5;
/// Files moved or deleted at once.
const MOVES: usize = 8;

impl From<ObjectsError> for Error {
    fn from(error: ObjectsError) -> Self {
        Self::Lake { detail: error.to_string() }
    }
}

/// One dataset.
#[derive(Clone, Debug)]
pub struct Lake {
    objects: Objects,
    log: Journal,
    pipeline: String,
}

/// The present of a dataset.
#[derive(Clone, Debug)]
pub struct Present {
    /// Number of the last commit; 0 before the first.
    pub number: u64,
    /// The state after it.
    pub state: State,
}

impl Lake {
    /// Opens the dataset of a pipeline.
    ///
    /// # Errors
    /// [`Error::Lake`] when the destination cannot be opened.
    pub fn open(pipeline: &Pipeline) -> Result<Self, Error> {
        let destination = &pipeline.destination;
        let access = S3Access {
            endpoint: destination.s3.endpoint.clone(),
            region: destination.s3.region.clone(),
            access_key_id: destination.s3.access_key_id.clone(),
            secret_access_key: destination.s3.secret_access_key.clone(),
            path_style: destination.s3.path_style,
        };
        let dataset = destination.dataset.as_deref().unwrap_or(&pipeline.name);
        let objects = Objects::open(&destination.url, &access)?.below(dataset);
        let log = Journal::new(objects.clone(), "_tessera/log");
        Ok(Self { objects, log, pipeline: pipeline.name.clone() })
    }

    /// The dataset's objects.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Takes the right to write. Two runs of one pipeline exclude each other.
    ///
    /// # Errors
    /// [`Error::Locked`] when another run is at work.
    pub async fn lock(&self, holder: String) -> Result<Lease, Error> {
        Lease::acquire(self.objects.clone(), "_tessera/lock", holder, LEASE_TTL).await.map_err(|error| match error {
            LeaseError::Held { holder } => Error::Locked {
                detail: format!(
                    "pipeline `{}` is being written by {holder}; wait until it is done, or stop it",
                    self.pipeline
                ),
            },
            LeaseError::Store(error) => error.into(),
        })
    }

    /// The present.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read.
    pub async fn present(&self) -> Result<Present, Error> {
        let Some(number) = self.last_number().await? else {
            return Ok(Present { number: 0, state: State::empty(&self.pipeline) });
        };
        let manifest = self.manifest(number).await?;
        let state: State = self.read_sole(&manifest.state).await?;
        if state.version > VERSION {
            return Err(Error::Lake {
                detail: format!(
                    "{} has version {}, which this release cannot read; use a newer one",
                    self.objects.url_of(&manifest.state),
                    state.version
                ),
            });
        }
        Ok(Present { number, state })
    }

    /// The log is listed from a hint on, so that a long history costs one request.
    async fn last_number(&self) -> Result<Option<u64>, Error> {
        let hint: Option<u64> = self.read_json("_tessera/last.json").await?;
        let after = hint.and_then(|hint| hint.checked_sub(1)).filter(|after| *after > 0);
        Ok(self.log.numbers(after).await?.last().copied())
    }

    /// A document that nothing else can be made from. Without it no command that reads the state can help.
    async fn read_sole<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let bytes = self.objects.get(path).await?;
        let what = match bytes.as_ref().map(|bytes| serde_json::from_slice(bytes)) {
            Some(Ok(document)) => return Ok(document),
            Some(Err(error)) => format!("is broken: {error}"),
            None => "is missing".to_owned(),
        };
        Err(Error::Lake {
            detail: format!(
                "{} {what}; restore it from a backup, or begin a new dataset: give `destination.dataset` another name and run with --run-type backfill",
                self.objects.url_of(path)
            ),
        })
    }

    /// One commit.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read.
    pub async fn manifest(&self, number: u64) -> Result<Manifest, Error> {
        self.read_sole(&self.log.path(number)).await
    }

    /// The last `most` commits, oldest first.
    ///
    /// # Errors
    /// [`Error::Lake`] when they cannot be read.
    pub async fn history(&self, most: usize) -> Result<Vec<Manifest>, Error> {
        let numbers = self.log.numbers(None).await?;
        let wanted = numbers[numbers.len().saturating_sub(most)..].to_vec();
        stream::iter(wanted).map(|number| self.manifest(number)).buffered(MOVES).try_collect().await
    }

    /// Makes a commit: writes the state, then creates the manifest under the number after `present`.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else committed meanwhile; nothing of this commit then counts.
    pub async fn commit(&self, present: &Present, mut manifest: Manifest, state: &State) -> Result<Manifest, Error> {
        manifest.number = present.number + 1;
        // Named by its content: two processes that go on with one run must not write over each other's state, and a state
        // that lost is deleted with the old ones, since it may be the same as the one that won.
        let bytes = to_json(state)?;
        let digest: String = Sha256::digest(&bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        manifest.state = format!("_tessera/state/{:012}-{}-{digest}.json", manifest.number, manifest.run_id);
        self.objects.put(&manifest.state, bytes).await?;
        if !self.log.append(manifest.number, to_json(&manifest)?).await? {
            return Err(Error::Conflict(format!(
                "commit {} of `{}` was made by another run; this run's files do not count, run it again",
                manifest.number, self.pipeline
            )));
        }
        self.write_json("_tessera/last.json", &manifest.number).await?;
        Ok(manifest)
    }

    /// Where a file lies until the commit.
    pub fn staged(run_id: &str, path: &str) -> String {
        format!("_tessera/staging/{run_id}/{path}")
    }

    /// Brings the files of a commit to their places and removes what it replaced. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Lake`] when the store fails; the next opening goes on.
    pub async fn publish(&self, manifest: &Manifest) -> Result<(), Error> {
        let added = manifest.resources.values().filter(|commit| !commit.held_back).flat_map(|commit| {
            let quarantine = commit.quarantine.iter();
            commit.added.iter().map(|file| &file.path).chain(quarantine)
        });
        // Collected, since a stream over the closures would not be `Send`, as far as the compiler can tell.
        let added: Vec<&String> = added.collect();
        stream::iter(added.into_iter().map(Ok))
            .try_for_each_concurrent(MOVES, |path| async move {
                self.objects.rename(&Self::staged(&manifest.run_id, path), path).await.map(|_| ())
            })
            .await?;
        let removed: Vec<&String> = manifest.resources.values().flat_map(|commit| &commit.removed).collect();
        stream::iter(removed.into_iter().map(Ok))
            .try_for_each_concurrent(MOVES, |path| self.objects.delete(path))
            .await?;
        self.forget_run(&manifest.run_id).await?;
        if let Some(old) = manifest.number.checked_sub(STATES_KEPT) {
            let end = format!("_tessera/state/{old:012}");
            for listed in self.objects.list("_tessera/state").await? {
                if listed.path < end {
                    self.objects.delete(&listed.path).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes a run's staged files and its progress.
    ///
    /// # Errors
    /// [`Error::Lake`] when the store fails.
    pub async fn forget_run(&self, run_id: &str) -> Result<(), Error> {
        for folder in [format!("_tessera/staging/{run_id}"), format!("_tessera/progress/{run_id}")] {
            let listed = self.objects.list(&folder).await?;
            stream::iter(listed.into_iter().map(Ok))
                .try_for_each_concurrent(MOVES, |listed| async move { self.objects.delete(&listed.path).await })
                .await?;
            if let Some(local) = self.objects.local_path(&folder) {
                // Parts of files that were never completed, and the empty folders.
                match std::fs::remove_dir_all(&local) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(Error::Lake { detail: format!("cannot delete `{}`: {error}", local.display()) });
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes good what a crash left between the last commit and its publication. For whoever holds the lease.
    ///
    /// # Errors
    /// [`Error::Lake`] when the store fails.
    pub async fn recover(&self, present: &Present) -> Result<(), Error> {
        if present.number == 0 {
            return Ok(());
        }
        let manifest = self.manifest(present.number).await?;
        let staging = format!("_tessera/staging/{}", manifest.run_id);
        let progress = format!("_tessera/progress/{}", manifest.run_id);
        if self.objects.list(&staging).await?.is_empty() && self.objects.list(&progress).await?.is_empty() {
            return Ok(());
        }
        self.publish(&manifest).await
    }

    /// A JSON document of the dataset.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read or is no such document.
    pub async fn read_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.objects.get(path).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Lake {
            detail: format!("{} is broken: {error}; restore it or delete it", self.objects.url_of(path)),
        })
    }

    /// Writes a JSON document over an older one.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be written.
    pub async fn write_json<T: Serialize>(&self, path: &str, value: &T) -> Result<(), Error> {
        Ok(self.objects.put(path, to_json(value)?).await?)
    }
}

/// A document as a person reads it.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    text.push(b'\n');
    Ok(text.into())
}
