//! Runs pipelines on their schedules. A pipeline runs once at a time; ticks that pass while it runs, or while no process
//! was there, are answered by one run.

use std::time::Duration;

use tessera_kernel::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::service::{Entry, Request, Service, last_tick};
use crate::store::Trigger;

/// How often the folder and the schedules are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A run whose process said nothing for this long, twelve notes of its counters, is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Looks each second until it is stopped; then cancels all runs and waits for them to save their progress.
pub async fn run(service: Service, stop: CancellationToken) -> Result<(), String> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = None;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = stop.cancelled() => break,
        }
        let said = look(&service).await.err().map(|error| error.to_string());
        if said != trouble {
            match &said {
                Some(detail) => tracing::error!(error.detail = detail, "the schedule is not kept"),
                None => tracing::info!("the schedule is kept again"),
            }
            trouble = said;
        }
    }
    service.stop().await;
    Ok(())
}

/// Marks what earlier processes left unfinished. A store that only this process uses has no other's runs in it.
pub async fn begin(service: &Service) -> Result<(), Error> {
    let now = service.now();
    let silent_since = if service.store().is_shared() { now.minus(SILENCE) } else { Timestamp::from_micros(i64::MAX) };
    let swept = service.store().sweep(silent_since, now).await?;
    if swept > 0 {
        tracing::warn!(
            runs = swept,
            "runs whose process ended are marked as stopped; their next run goes on from there"
        );
    }
    service.refresh().await?;
    Ok(())
}

/// Looks once: at the folder, at other processes' runs, and at every schedule.
pub async fn look(service: &Service) -> Result<(), Error> {
    service.refresh().await?;
    let now = service.now();
    if service.store().is_shared() {
        service.store().sweep(now.minus(SILENCE), now).await?;
    }
    for entry in service.catalogue().entries().values() {
        if let Err(error) = answer(service, entry, now).await {
            tracing::warn!(pipeline.name = entry.name, %error, "the schedule did not start a run");
        }
    }
    Ok(())
}

/// Starts a run if a tick of the pipeline's schedule has passed unanswered.
async fn answer(service: &Service, entry: &Entry, now: Timestamp) -> Result<(), Error> {
    let Ok(loaded) = &entry.loaded else { return Ok(()) };
    let Some(tick) = last_tick(&loaded.pipeline, now) else { return Ok(()) };
    let seen = service.store().see(&entry.name, now).await?;
    if tick <= seen.tick_at || service.store().active(&entry.name).await?.is_some() {
        return Ok(());
    }
    // Two processes on one store agree on the tick, so only one of them starts the run.
    let key = format!("tick {} {}", entry.name, tick.micros());
    let started = service.start(&entry.name, Trigger::Schedule, Request::default(), Some(key)).await;
    service.store().answer(&entry.name, tick).await?;
    match started {
        Ok(_) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
