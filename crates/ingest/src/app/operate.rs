//! A run as people operate it: run, then tell whoever should know.

use super::run::{RunDeps, RunOptions, RunReport, RunStatus, run};
use crate::Error;
use crate::alerts::{About, Alerter, Finding, Judged, News, Shelf, tell};
use crate::lake::Lake;
use crate::load::{LoadOutcome, load};
use crate::spec::Loaded;

/// How alerts name what they are about.
#[derive(Clone, Debug)]
pub struct Named {
    /// The pipeline file as the user names it.
    pub file: String,
    /// The console's page that shows more.
    pub link: Option<String>,
}

/// Runs the pipeline, loads what it committed, and tells alerts.
///
/// # Errors
/// As [`run`].
pub async fn operate(loaded: &Loaded, named: Named, options: RunOptions, deps: &RunDeps) -> Result<RunReport, Error> {
    let part = !options.resources.is_empty() || options.limit.is_some();
    let mut report = match run(loaded, options, deps).await {
        Ok(report) => report,
        Err(error) => {
            // People must hear of a lake that does not answer; not of a wrong flag, or of another run at work.
            if matches!(error, Error::Lake { .. } | Error::Internal(_)) {
                let failed = Finding { run_id: None, ..failed(loaded, "", &error) };
                tell_of(loaded, &named, Judged::FailedRun, &[failed], deps).await;
            }
            return Err(error);
        }
    };
    if report.commit.is_some() {
        match load_all(loaded).await {
            Ok(loads) => report.loads = loads,
            Err(error) => {
                report.status = RunStatus::Failed;
                report.error.get_or_insert(error);
            }
        }
    }
    alert(loaded, &named, &report, part, deps).await;
    Ok(report)
}

/// Brings every target of the pipeline to the lake's present. All are tried; the first failure is told.
///
/// # Errors
/// [`Error::Load`] of the first target that refused.
pub async fn load_all(loaded: &Loaded) -> Result<Vec<LoadOutcome>, Error> {
    let mut outcomes = Vec::new();
    let mut failure = None;
    let lake = Lake::open(&loaded.pipeline)?;
    for target in &loaded.pipeline.load {
        match load(target, &loaded.pipeline, &lake, &loaded.secrets).await {
            Ok(loads) => outcomes.extend(loads),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(outcomes), Err)
}

/// Tells what the run found.
async fn alert(loaded: &Loaded, named: &Named, report: &RunReport, part: bool, deps: &RunDeps) {
    let judged = match report.status {
        RunStatus::Succeeded | RunStatus::GateFailed if part => Judged::PartOfRun,
        RunStatus::Succeeded | RunStatus::GateFailed => Judged::WholeRun,
        RunStatus::Failed => Judged::FailedRun,
        RunStatus::Stopped => return,
    };
    let mut findings: Vec<Finding> = report.error.iter().map(|error| failed(loaded, &report.run_id, error)).collect();
    let reports = || report.reports.iter().map(|(name, report)| (name.as_str(), report));
    findings.extend(Finding::quality_failed(&report.run_id, reports()));
    findings.extend(Finding::schema_drift(&report.run_id, reports()));
    tell_of(loaded, named, judged, &findings, deps).await;
}

fn failed(loaded: &Loaded, run_id: &str, error: &Error) -> Finding {
    Finding::run_failed(run_id, error.code(), &loaded.secrets.redact(&error.to_string()), &[])
}

/// An alert that cannot be sent never fails the run.
async fn tell_of(loaded: &Loaded, named: &Named, judged: Judged, findings: &[Finding], deps: &RunDeps) {
    let alerts = &loaded.pipeline.alerts;
    if !alerts.is_anyone_told() {
        return;
    }
    let lake = match Lake::open(&loaded.pipeline) {
        Ok(lake) => lake,
        Err(error) => return tracing::warn!(%error, "alerts: the lake cannot be opened"),
    };
    let alerter = Alerter::new(alerts, deps.http.clone(), loaded.secrets.clone());
    let about = About::new(&loaded.pipeline, &named.file, named.link.clone());
    let by = deps.ids.next().simple().to_string();
    let news = News { judged, findings, by: &by, now: deps.clock.now() };
    if let Err(error) = tell(&Shelf::of(&lake), &alerter, &about, news).await {
        tracing::warn!(%error, "alerts: what was told is not known; the next run looks again");
    }
}
