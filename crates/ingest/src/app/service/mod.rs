//! The service around runs: which pipelines there are, starting and stopping their runs, and what is known of them. The
//! schedule and the API both go through here, so that a run is the same whatever set it going.

mod catalogue;
mod drive;
mod facts;
mod lakes;
mod live;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRef;
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, Ids, Timestamp};
use tessera_service::Keys;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::Error;
use crate::config::MaxConcurrentRuns;
use crate::metrics::Metrics;
use crate::spec::Environment;
use crate::store::{Accepted, Kind, NewRun, Run, Status, Store, Trigger};

pub use catalogue::{Broken, Catalogue, Entry};
pub use facts::{Facts, PipelineStatus, last_tick};
pub use lakes::{COMMITS, Look};
pub use live::Speed;

use lakes::Lakes;
use live::Live;

/// What the service is made of.
pub struct Parts {
    /// The folder of pipeline files.
    pub pipelines: PathBuf,
    /// The environment that they are read with.
    pub environment: Environment,
    /// Runs at a time.
    pub max_concurrent_runs: MaxConcurrentRuns,
    /// Where the console is reached, for links in alerts.
    pub public_url: Option<String>,
    /// The history of runs.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Who asks.
    pub keys: Keys,
    /// What is counted.
    pub metrics: Metrics,
    /// For alerts.
    pub http: reqwest::Client,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    catalogue: Catalogue,
    lakes: Lakes,
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    keys: Keys,
    metrics: Metrics,
    http: reqwest::Client,
    public_url: Option<String>,
    /// The runs of this process that are not over.
    live: Mutex<BTreeMap<String, Arc<Live>>>,
    places: Semaphore,
    stop: CancellationToken,
    driving: TaskTracker,
}

/// What is asked of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Incremental where not given.
    pub kind: Option<Kind>,
    /// Rows from this cursor on.
    pub from: Option<String>,
    /// Rows before this cursor.
    pub to: Option<String>,
    /// Only these resources; all where empty.
    pub resources: Vec<String>,
}

