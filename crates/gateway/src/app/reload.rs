//! A new config takes the place of the one in use, whole, or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;

use super::changes::{self, Change};
use crate::Error;
use crate::engine::Engine;
use crate::metrics::ReloadLabels;
use crate::snapshot::{Lasting, Snapshot};
use crate::spec::{self, Environment, load_file};

/// Reads the config again.
#[derive(Debug)]
pub struct Reloader {
    engine: Arc<Engine>,
    file: PathBuf,
    environment: Environment,
    lasting: Lasting,
    seen: Mutex<Option<(SystemTime, u64)>>,
    refusal: Mutex<Option<String>>,
    /// What was served by before the config in use.
    before: Mutex<Option<spec::Gateway>>,
    /// One at a time.
    turn: AsyncMutex<()>,
}

/// What became of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// The number of the config in use now.
    pub number: u64,
    /// How many routes it has.
    pub routes: usize,
}

impl Reloader {
    /// Of this file, which the engine was started with.
    pub fn new(engine: Arc<Engine>, file: PathBuf, environment: Environment, lasting: Lasting) -> Self {
        let reloader = Self {
            engine,
            file,
            environment,
            lasting,
            seen: Mutex::default(),
            refusal: Mutex::default(),
            before: Mutex::default(),
            turn: AsyncMutex::default(),
        };
        *reloader.seen.lock().unwrap_or_else(PoisonError::into_inner) = reloader.stamp();
        reloader
    }

    /// Why the file as it is now was refused, where it was.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The config in use and what it changed, as people may see them; no changes where it is the first.
    pub fn config(&self) -> (Value, Vec<Change>) {
        let now = changes::shown(&self.engine.snapshot().spec);
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(changes::shown);
        let changed = before.map(|before| changes::between(&before, &now)).unwrap_or_default();
        (now, changed)
    }

    /// Reads the file again if it, a certificate or a key has changed. `None` where nothing has.
    pub async fn look(&self) -> Option<Result<Reloaded, Error>> {
        let stamp = self.stamp();
        let mut has_changed = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let has_changed = stamp.is_some() && *seen != stamp;
            *seen = stamp;
            has_changed
        };
        has_changed |= self.engine.snapshot().has_changed_files();
        if has_changed { Some(self.reload().await) } else { None }
    }

    /// Reads the file and serves by it; a file that is wrong changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] with line and reason, [`Error::Listener`].
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        let _turn = self.turn.lock().await;
        let outcome = self.swap().await;
        let label = if outcome.is_ok() { "taken" } else { "refused" };
        self.lasting.metrics.reloads.get_or_create(&ReloadLabels { outcome: label }).inc();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().map(ToString::to_string);
        match &outcome {
            Ok(reloaded) => tracing::info!(config.number = reloaded.number, routes = reloaded.routes, "config taken"),
            Err(error) => tracing::error!(%error, "config refused; the last good one stays"),
        }
        outcome
    }

    async fn swap(&self) -> Result<Reloaded, Error> {
        let before = self.engine.snapshot();
        let spec_before = before.spec.clone();
        let (file, environment, lasting) = (self.file.clone(), self.environment.clone(), self.lasting.clone());
        // A large config takes a while to compile; that is no work for a thread that others wait for.
        let built = tokio::task::spawn_blocking(move || {
            let loaded = load_file(&file, &environment)?;
            Snapshot::build(&loaded, Some(&before), &lasting)
        });
        let snapshot = built.await.map_err(|error| Error::Internal(error.to_string()))??;
        let reloaded = Reloaded { number: snapshot.number, routes: snapshot.routes.len() };
        self.engine.swap(snapshot).await?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(spec_before);
        self.lasting.limiters.tidy();
        self.lasting.metrics.tidy();
        Ok(reloaded)
    }

    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let data = std::fs::metadata(&self.file).ok()?;
        Some((data.modified().ok()?, data.len()))
    }
}
