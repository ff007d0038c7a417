//! Sends notes to devices: beside the work that they tell of, which never waits for them. What cannot be sent at once is tried
//! again while it is worth something; each attempt is written down.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, Uuid};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DriverId;
use crate::domain::ride::Ride;
use crate::push::{Device, Metrics, Note, Outcome, Push, Service, Services, notes_of};
use crate::store::{Attempt, Store};

/// Notes that may wait to be handed out, and for each service; further ones are dropped, and counted.
const WAITING: usize = 4_096;
/// Attempts at a time of each service, and notes that are handed out at a time.
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

/// Sends until it is told to stop; then attempts that are under way end, and are written down.
///
/// # Errors
/// None: what fails is tried again, or dropped.
pub async fn run(sending: Sending, mut notes: Receiver<Note>, stop: CancellationToken) -> Result<(), String> {
    let post = Arc::new(Post { sending, lanes: Service::ALL.map(|_| Lane::new()), stop: stop.clone() });
    let mut at_work = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = at_work.join_next() => {}
            _ = sweep.tick() => {
                if let Err(error) = post.sending.store.sweep_attempts(KEPT).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old attempts stay");
                }
            }
            count = notes.recv_many(&mut taken, AT_ONCE) => {
                if count == 0 {
                    break;
                }
                post.hand_out(std::mem::take(&mut taken), &mut at_work).await;
            }
        }
    }
    while at_work.join_next().await.is_some() {}
    Ok(())
}

/// How much of a service is in use: one that is away holds up nobody else.
struct Lane {
    /// For notes to devices that wait, or are between two attempts.
    room: Arc<Semaphore>,
    /// For attempts.
    turns: Semaphore,
}

impl Lane {
    fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(WAITING)), turns: Semaphore::new(AT_ONCE) }
    }
}

/// What brings notes to devices.
struct Post {
    sending: Sending,
    lanes: [Lane; Service::ALL.len()],
    stop: CancellationToken,
}

impl Post {
    /// Begins to send notes to all devices of their owners; where a service has no room they are dropped.
    async fn hand_out(self: &Arc<Self>, notes: Vec<Note>, at_work: &mut JoinSet<()>) {
        let owners: Vec<Uuid> = notes.iter().map(|note| note.owner).collect();
        let devices = match self.sending.store.devices_of(&owners).await {
            Ok(devices) => devices,
            Err(error) => {
                let notes = notes.len();
                tracing::warn!(notes, error = &error as &dyn std::error::Error, "notes are not sent");
                return;
            }
        };
        for note in notes.into_iter().map(Arc::new) {
            for device in devices.iter().filter(|device| device.owner == note.owner) {
                let Some(push) = self.sending.services.get(device.service) else { continue };
                match Arc::clone(&self.lanes[device.service as usize].room).try_acquire_owned() {
                    Ok(room) => {
                        let (post, push) = (Arc::clone(self), Arc::clone(push));
                        let (device, note) = (device.clone(), Arc::clone(&note));
                        at_work.spawn(async move {
                            post.send(&*push, &device, &note).await;
                            drop(room);
                        });
                    }
                    Err(_) => self.sending.metrics.dropped(),
                }
            }
        }
    }

    /// Tries until it is sent, refused, or worth nothing any more.
    async fn send(&self, push: &dyn Push, device: &Device, note: &Note) {
        let mut pause = FIRST_PAUSE;
        for number in 1..=ATTEMPTS {
            let turn = tokio::select! {
                () = self.stop.cancelled() => return,
                turn = self.lanes[device.service as usize].turns.acquire() => turn,
            };
            let ttl = self.left(note);
            if ttl.is_zero() || (number > 1 && self.is_overtaken(note).await) {
                return;
            }
            let outcome = self.attempt(push, device, note, ttl, number).await;
            drop(turn);
            let Outcome::Later(_, after) = outcome else { return };
            let wait = after.unwrap_or(pause);
            pause *= 2;
            if number == ATTEMPTS || wait >= self.left(note) {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// How long a note is worth something.
    fn left(&self, note: &Note) -> Duration {
        note.expires_at.since(self.sending.clock.now())
    }

    /// Whether the ride has gone on meanwhile: the note would take the place of a newer one.
    async fn is_overtaken(&self, note: &Note) -> bool {
        match self.sending.store.ride(note.ride).await {
            Ok(ride) => !ride.is_some_and(|ride| note.holds(&ride)),
            // It is worth an attempt.
            Err(_) => false,
        }
    }

    /// Tries once and writes it down.
    async fn attempt(&self, push: &dyn Push, device: &Device, note: &Note, ttl: Duration, number: u32) -> Outcome {
        let began = Instant::now();
        let outcome = timeout(ttl.min(DEADLINE), push.send(device, note, ttl)).await;
        let outcome = outcome.unwrap_or_else(|_| Outcome::Later("no answer in time".to_owned(), None));
        self.sending.metrics.attempt(device.service, &outcome);
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
        if let Err(error) = self.sending.store.log_attempt(attempt, gone).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an attempt is not written down");
        }
        outcome
    }
}
