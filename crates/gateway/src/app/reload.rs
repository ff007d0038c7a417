//! A new config takes the place of the one in use, whole, or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::changes::{self, Change};
use crate::Error;
use crate::engine::Engine;
use crate::metrics::ReloadLabels;
use crate::snapshot::{Lasting, Snapshot, Stamps, files};
use crate::spec::{self, Environment, load_file};

/// How far the thread that compiles a config stands back behind those that serve (as `nice`): it gets about a tenth of a
/// core that others want too.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Reads the config again.
#[derive(Debug)]
pub struct Reloader {
    engine: Arc<Engine>,
    file: PathBuf,
    environment: Environment,
    lasting: Lasting,
    /// The files of the last config that could be read, taken or refused, as they were then.
    seen: Mutex<Stamps>,
    refusal: Mutex<Option<String>>,
    /// What was served by before the config in use.
    before: Mutex<Option<Arc<spec::Gateway>>>,
    /// Configs that were served by and are held by requests under way, perhaps. They are large, and to be freed here.
    retired: Mutex<Vec<Arc<Snapshot>>>,
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
        let snapshot = engine.snapshot();
        let seen = Stamps::of([file.clone()]).and(Stamps::of(files(&snapshot.spec, &snapshot.folder)));
        let (seen, refusal, turn) = (Mutex::new(seen), Mutex::default(), AsyncMutex::default());
        let (before, retired) = (Mutex::default(), Mutex::default());
        Self { engine, file, environment, lasting, seen, refusal, before, retired, turn }
    }

    /// Why the file as it is now was refused, where it was.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The config in use and what it changed, as people may see them; no changes where it is the first.
    pub fn config(&self) -> (Value, Vec<Change>) {
        let now = changes::shown(&self.engine.snapshot().spec);
        let before =
            self.before.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|before| changes::shown(before));
        let changed = before.map(|before| changes::between(&before, &now)).unwrap_or_default();
        (now, changed)
    }

    /// Reads the file again if it, a certificate, an authority or a key has changed since it was last tried. `None` where
    /// nothing has.
    pub async fn look(&self) -> Option<Result<Reloaded, Error>> {
        let has_changed = {
            let seen = self.seen();
            let now = seen.again();
            // A file that is being replaced is not there for a moment.
            now.has(&self.file) && now != *seen
        };
        if has_changed { Some(self.reload().await) } else { None }
    }

    fn seen(&self) -> MutexGuard<'_, Stamps> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.free_retired();
        let before = self.engine.snapshot();
        let (retiring, spec_before) = (before.clone(), before.spec.clone());
        let (file, environment, lasting) = (self.file.clone(), self.environment.clone(), self.lasting.clone());
        let known = self.seen().clone();
        let (told, tried) = oneshot::channel();
        let build = move || {
            give_way();
            let own = Stamps::of([file.clone()]);
            let tried = match load_file(&file, &environment) {
                // What it asks for is followed even where it is refused: a missing file may come.
                Ok(loaded) => {
                    let seen = own.and(Stamps::of(files(&loaded.gateway, &loaded.folder)));
                    (seen, Snapshot::build(&loaded, Some(&before), &lasting))
                }
                Err(error) => (known.again().and(own), Err(error)),
            };
            // Nobody waits any more where the process stops.
            let _ = told.send(tried);
        };
        // A large config takes a while to compile; that is no work for a thread that others wait for.
        let thread = std::thread::Builder::new().name("gateway-config".into()).spawn(build);
        thread.map_err(|error| Error::Internal(format!("no thread to read the config: {error}")))?;
        let (seen, built) = tried.await.map_err(|_| Error::Internal("the config could not be read".into()))?;
        *self.seen() = seen;
        let snapshot = built?;
        let reloaded = Reloaded { number: snapshot.number, routes: snapshot.routes.len() };
        self.engine.swap(snapshot).await?;
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(retiring);
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(spec_before);
        self.lasting.limiters.tidy();
        self.lasting.acme.tidy();
        self.lasting.metrics.tidy();
        Ok(reloaded)
    }
    /// Frees configs that nothing is served by any more, so that no worker has to: of ten thousand routes that takes longer
    /// than an answer.
    pub fn free_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let free: Vec<Arc<Snapshot>> = retired.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect();
        drop(retired);
        if !free.is_empty() {
            // Detached: it ends by itself, and nobody waits for it.
            drop(tokio::task::spawn_blocking(move || drop(free)));
        }
    }
}

/// Has the system prefer other threads to this one: reading a config must not slow answers down.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}
