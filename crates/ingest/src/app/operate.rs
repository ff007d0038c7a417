//! A run as people operate it: run, then tell whoever should know.

use super::run::{RunDeps, RunOptions, RunReport, RunStatus, run};
use crate::Error;
use crate::alerts::{About, AlertBook, Alerter, Finding, Judged, tell};
use crate::lake::Lake;
use crate::load::{LoadOutcome, load};
use crate::spec::Loaded;

/// Where the alerts that are open are kept.
pub const ALERTS: &str = "_tessera/alerts.json";

/// Runs the pipeline, loads what it committed, and tells alerts. `file` is how the user names the pipeline file.
///
/// # Errors
/// As [`run`].
pub async fn operate(loaded: &Loaded, file: &str, options: RunOptions, deps: &RunDeps) -> Result<RunReport, Error> {
    let part = !options.resources.is_empty() || options.limit.is_some();
    let mut report = run(loaded, options, deps).await?;
    if report.commit.is_some() {
        match load_all(loaded).await {
            Ok(loads) => report.loads = loads,
            Err(error) => {
                report.status = RunStatus::Failed;
                report.error.get_or_insert(error);
            }
        }
    }
    alert(loaded, file, &report, part, deps).await;
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

/// Tells what the run found. An alert that cannot be sent never fails the run.
async fn alert(loaded: &Loaded, file: &str, report: &RunReport, part: bool, deps: &RunDeps) {
    let alerts = &loaded.pipeline.alerts;
    if alerts.slack.is_none() && alerts.pagerduty.is_none() && alerts.webhook.is_none() {
        return;
    }
    let judged = match report.status {
        RunStatus::Succeeded | RunStatus::GateFailed if part => Judged::PartOfRun,
        RunStatus::Succeeded | RunStatus::GateFailed => Judged::WholeRun,
        RunStatus::Failed => Judged::FailedRun,
        RunStatus::Stopped => return,
    };
    let mut findings = Vec::new();
    if let Some(error) = &report.error {
        let detail = loaded.secrets.redact(&error.to_string());
        findings.push(Finding::run_failed(&report.run_id, error.code(), &detail, &[]));
    }
    let reports = || report.reports.iter().map(|(name, report)| (name.as_str(), report));
    findings.extend(Finding::quality_failed(&report.run_id, reports()));
    findings.extend(Finding::schema_drift(&report.run_id, reports()));
    let lake = match Lake::open(&loaded.pipeline) {
        Ok(lake) => lake,
        Err(error) => return tracing::warn!(error = %error, "alerts: the lake cannot be opened"),
    };
    let mut book: AlertBook = match lake.read_json(ALERTS).await {
        Ok(book) => book.unwrap_or_default(),
        Err(error) => return tracing::warn!(error = %error, "alerts: what was told before cannot be read"),
    };
    let alerter = Alerter::new(alerts, deps.http.clone(), loaded.secrets.clone());
    let about = About::new(&loaded.pipeline, file, None);
    tell(&alerter, &mut book, &about, judged, &findings, deps.clock.now()).await;
    if let Err(error) = lake.write_json(ALERTS, &book).await {
        tracing::warn!(error = %error, "alerts: what was told cannot be kept; it may be told again");
    }
}
