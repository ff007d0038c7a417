//! What is known of a pipeline at this moment: its file, its lake, its last run, its schedule and its promises.

use std::sync::Arc;

use chrono_tz::Tz;
use tessera_kernel::Timestamp;

use super::{Entry, Look, Service, Watched};
use crate::Error;
use crate::alerts::{SlaStatus, sla_status};
use crate::lake::Manifest;
use crate::spec::Pipeline;
use crate::store::{Counts, Kind, Run, Status, Trigger};

/// How a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStatus {
    /// No run has begun.
    NeverRan,
    /// A run is queued or at work.
    Running,
    /// The last run ended well, or was stopped.
    Ok,
    /// The last run failed, or the file is broken.
    Failed,
    /// In the last run a quality rule held rows back.
    GateFailed,
    /// It is well, but later than promised.
    Late,
}

/// What is known of a pipeline.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its file.
    pub entry: Arc<Entry>,
    /// Its lake, where that can be read.
    pub look: Option<Arc<Look>>,
    /// Its newest run.
    pub last_run: Option<Watched>,
    /// Its promises, where it has some.
    pub sla: Option<SlaStatus>,
    /// When the schedule runs it next.
    pub next_run_at: Option<Timestamp>,
    /// How it is.
    pub status: PipelineStatus,
}

impl Service {
    /// What is known of a pipeline.
    ///
    /// # Errors
    /// The history of runs cannot be read.
    pub async fn facts(&self, entry: Arc<Entry>) -> Result<Facts, Error> {
        let last_run = self.store().last_run(&entry.name).await?.map(|run| self.watched(run));
        let Ok(loaded) = &entry.loaded else {
            let status = PipelineStatus::Failed;
            return Ok(Facts { entry, look: None, last_run, sla: None, next_run_at: None, status });
        };
        let pipeline = loaded.pipeline.clone();
        let sla = self.sla(&pipeline).await?;
        let look = self.0.lakes.try_look(&pipeline).await;
        let next_run_at = next_tick(&pipeline, self.now());
        let late = matches!(sla, Some(SlaStatus::Missed { .. }));
        let status = status(last_run.as_ref().map(|watched| watched.run.status), late);
        Ok(Facts { entry, look, last_run, sla, next_run_at, status })
    }

    /// What the lake of a pipeline holds.
    ///
    /// # Errors
    /// The file is broken, or the lake cannot be read.
    pub async fn look(&self, entry: &Entry) -> Result<Arc<Look>, Error> {
        self.0.lakes.look(&entry.loaded()?.pipeline).await
    }

    /// Whether a pipeline keeps its promises.
    ///
    /// # Errors
    /// The history of runs cannot be read.
    pub async fn sla(&self, pipeline: &Pipeline) -> Result<Option<SlaStatus>, Error> {
        let Some(sla) = &pipeline.sla else { return Ok(None) };
        let now = self.now();
        let last_success = self.store().last_success(&pipeline.name).await?;
        let seen = self.store().see(&pipeline.name, now).await?;
        sla_status(sla, last_success, seen.first_seen_at, now).map(Some)
    }
}

fn status(last: Option<Status>, late: bool) -> PipelineStatus {
    match last {
        Some(Status::Queued | Status::Running) => PipelineStatus::Running,
        Some(Status::Failed) => PipelineStatus::Failed,
        Some(Status::GateFailed) => PipelineStatus::GateFailed,
        _ if late => PipelineStatus::Late,
        Some(Status::Succeeded | Status::Stopped) => PipelineStatus::Ok,
        None => PipelineStatus::NeverRan,
    }
}

/// The next tick of a pipeline's schedule after a moment; none without a schedule.
pub fn next_tick(pipeline: &Pipeline, after: Timestamp) -> Option<Timestamp> {
    let (cron, zone) = schedule(pipeline)?;
    let next = cron.find_next_occurrence(&after.to_utc().with_timezone(&zone), false).ok()?;
    Some(Timestamp::from_utc(next.to_utc()))
}