impl Request {
    /// The same for the same request to the same pipeline.
    fn hash(&self, pipeline: &str) -> String {
        let digest = Sha256::digest(format!("{pipeline:?} {self:?}").as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A run with the speed it has, where it is at work in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The run.
    pub run: Run,
    /// Its speed.
    pub speed: Option<Speed>,
}

impl FromRef<Service> for Keys {
    fn from_ref(service: &Service) -> Self {
        service.0.keys.clone()
    }
}

impl Service {
    /// From its parts. Nothing is read or started.
    pub fn new(parts: Parts) -> Self {
        let Parts { pipelines, environment, max_concurrent_runs, public_url, store, clock, ids, keys, metrics, http } =
            parts;
        Self(Arc::new(Inner {
            catalogue: Catalogue::new(pipelines, environment),
            lakes: Lakes::default(),
            store,
            clock,
            ids,
            keys,
            metrics,
            http,
            public_url,
            live: Mutex::default(),
            places: Semaphore::new(max_concurrent_runs.get()),
            stop: CancellationToken::new(),
            driving: TaskTracker::new(),
        }))
    }

    /// The pipelines.
    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    /// The history of runs.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// For alerts.
    pub fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// New ids.
    pub fn ids(&self) -> &dyn Ids {
        self.0.ids.as_ref()
    }

    /// The console's page about a pipeline, where the console's address is known.
    pub fn pipeline_page(&self, pipeline: &str) -> Option<String> {
        self.0.public_url.as_deref().map(|base| pipeline_page(base, pipeline))
    }

    /// The console's page about a run, where the console's address is known.
    pub fn run_page(&self, run: &str) -> Option<String> {
        let base = self.0.public_url.as_deref()?.trim_end_matches('/');
        Some(format!("{base}/console/ingest/runs/{run}"))
    }

    /// Looks at the folder again, away from the async threads.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let service = self.clone();
        let looked = tokio::task::spawn_blocking(move || service.0.catalogue.refresh()).await;
        let folder = self.0.catalogue.folder().display();
        match looked {
            Ok(Ok(changed)) => Ok(changed),
            Ok(Err(error)) => Err(Error::Spec {
                place: format!("{folder}"),
                detail: format!("the folder of pipelines cannot be read: {error}; check setting `ingest.pipelines`"),
            }),
            Err(_) => {
                Err(Error::Internal("looking at the folder of pipelines panicked; its log line says where".into()))
            }
        }
    }

    /// Starts a run, or queues it behind those of other pipelines. With a key, asking again gives the same run.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Spec`] for a pipeline or resource that cannot be run; [`Error::Conflict`] while a run
    /// of the pipeline is not over, and for a key that was used for something else.
    pub async fn start(
        &self,
        pipeline: &str,
        trigger: Trigger,
        request: Request,
        key: Option<String>,
    ) -> Result<Run, Error> {
        let entry = self.0.catalogue.entry(pipeline)?;
        let loaded = entry.loaded()?.clone();
        check(&loaded.pipeline, &request)?;
        if self.0.stop.is_cancelled() {
            return Err(Error::Conflict("this process is stopping; ask again when it is back".into()));
        }
        let minted = self.0.ids.next();
        let new = NewRun {
            id: run_id(minted),
            pipeline: pipeline.to_owned(),
            kind: request.kind.unwrap_or(Kind::Incremental),
            trigger,
            idempotency_key: key,
            request_hash: request.hash(pipeline),
            at: self.now(),
        };
        match self.0.store.accept(&new).await? {
            Accepted::New(run) => {
                self.drive(run.clone(), minted, loaded, &entry, request);
                Ok(run)
            }
            Accepted::Again(run) => Ok(self.watched(run).run),
            Accepted::OtherRequest(id) => Err(Error::Conflict(format!(
                "this idempotency key was used for another request, which started {id}; send a new key"
            ))),
            Accepted::Busy(id) => Err(Error::Conflict(format!(
                "`{pipeline}` is at work: {id}; wait until it is over, or cancel it with POST /ingest/runs/{id}/cancel"
            ))),
        }
    }

    /// Stops a run: it saves its progress and ends. Cancelling one that is being cancelled, or was, changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for a run that ended otherwise, or that another process has.
    pub async fn cancel(&self, id: &str) -> Result<Run, Error> {
        let run = self.0.store.run(id).await?;
        if let Some(live) = self.live(&run.id) {
            if !live.stop.is_cancelled() {
                tracing::info!(run.id = run.id, pipeline.name = run.pipeline, "run cancelled");
                live.stop.cancel();
            }
            return Ok(self.watched(run).run);
        }
        // It may have ended since it was read.
        let run = self.0.store.run(id).await?;
        match run.status {
            Status::Stopped => Ok(run),
            Status::Queued | Status::Running => {
                Err(Error::Conflict(format!("{id} is not at work in this process; ask the one that started it")))
            }
            status => Err(Error::Conflict(format!("{id} is over: {status}; there is nothing to cancel"))),
        }
    }

    /// A run with its counters of this moment.
    pub fn watched(&self, mut run: Run) -> Watched {
        let live = if run.status.is_over() { None } else { self.live(&run.id) };
        let Some(live) = live else { return Watched { run, speed: None } };
        let now = self.now();
        let counts = live.counts();
        let speed = live.speed(&counts, now);
        if !counts.is_empty() {
            run.resources = counts;
            run.updated_at = now.max(run.updated_at);
        }
        Watched { run, speed: Some(speed) }
    }

    /// Whether a run of this process is not over.
    pub fn is_live(&self, id: &str) -> bool {
        self.live(id).is_some()
    }

    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Cancels all runs and waits until they have saved their progress. No run starts afterwards.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.driving.close();
        self.0.driving.wait().await;
        self.0.store.close().await;
    }

    /// Takes in the runs that the lake knows and this history does not: those of the command line.
    ///
    /// # Errors
    /// The lake or the store cannot be read.
    pub async fn import(&self, entry: &Entry) -> Result<(), Error> {
        let pipeline = &entry.loaded()?.pipeline;
        let look = self.0.lakes.look(pipeline).await?;
        for commit in look.commits.values() {
            let Some(run) = facts::run_of_commit(commit) else { continue };
            if self.0.store.import(&run).await? {
                tracing::info!(run.id = run.id, pipeline.name = run.pipeline, "a run of another process was taken in");
            }
        }
        Ok(())
    }
}

/// The page about a pipeline of the console at `base`.
pub fn pipeline_page(base: &str, pipeline: &str) -> String {
    format!("{}/console/ingest/pipelines/{pipeline}", base.trim_end_matches('/'))
}

fn run_id(minted: Uuid) -> String {
    format!("run_{}", minted.simple())
}

/// What can be told without starting; the run looks at the rest.
fn check(pipeline: &crate::spec::Pipeline, request: &Request) -> Result<(), Error> {
    let known: Vec<&str> = pipeline.resources.iter().map(|resource| resource.name.as_str()).collect();
    if let Some(unknown) = request.resources.iter().find(|name| !known.contains(&name.as_str())) {
        let detail = format!("`{}` has no resource `{unknown}`; it has {}", pipeline.name, known.join(", "));
        return Err(Error::Spec { place: "resources".into(), detail });
    }
    super::run::check_range(pipeline, ("from", request.from.as_ref()), ("to", request.to.as_ref()))
}
