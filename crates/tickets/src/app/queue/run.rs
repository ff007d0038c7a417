//! The waiting room, for those who run it: reading how it stands, the organiser's hand, letting people in.
//!
//! Any number of processes may let people in. Turns are taken from the room's row, under its lock, before the line is
//! moved; so all of them together keep the rate, and one that dies in between wastes a turn and gives none twice. The
//! limit of those inside is kept by the line itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ring::rand::SecureRandom;
use tessera_store::lines::{Admission, Line, MAX_STEP, Opening, Phase, Seed};
use tokio::time::Instant;

use super::super::App;
use super::super::request::Request;
use super::rooms::{FRESH, Room, STALE, Stage, USABLE, View};
use crate::Error;
use crate::domain::event::{Event, QueueMode, Status};
use crate::domain::ids::EventId;
use crate::domain::queue::{Control, Crowd, Settings};
use crate::store::{Asked, QueueRow};

/// How old a view may be by which people are let in.
const ADMIT_BY: Duration = Duration::from_millis(200);
/// The part of the arrivals that close the doors from which a process speaks of its own.
const SPEAK_FROM: u32 = 20;

impl App {
    /// How an event's waiting room stands, from memory where that is fresh.
    ///
    /// # Errors
    /// [`Error::NotFound`], for drafts too; those of the database.
    pub async fn queue(&self, event: EventId) -> Result<Arc<View>, Error> {
        self.view(&self.queues.room(event), FRESH).await
    }

    /// The same, read anew.
    ///
    /// # Errors
    /// Those of [`App::queue`].
    pub async fn refresh_queue(&self, event: EventId) -> Result<Arc<View>, Error> {
        self.view(&self.queues.room(event), Duration::ZERO).await
    }

    /// The room of an event, to be told when it is read anew.
    pub fn watch_queue(&self, event: EventId) -> tokio::sync::watch::Receiver<Option<Arc<View>>> {
        self.queues.room(event).view.subscribe()
    }

    /// Reads anew the rooms that somebody watches.
    pub async fn refresh_queues(&self) {
        for room in self.queues.watched() {
            if let Err(error) = self.view(&room, FRESH / 2).await {
                tracing::warn!(event.id = %room.event, error = &error as &dyn std::error::Error, "waiting room not read");
            }
        }
    }

    pub(super) async fn view(&self, room: &Room, age: Duration) -> Result<Arc<View>, Error> {
        if let Some(view) = room.no_older_than(age).filter(|_| !age.is_zero()) {
            return Ok(view);
        }
        let asked = Instant::now();
        let reading = match room.reading.try_lock() {
            Ok(reading) => reading,
            Err(_) => {
                // One is at it; the others go by what is known.
                if let Some(view) = room.no_older_than(USABLE).filter(|_| !age.is_zero()) {
                    return Ok(view);
                }
                room.reading.lock().await
            }
        };
        // Whoever was at it may have read it after we asked.
        if let Some(view) = room.view.borrow().as_ref().filter(|view| view.read_at >= asked) {
            return Ok(Arc::clone(view));
        }
        let read = self.read_queue(room).await;
        drop(reading);
        match read {
            Ok(view) => {
                room.view.send_replace(Some(Arc::clone(&view)));
                Ok(view)
            }
            Err(error @ Error::NotFound { .. }) => {
                self.queues.forget(room.event);
                Err(error)
            }
            // Who waits is told what was known; nobody is let in by it, for that asks the line.
            Err(error) => match room.no_older_than(STALE).filter(|_| !age.is_zero()) {
                Some(view) => {
                    tracing::warn!(event.id = %room.event, error = &error as &dyn std::error::Error, "waiting room not read");
                    Ok(view)
                }
                None => Err(error),
            },
        }
    }