/// The last tick of a pipeline's schedule up to a moment, that moment included.
pub fn last_tick(pipeline: &Pipeline, until: Timestamp) -> Option<Timestamp> {
    let (cron, zone) = schedule(pipeline)?;
    // Ticks are at whole seconds.
    let until = Timestamp::from_micros(until.micros().div_euclid(1_000_000) * 1_000_000);
    let last = cron.find_previous_occurrence(&until.to_utc().with_timezone(&zone), true).ok()?;
    Some(Timestamp::from_utc(last.to_utc()))
}

fn schedule(pipeline: &Pipeline) -> Option<(croner::Cron, Tz)> {
    let cron: croner::Cron = pipeline.schedule.as_deref()?.parse().ok()?;
    let zone = pipeline.sla.as_ref().and_then(|sla| sla.timezone.parse::<Tz>().ok()).unwrap_or(Tz::UTC);
    Some((cron, zone))
}

/// A commit as a run; none where it was a change of state by hand.
pub(super) fn run_of_commit(commit: &Manifest) -> Option<Run> {
    let kind: Kind = commit.kind.parse().ok()?;
    let held_back = commit.resources.values().any(|resource| resource.held_back);
    let resources = commit.resources.iter().map(|(name, resource)| Counts {
        name: name.clone(),
        status: "done".into(),
        rows: resource.report.rows,
        expected_rows: resource.report.expected_rows,
        bytes: resource.added.iter().map(|file| file.bytes).sum(),
        files: resource.added.len() as u64,
        ..Counts::default()
    });
    Some(Run {
        id: commit.run_id.clone(),
        pipeline: commit.pipeline.clone(),
        kind,
        trigger: Trigger::Cli,
        status: if held_back { Status::GateFailed } else { Status::Succeeded },
        lake_run: None,
        created_at: commit.started_at,
        started_at: commit.started_at,
        updated_at: commit.committed_at,
        finished_at: Some(commit.committed_at),
        error: None,
        resources: resources.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Environment, load};

    #[test]
    fn ticks_are_in_the_time_zone_of_the_promises() {
        let text = |zone: &str| {
            format!(
                "version: 1\nname: shop\nschedule: \"0 6 * * *\"\nsla: {{ fresh_within: 1d, timezone: {zone} }}\n\
                 source: {{ base_url: \"http://127.0.0.1:9\" }}\nresources: [{{ name: rows, path: /rows }}]\n\
                 destination: {{ url: /tmp/lake }}\n"
            )
        };
        let next = |zone: &str, after: &str| {
            let loaded = load(&text(zone), "shop.yaml", &Environment::default()).unwrap();
            next_tick(&loaded.pipeline, after.parse().unwrap()).unwrap().to_string()
        };
        let last = |zone: &str, until: &str| {
            let loaded = load(&text(zone), "shop.yaml", &Environment::default()).unwrap();
            last_tick(&loaded.pipeline, until.parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(last("UTC", "2026-07-02T05:59:59.900Z"), "2026-07-01T06:00:00Z");
        assert_eq!(last("UTC", "2026-07-02T06:00:00Z"), "2026-07-02T06:00:00Z");
        assert_eq!(last("Europe/Lisbon", "2026-07-02T05:00:00.100Z"), "2026-07-02T05:00:00Z");
        assert_eq!(next("UTC", "2026-07-01T06:00:00Z"), "2026-07-02T06:00:00Z");
        assert_eq!(next("Europe/Lisbon", "2026-07-01T00:00:00Z"), "2026-07-01T05:00:00Z");
        assert_eq!(next("Europe/Lisbon", "2026-12-01T00:00:00Z"), "2026-12-01T06:00:00Z");
    }

    #[test]
    fn a_pipeline_is_as_its_last_run_and_its_promises() {
        assert_eq!(status(None, false), PipelineStatus::NeverRan);
        assert_eq!(status(None, true), PipelineStatus::Late);
        assert_eq!(status(Some(Status::Failed), true), PipelineStatus::Failed);
        assert_eq!(status(Some(Status::Succeeded), true), PipelineStatus::Late);
        assert_eq!(status(Some(Status::Stopped), false), PipelineStatus::Ok);
        assert_eq!(status(Some(Status::Queued), true), PipelineStatus::Running);
    }
}
