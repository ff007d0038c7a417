//! Sends notes to devices: beside the work that they tell of, which never waits for them. What cannot be sent at once is tried
//! again while it is worth something; each attempt is written down.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::Clock;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DriverId;
use crate::domain::ride::Ride;
use crate::push::{Device, Metrics, Note, Outcome, Push, Services, notes_of};
use crate::store::{Attempt, Store};

/// Notes that may wait; further ones are dropped, and counted. It is what is sent in half a minute.
const WAITING: usize = 4_096;
/// Notes that are sent at a time.
const AT_ONCE: usize = 128;
/// Attempts for a device.
const ATTEMPTS: u32 = 4;
/// The pause after the first; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long one attempt may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often old attempts are removed, and how old they get.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Where changes are told.
#[derive(Clone, Debug)]
pub struct Outbox {
    notes: Sender<Note>,
    metrics: Metrics,
}

/// An outbox, and what [`run`] takes from it.
pub fn outbox(metrics: Metrics) -> (Outbox, Receiver<Note>) {
    let (notes, taken) = mpsc::channel(WAITING);
    (Outbox { notes, metrics }, taken)
}

impl Outbox {
    /// Takes note of a change; where there is no room it is dropped.
    pub fn tell(&self, ride: &Ride, freed: Option<DriverId>) {
        for note in notes_of(ride, freed) {
            if self.notes.try_send(note).is_err() {
                self.metrics.dropped();
            }
        }
    }
}

/// What sending takes.
#[derive(Clone)]
pub struct Sending {
    /// Devices and attempts.
    pub store: Store,
    /// Who brings them.
    pub services: Services,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What came of it.
    pub metrics: Metrics,
}

/// Sends until it is told to stop.
///
/// # Errors
/// None: what fails is tried again, or dropped.
pub async fn run(sending: Sending, mut notes: Receiver<Note>, stop: CancellationToken) -> Result<(), String> {
    let mut at_work = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = at_work.join_next() => {}
            _ = sweep.tick() => {
                if let Err(error) = sending.store.sweep_attempts(KEPT).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old attempts stay");
                }
            }
            note = notes.recv(), if at_work.len() < AT_ONCE => {
                let Some(note) = note else { return Ok(()) };
                at_work.spawn(send(sending.clone(), note));
            }
        }
    }
}

/// Sends a note to all devices of its owner.
async fn send(sending: Sending, note: Note) {
    let devices = match sending.store.devices(note.owner).await {
        Ok(devices) => devices,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a note is not sent");
            return;
        }
    };
    let sends = devices.iter().filter_map(|device| {
        let push = sending.services.get(device.service)?;
        Some(send_to(&sending, push.as_ref(), device, &note))
    });
    futures::future::join_all(sends.collect::<Vec<_>>()).await;
}

/// Tries until it is sent, refused, or worth nothing any more.
async fn send_to(sending: &Sending, push: &dyn Push, device: &Device, note: &Note) {
    let mut pause = FIRST_PAUSE;
    for number in 1..=ATTEMPTS {
        let ttl = note.expires_at.since(sending.clock.now());
        if ttl.is_zero() {
            return;
        }
        let began = Instant::now();
        let outcome = timeout(ttl.min(DEADLINE), push.send(device, note, ttl)).await;
        let outcome = outcome.unwrap_or_else(|_| Outcome::Later("no answer in time".to_owned(), None));
        sending.metrics.attempt(device.service, &outcome);
        let attempt = Attempt {
            device: device.id,
            ride: note.ride,
            version: note.version,
            service: device.service,
            number,
            outcome: outcome.as_str().to_owned(),
            reason: outcome.reason().map(str::to_owned),
            took_ms: began.elapsed().as_millis() as u32,
        };
        let gone = (outcome == Outcome::Gone).then_some(device);
        if let Err(error) = sending.store.log_attempt(attempt, gone).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an attempt is not written down");
        }
        let Outcome::Later(_, after) = outcome else { return };
        let wait = after.unwrap_or(pause);
        pause *= 2;
        if number == ATTEMPTS || wait >= note.expires_at.since(sending.clock.now()) {
            return;
        }
        sleep(wait).await;
    }
}