    async fn read_queue(&self, room: &Room) -> Result<Arc<View>, Error> {
        let (id, read_at) = (room.event, Instant::now());
        let event = self.public_event(id).await?.event();
        let arrivals_per_second = room.arrivals_per_second();
        let mut row = self.store.queue(id).await?;
        let mut settings = effective(&event, row.as_ref());
        if settings.mode != QueueMode::Off && row.is_none() {
            self.store.open_queue(id, new_seed()?).await?;
            row = self.store.queue(id).await?;
        }
        if settings.mode == QueueMode::Auto
            && u64::from(arrivals_per_second) * u64::from(SPEAK_FROM) >= u64::from(settings.auto_arrivals_per_second)
        {
            let process = self.queues.process(|| self.ids.next().as_u128() as u64);
            self.store.hear_arrivals(id, &settings, process, arrivals_per_second).await?;
            row = self.store.queue(id).await?;
            settings = effective(&event, row.as_ref());
        }
        let mut stage = stage(&event, &settings, row.as_ref(), self.clock.now());
        let mut stands = None;
        if let (Stage::Open, Some(known)) = (&stage, &row) {
            let (line, renewed) = self.line_of(known, &settings).await?;
            if line.phase == Phase::Gathering {
                stage = Stage::Before;
            }
            stands = Some(line);
            row = renewed.or(row);
        }
        let line = row.as_ref().map_or(id.uuid(), QueueRow::line);
        // A room that opens at once draws nobody.
        let draws = settings.mode != QueueMode::Off && settings.doors_open_at.is_some();
        let commitment = row.as_ref().filter(|_| draws && stands.is_none()).map(|row| row.seed.commitment());
        let commitment = stands.as_ref().and_then(|line: &Line| line.commitment).or(commitment);
        let state = row.map(|row| row.state).unwrap_or_default();
        let at = self.clock.now();
        let rendered = std::sync::OnceLock::new();
        Ok(Arc::new(View {
            event: id,
            stage,
            settings,
            state,
            line,
            stands,
            commitment,
            arrivals_per_second,
            at,
            read_at,
            rendered,
        }))
    }

    /// The line of a waiting room, made where there is none yet or where it was lost, with its doors as they are set.
    async fn line_of(&self, row: &QueueRow, settings: &Settings) -> Result<(Line, Option<QueueRow>), Error> {
        let lines = self.queues.lines();
        let opening = |row: &QueueRow| match settings.doors_open_at {
            // In the past too: the store's clock decides whether they are open.
            Some(opens_at) => Opening::Lottery { opens_at, seed: row.seed.clone() },
            None => Opening::Now,
        };
        let (mut row, mut renewed) = (row.clone(), false);
        let found = lines.line(row.line()).await?;
        if found.is_none() && row.made {
            tracing::error!(event.id = %row.event, "the line of the waiting room was lost; those who waited join again");
            self.store.line_lost(row.event, row.generation).await?;
            row = self.store.queue(row.event).await?.unwrap_or(row);
            renewed = true;
        }
        let line = match found {
            Some(line) if line.phase != Phase::Gathering || settings.doors_open_at == Some(line.opens_at) => line,
            _ => lines.create(row.line(), opening(&row)).await?,
        };
        if !row.made {
            self.store.line_made(row.event, row.generation).await?;
        }
        Ok((line, renewed.then_some(row)))
    }

    /// Draws the seed of an event that gets a waiting room: before the event is shown, so that the commitment to it is
    /// there from the first moment on. Who dies after this leaves a seed that the next one takes.
    pub(crate) async fn draw_seed(&self, event: &Event) -> Result<(), Error> {
        if event.details.queue.mode == QueueMode::Off || event.status != Status::Published {
            return Ok(());
        }
        self.store.open_queue(event.id, new_seed()?).await
    }

    /// Sets what the organiser says; what it leaves out stays.
    ///
    /// # Errors
    /// [`Error::BadRequest`]; those of [`App::queue`].
    pub async fn control_queue(&self, event: EventId, control: &Control) -> Result<Arc<View>, Error> {
        self.set_queue(event, control, None).await
    }

    /// The same under a key: the same request again changes nothing, and shows how the room stands by then.
    ///
    /// # Errors
    /// [`Error::KeyReused`]; those of [`App::control_queue`].
    pub async fn control_queue_once(
        &self,
        request: &Request,
        event: EventId,
        control: &Control,
    ) -> Result<Arc<View>, Error> {
        // Plain structs always serialise.
        let content = serde_json::to_vec(control).unwrap_or_default();
        let asked = request.asked([b"queue".as_slice(), event.to_string().as_bytes(), &content]);
        self.set_queue(event, control, Some(asked)).await
    }

