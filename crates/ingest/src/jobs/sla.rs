//! The watch over promises: each minute, is every pipeline as fresh as its SLA says? Alerts are told once, by the book that
//! lies in the lake. Runs that the command line did are taken in first, since they count.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::alerts::{About, Alerter, Finding, Judged, News, Shelf, tell};
use crate::app::service::{Entry, Service};
use crate::lake::Lake;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(60);
/// How long one pipeline may take, so that a lake that hangs does not hold up the others.
const DEADLINE: Duration = Duration::from_secs(45);

/// Looks each minute until it is stopped.
pub async fn run(service: Service, stop: CancellationToken) -> Result<(), String> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = look(&service) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Looks once at every pipeline.
pub async fn look(service: &Service) {
    for entry in service.catalogue().entries().values().filter(|entry| entry.loaded.is_ok()) {
        let name = &entry.name;
        match timeout(DEADLINE, watch(service, entry)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(pipeline.name = name, %error, "the SLA could not be looked at"),
            Err(_) => {
                tracing::warn!(pipeline.name = name, "looking at the SLA took too long; its lake does not answer")
            }
        }
    }
}

async fn watch(service: &Service, entry: &Entry) -> Result<(), Error> {
    let loaded = entry.loaded()?;
    service.import(entry).await?;
    let Some(status) = service.sla(&loaded.pipeline).await? else { return Ok(()) };
    let alerts = &loaded.pipeline.alerts;
    if !alerts.is_anyone_told() {
        return Ok(());
    }
    let lake = Lake::open(&loaded.pipeline)?;
    let alerter = Alerter::new(alerts, service.http().clone(), loaded.secrets.clone());
    let about = About::new(&loaded.pipeline, &entry.file.display().to_string(), service.pipeline_page(&entry.name));
    let findings: Vec<Finding> = Finding::sla_missed(&status).into_iter().collect();
    let by = service.ids().next().simple().to_string();
    let news = News { judged: Judged::Sla, findings: &findings, by: &by, now: service.now() };
    tell(&Shelf::of(&lake), &alerter, &about, news).await?;
    Ok(())
}
