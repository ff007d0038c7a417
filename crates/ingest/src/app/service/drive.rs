//! One run from the queue to its end: waits for a place, runs, is watched, and leaves its record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tessera_kernel::Ids;
use tokio::sync::SemaphorePermit;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::{Entry, Live, Request, Service};
use crate::Error;
use crate::app::operate::{Named, operate};
use crate::app::run::{RunDeps, RunOptions, RunReport, RunStatus, RunType};
use crate::spec::Loaded;
use crate::store::{Counts, Kind, Run, RunError, Status};

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Every so many looks they are stored.
const LOOKS_A_NOTE: u32 = 5;

/// The id that was promised first, then new ones: the run in the lake is called as the one in the history.
struct Promised {
    first: Uuid,
    given: AtomicBool,
    rest: Arc<dyn Ids>,
}

impl Ids for Promised {
    fn next(&self) -> Uuid {
        if self.given.swap(true, Ordering::Relaxed) { self.rest.next() } else { self.first }
    }
}

impl Service {
    /// Runs what was accepted, in a task of its own that [`Service::stop`] waits for.
    pub(super) fn drive(&self, run: Run, minted: Uuid, loaded: Loaded, entry: &Entry, request: Request) {
        let live = Arc::new(Live::stopped_by(self.0.stop.child_token()));
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).insert(run.id.clone(), live.clone());
        let (service, file) = (self.clone(), entry.file.display().to_string());
        self.0.driving.spawn(async move {
            let ended = service.driven(&run, minted, &live, loaded, file, request).await;
            let finished_at = service.now();
            let ended = Run { finished_at: Some(finished_at), updated_at: finished_at, ..ended };
            if let Err(error) = service.0.store.finish(&ended).await {
                tracing::error!(run.id = ended.id, %error, "the end of the run was not stored");
            }
            service.0.lakes.forget(&ended.pipeline);
            service.0.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&ended.id);
            service.0.metrics.ended(&ended);
            let error = ended.error.as_ref().map(|error| error.detail.as_str());
            let rows: u64 = ended.resources.iter().map(|counts| counts.rows).sum();
            tracing::info!(
                run.id = ended.id,
                pipeline.name = ended.pipeline,
                run.status = ended.status.as_str(),
                rows,
                error.detail = error,
                "run ended"
            );
        });
    }

    async fn driven(
        &self,
        run: &Run,
        minted: Uuid,
        live: &Arc<Live>,
        loaded: Loaded,
        file: String,
        request: Request,
    ) -> Run {
        let mut ended = run.clone();
        let not_begun = |detail: &str| {
            let error = Some(stopped(detail.to_owned()));
            Run { status: Status::Stopped, error, ..run.clone() }
        };
        let Some(_place) = self.place(run, live).await else {
            return not_begun("it was cancelled before it began");
        };
        let started_at = self.now();
        match self.0.store.begin(&run.id, started_at).await {
            Ok(true) => ended.started_at = started_at,
            Ok(false) => return not_begun("another process took it for dead while it waited"),
            Err(error) => return Run { status: Status::Failed, error: Some(RunError::of(&error)), ..ended },
        }
        tracing::info!(
            run.id = run.id,
            pipeline.name = run.pipeline,
            run.kind = run.kind.as_str(),
            run.trigger = run.trigger.as_str(),
            "run begins"
        );
        let deps = RunDeps {
            clock: self.0.clock.clone(),
            ids: Arc::new(Promised { first: minted, given: AtomicBool::new(false), rest: self.0.ids.clone() }),
            stop: live.stop.clone(),
            progress: live.progress.clone(),
            http: self.0.http.clone(),
        };
        let run_type = match run.kind {
            Kind::Backfill => RunType::Backfill,
            Kind::Incremental => RunType::Incremental,
        };
        let Request { from, to, resources, .. } = request;
        let options = RunOptions { run_type: Some(run_type), from, to, resources, ..RunOptions::default() };
        let secrets = loaded.secrets.clone();
        let named = Named { file, link: self.run_page(&run.id) };
        let mut work = tokio::spawn(async move { operate(&loaded, named, options, &deps).await });
        let outcome = self.watch(run, live, &mut work).await;
        ended.resources = live.counts();
        match outcome {
            Ok(report) => {
                ended.status = match report.status {
                    RunStatus::Succeeded => Status::Succeeded,
                    RunStatus::GateFailed => Status::GateFailed,
                    RunStatus::Stopped => Status::Stopped,
                    RunStatus::Failed => Status::Failed,
                };
                ended.lake_run = Some(report.run_id).filter(|id| *id != run.id);
                ended.error = report.error.as_ref().map(RunError::of);
            }
            Err(Error::Stopped(detail)) => {
                (ended.status, ended.error) = (Status::Stopped, Some(stopped(detail)));
            }
            Err(error) => (ended.status, ended.error) = (Status::Failed, Some(RunError::of(&error))),
        }
        if let Some(error) = &mut ended.error {
            error.detail = secrets.redact(&error.detail);
        }
        ended
    }

    /// Waits for a place among the runs at work, and says all the while that the process lives; none when it is cancelled.
    async fn place(&self, run: &Run, live: &Live) -> Option<SemaphorePermit<'_>> {
        let place = self.0.places.acquire();
        tokio::pin!(place);
        let mut looks = interval(LOOK * LOOKS_A_NOTE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and nothing has changed since the run was accepted.
        looks.reset();
        loop {
            tokio::select! {
                place = &mut place => return place.ok(),
                () = live.stop.cancelled() => return None,
                _ = looks.tick() => self.note(run, &[]).await,
            }
        }
    }

    async fn note(&self, run: &Run, counts: &[Counts]) {
        if let Err(error) = self.0.store.note(&run.id, counts, self.now()).await {
            tracing::warn!(run.id = run.id, %error, "the counters of the run were not stored");
        }
    }

    /// Looks at the counters until the work is done.
    async fn watch(
        &self,
        run: &Run,
        live: &Live,
        work: &mut tokio::task::JoinHandle<Result<RunReport, Error>>,
    ) -> Result<RunReport, Error> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counted: Vec<Counts> = Vec::new();
        let mut look = 0u32;
        loop {
            tokio::select! {
                done = &mut *work => {
                    self.count(run, &mut counted, live);
                    return done.unwrap_or_else(|_| {
                        Err(Error::Internal("the run panicked; the log of the process says where".into()))
                    });
                }
                _ = looks.tick() => {}
            }
            self.count(run, &mut counted, live);
            look = look.wrapping_add(1);
            if look.is_multiple_of(LOOKS_A_NOTE) {
                self.note(run, &counted).await;
            }
        }
    }

    fn count(&self, run: &Run, counted: &mut Vec<Counts>, live: &Live) {
        let counts = live.counts();
        for (at, now) in counts.iter().enumerate() {
            self.0.metrics.progressed(&run.pipeline, counted.get(at), now);
        }
        live.sample(&counts, self.now());
        *counted = counts;
    }
}

fn stopped(detail: String) -> RunError {
    RunError { code: "ingest.stopped".into(), detail }
}

impl RunError {
    fn of(error: &Error) -> Self {
        Self { code: error.code().to_owned(), detail: error.to_string() }
    }
}