    async fn set_queue(&self, event: EventId, control: &Control, asked: Option<Asked>) -> Result<Arc<View>, Error> {
        control.check()?;
        if self.store.queue(event).await?.is_none() {
            self.store.open_queue(event, new_seed()?).await?;
        }
        self.store.control_queue(event, control.clone(), asked).await?;
        self.refresh_queue(event).await
    }

    /// The events whose waiting rooms may have to be served.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events_with_queue(&self) -> Result<Vec<EventId>, Error> {
        self.store.events_with_queue().await
    }

    /// Lets in whoever may come in now; how many did.
    ///
    /// # Errors
    /// Those of [`App::queue`].
    pub async fn admit_next(&self, event: EventId) -> Result<u64, Error> {
        let room = self.queues.room(event);
        let view = self.view(&room, ADMIT_BY).await?;
        let Some(line) = view.stands.as_ref().filter(|_| view.stage == Stage::Open) else { return Ok(0) };
        let closed_by_itself = view.state.closed_by_itself && view.settings.mode == QueueMode::Auto;
        let admitted = room.admitted.swap(0, Ordering::Relaxed);
        if view.settings.paused || (line.waiting == 0 && admitted == 0 && !closed_by_itself) {
            return Ok(0);
        }
        // Where the doors open before the sale, nobody's stay is spent on waiting for it.
        if self.public_event(event).await?.event().check_on_sale(self.clock.now()).is_err() {
            return Ok(0);
        }
        let &Line { joined, serving, waiting, inside, .. } = line;
        let crowd = Crowd { joined, serving, waiting, inside, admitted };
        let mut turns = self.store.take_turns(event, &view.settings, crowd).await?;
        let mut came_in = 0;
        while turns > 0 {
            let most = usize::try_from(turns).unwrap_or(MAX_STEP).min(MAX_STEP);
            let admission = Admission {
                most,
                inside: Some(view.settings.max_inside as usize),
                stay: Duration::from_secs(u64::from(view.settings.admission_ttl_s)),
            };
            let step = self.queues.lines().admit(view.line, admission).await?.members.len();
            room.admitted.fetch_add(step as i64, Ordering::Relaxed);
            came_in += step as u64;
            if step < most {
                break;
            }
            turns -= step as u64;
        }
        if came_in > 0 {
            self.refresh_queue(event).await?;
        }
        Ok(came_in)
    }
}

fn effective(event: &Event, row: Option<&QueueRow>) -> Settings {
    let none = Control::default();
    let control = row.map_or(&none, |row| &row.control);
    Settings::new(&event.details.queue, event.details.on_sale_at, control)
}

/// `Open` where there is a line to look at, whether its doors are open or not.
fn stage(event: &Event, settings: &Settings, row: Option<&QueueRow>, now: tessera_kernel::Timestamp) -> Stage {
    let has_one = match settings.mode {
        QueueMode::Off => false,
        QueueMode::On => true,
        QueueMode::Auto => row.is_some_and(|row| row.state.closed_by_itself),
    };
    let ended = event.details.off_sale_at.unwrap_or(event.starts_at);
    match (has_one, event.status) {
        (false, _) => Stage::None,
        (true, Status::Published) if now < ended => Stage::Open,
        (true, Status::Published) => Stage::Over(format!("the sale ended at {ended}")),
        (true, Status::Cancelled | Status::Draft) => Stage::Over("it was cancelled".into()),
    }
}

fn new_seed() -> Result<Seed, Error> {
    let mut seed = [0; 32];
    let random = ring::rand::SystemRandom::new();
    let refused =
        |_| Error::Setting { reason: "the system gives no randomness for a lottery; check /dev/urandom".into() };
    random.fill(&mut seed).map_err(refused)?;
    Ok(Seed::from_bytes(seed))
}
