//! The few who buy around the visitor of the demo: some holds a second, for as long as it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tessera_service::Keys;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::onsale::attend;
use super::season::Loaded;
use super::stage::{People, Stage};
use super::tally::Outcome;
use crate::Error;
use crate::api::Place;
use crate::client::{Ask, Call, Client};
use crate::domain::fan::{Fan, rng};

/// Between one fan and the next.
const EVERY: Duration = Duration::from_millis(400);
/// About how long each hesitates: long enough for holds to be seen on the map.
const HESITATES: Duration = Duration::from_secs(4);
/// Fans at the same time; those who wait in a line are among them.
const AT_ONCE: usize = 400;
/// Of an event so many hundredths are left to the visitor.
const LEFT_ALONE: u32 = 30;
/// How often who waits in a line asks, and for how long.
const ASKS_EVERY: Duration = Duration::from_secs(8);
const ASKS: u32 = 150;
/// After so many visits what is counted of an event is forgotten.
const MAX_COUNTED: u64 = 20_000;

/// Runs until it is stopped.
pub async fn run(client: Client, keys: Keys, tag: String, season: Loaded, seed: u64, stop: CancellationToken) {
    let crowd = Crowd { client, people: People::new(keys, tag), season };
    let mut stages: HashMap<usize, Arc<Stage>> = HashMap::new();
    let inside = Arc::new(Semaphore::new(AT_ONCE));
    let fans = TaskTracker::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for index in 0.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let Ok(permit) = Arc::clone(&inside).try_acquire_owned() else { continue };
        let Some(at) = crowd.pick(seed, index) else { return };
        stages.retain(|_, stage| stage.tally.visits() < MAX_COUNTED);
        let stage = match stages.get(&at) {
            Some(stage) => Arc::clone(stage),
            None => match crowd.open(at).await {
                Ok(stage) => Arc::clone(stages.entry(at).or_insert(Arc::new(stage))),
                Err(error) => {
                    tracing::debug!(%error, "the crowd of the demo cannot open an event");
                    continue;
                }
            },
        };
        let stop = stop.clone();
        fans.spawn(async move {
            let came = tokio::select! {
                () = stop.cancelled() => return,
                came = come(&stage, seed, index) => came,
            };
            if let Err(error) = came {
                tracing::debug!(%error, "a fan of the demo met an error");
            }
            drop(permit);
        });
    }
    fans.close();
    fans.wait().await;
}

struct Crowd {
    client: Client,
    people: People,
    season: Loaded,
}

impl Crowd {
    /// Half of them want the same event, one in eight waits for the sale behind the waiting room, the others go anywhere.
    fn pick(&self, seed: u64, index: u64) -> Option<usize> {
        let mut rng = rng(!seed, index);
        let events = self.season.events.len();
        match rng.random_range(0..8_u32) {
            0..4 => (events > 0).then_some(0),
            4 if events > 1 => Some(1),
            _ => (events > 0).then(|| rng.random_range(0..events)),
        }
    }

    async fn open(&self, at: usize) -> Result<Stage, Error> {
        Stage::open(self.client.clone(), self.season.events[at].clone(), self.people.clone(), HESITATES).await
    }
}

async fn come(stage: &Stage, seed: u64, index: u64) -> Result<(), Error> {
    let seen = stage.client.event(&stage.event).await?;
    if u64::from(seen.seats.free) * 100 < u64::from(seen.seats.total) * u64::from(LEFT_ALONE) {
        return Ok(());
    }
    let fan = Fan::draw(seed, index, &stage.manner);
    if !seen.queue.active {
        return if seen.on_sale { attended(stage, &fan, None).await } else { Ok(()) };
    }
    let token = stage.people.fan(index)?;
    let key = format!("{index}-join");
    let path = format!("/event/{}/queue", stage.event);
    let mut place: Place = stage.client.fetch(&Ask::post(Call::Join, &path, &token, &key, "")).await?;
    let path = format!("/queue/{}", place.token);
    for _ in 0..ASKS {
        if let Some(admission) = &place.admission {
            let came = attended(stage, &fan, Some(admission)).await;
            let (path, key) = (format!("{path}/leave"), format!("{index}-leave"));
            stage.client.send(&Ask::post(Call::Wait, &path, &token, &key, "")).await?;
            return came;
        }
        sleep(ASKS_EVERY).await;
        place = stage.client.fetch(&Ask::get(Call::Wait, &path, Some(&token))).await?;
    }
    Ok(())
}

async fn attended(stage: &Stage, fan: &Fan, admission: Option<&str>) -> Result<(), Error> {
    match attend(stage, fan, admission).await {
        Outcome::Broken => {
            let (_, reasons) = stage.tally.broken();
            Err(Error::Usage(reasons.last().cloned().unwrap_or_default()))
        }
        _ => Ok(()),
    }
}
