//! An on-sale: an event is made, a crowd comes for it, and when the last one has gone the books are checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tessera_kernel::Timestamp;
use tessera_service::Keys;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::audit;
use super::report::{Fairness, Report};
use super::stage::{House, People, Room as RoomSettings, Stage};
use super::tally::{Outcome, Tally};
use super::visit::Visit;
use super::waiting::{Room, Shared, Waiting, kept_promise};
use crate::Error;
use crate::client::Client;
use crate::domain::fairness::{kendall_tau, overtaken};
use crate::domain::fan::{Fan, Manner, digest};

/// Between two lines about how it goes.
const TELLS_EVERY: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the server is.
    pub url: String,
    /// Everything that fans decide comes from it.
    pub seed: u64,
    /// How many fans come.
    pub fans: u64,
    /// How many of them each second.
    pub rate: f64,
    /// How many bots, and how often each tries.
    pub bots: u64,
    /// See there.
    pub bot_attempts: u32,
    /// Numbered seats.
    pub seats: u32,
    /// Places without numbers.
    pub standing: u32,
    /// How long a hold lasts, seconds.
    pub hold_ttl_s: u32,
    /// About how long a fan hesitates at each step.
    pub hesitates: Duration,
    /// The waiting room: how many may be inside, and after how long its doors open.
    pub room: Option<(u32, Duration)>,
    /// Connections.
    pub connections: usize,
    /// Fans at the sale at the same time; more wait with coming.
    pub at_once: usize,
    /// Whether cards may be drawn that keep one waiting for many seconds.
    pub patient_cards: bool,
    /// How long payments may take to settle at the end.
    pub settles_in: Duration,
}

/// Who runs it.
pub struct By {
    /// Signs the tokens of fans.
    pub keys: Keys,
    /// The organiser's token, where it is not to be signed here.
    pub organiser: Option<String>,
    /// What this run is called; another one on the same server needs another name.
    pub tag: String,
    /// The present moment.
    pub now: Timestamp,
}

/// Runs it, with a line about how it goes now and then.
///
/// # Errors
/// What keeps it from being set up or checked. What went wrong for a fan is in the report.
pub async fn run(plan: &Plan, by: By, tell: impl Fn(String) + Send + 'static) -> Result<Report, Error> {
    let manner = Manner {
        has_seats: plan.seats > 0,
        has_standing: plan.standing > 0,
        hesitates: plan.hesitates,
        patient_cards: plan.patient_cards,
    };
    let decisions = digest(plan.seed, plan.fans, &manner);
    let client = Client::new(&plan.url, plan.connections)?;
    let people = People::new(by.keys, by.tag);
    let organiser = match by.organiser {
        Some(token) => token,
        None => people.sign(&format!("{}-organiser", people.tag()), "organiser")?,
    };
    let room = plan.room.map(|(max_inside, doors)| RoomSettings { max_inside, doors_at: by.now.plus(doors) });
    let house = House { seats: plan.seats, standing: plan.standing, hold_ttl_s: plan.hold_ttl_s, room };
    let event = house.build(&client, &organiser, people.tag(), by.now).await?;
    tell(format!("event {event} with {} seats and {} places is on sale", plan.seats, plan.standing));

    let opened = Stage::open(client, event, people, plan.hesitates).await?;
    let stage = Arc::new(Stage { manner, ..opened });
    let crowd = Crowd::new(plan, Arc::clone(&stage));
    let telling = tokio::spawn(tell_now_and_then(Arc::clone(&stage), Arc::clone(&crowd.arrived), tell));
    let bots: JoinSet<()> = (0..plan.bots)
        .map(|bot| super::bots::run(Arc::clone(&stage), plan.seed, bot, plan.bot_attempts, plan.room.is_some()))
        .collect();
    let fairness = match plan.room {
        None => crowd.come().await,
        Some(_) => crowd.come_through_room().await?,
    };
    bots.join_all().await;
    let took = stage.tally.began().elapsed();
    telling.abort();
    let audit = audit::check(&stage, &organiser, by.now, plan.settles_in, plan.seats + plan.standing).await?;
    Ok(Report::new(&stage, plan, decisions, took, fairness, audit))
}

/// The fans of a run.
struct Crowd {
    stage: Arc<Stage>,
    seed: u64,
    fans: u64,
    rate: f64,
    inside: Arc<Semaphore>,
    at_once: usize,
    arrived: Arc<AtomicU64>,
}

impl Crowd {
    fn new(plan: &Plan, stage: Arc<Stage>) -> Self {
        let inside = Arc::new(Semaphore::new(plan.at_once));
        let (seed, fans, rate, at_once) = (plan.seed, plan.fans, plan.rate, plan.at_once);
        Self { stage, seed, fans, rate, inside, at_once, arrived: Arc::default() }
    }

    /// Each at the time that the rate gives, or as soon as there is room.
    async fn each_arrival<F>(&self, mut arrive: impl FnMut(u64, tokio::sync::OwnedSemaphorePermit) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let began = Instant::now();
        let tasks = TaskTracker::new();
        for index in 0..self.fans {
            let at = began + Duration::from_secs_f64(index as f64 / self.rate);
            // The timer is as coarse as a millisecond: who comes within it comes at once.
            if at > Instant::now() + Duration::from_millis(1) {
                sleep_until(at).await;
            }
            // It is never closed.
            let Ok(permit) = Arc::clone(&self.inside).acquire_owned().await else { return };
            self.arrived.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(arrive(index, permit));
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Straight to the sale.
    async fn come(&self) -> Fairness {
        self.each_arrival(|index, permit| {
            let (stage, fan) = (Arc::clone(&self.stage), Fan::draw(self.seed, index, &self.stage.manner));
            async move {
                attend(&stage, &fan, None).await;
                drop(permit);
            }
        })
        .await;
        let holders = self.stage.tally.holders();
        Fairness { served: holders.len() as u64, in_turn: kendall_tau(&holders), ..Fairness::default() }
    }

    /// Through the waiting room.
    async fn come_through_room(&self) -> Result<Fairness, Error> {
        let room: Shared = Arc::default();
        let promise = Room::serving(&self.stage).await?;
        let joining = self.each_arrival(|index, permit| {
            let (stage, room) = (Arc::clone(&self.stage), Arc::clone(&room));
            async move {
                if let Err(error) = join(&stage, &room, index).await {
                    stage.tally.failed(&error);
                }
                drop(permit);
            }
        });
        let done = Arc::new(AtomicU64::new(0));
        let joined = async {
            joining.await;
            done.store(1, Ordering::SeqCst);
        };
        let (_, admitted) = tokio::join!(joined, self.admit(&room, &done));
        let shown = admitted?;
        let line = room.line();
        Ok(Fairness {
            served: line.admitted,
            by_lot: kendall_tau(&line.by_lot),
            in_turn: kendall_tau(&line.in_turn),
            overtaken: overtaken(&line.joined),
            promise_kept: kept_promise(&promise, &shown),
        })
    }

    /// Lets people in as the serving number rises, until nobody waits or nothing is left to sell.
    async fn admit(&self, room: &Shared, done: &AtomicU64) -> Result<crate::api::Serving, Error> {
        let visits = TaskTracker::new();
        let inside = Arc::new(Semaphore::new(self.at_once));
        let mut shown;
        loop {
            let all_joined = done.load(Ordering::SeqCst) == 1;
            shown = Room::serving(&self.stage).await?;
            if shown.phase == "open" {
                self.learn_numbers(room).await?;
                for waiting in room.called(shown.serving) {
                    let Ok(permit) = Arc::clone(&inside).acquire_owned().await else { break };
                    let (stage, seed) = (Arc::clone(&self.stage), self.seed);
                    visits.spawn(async move {
                        if let Err(error) = admitted(&stage, seed, &waiting).await {
                            stage.tally.failed(&error);
                        }
                        drop(permit);
                    });
                }
                let event = self.stage.client.event(&self.stage.event).await?;
                let sold_out = event.seats.booked == event.seats.total;
                if all_joined && (room.waiting() == 0 || sold_out) {
                    // Who still waits sees that nothing is left, and goes home.
                    (0..room.waiting()).for_each(|_| self.stage.tally.ended(Outcome::SoldOut));
                    break;
                }
            }
            Room::pause().await;
        }
        visits.close();
        visits.wait().await;
        Ok(shown)
    }

    /// Those who came before the doors opened ask for what they drew.
    async fn learn_numbers(&self, room: &Shared) -> Result<(), Error> {
        let mut asking = JoinSet::new();
        for waiting in room.take_gathered() {
            let (stage, room) = (Arc::clone(&self.stage), Arc::clone(room));
            asking.spawn(async move { room.learn_number(&stage, waiting).await });
        }
        asking.join_all().await.into_iter().collect()
    }
}

async fn join(stage: &Stage, room: &Room, index: u64) -> Result<(), Error> {
    let token = stage.people.fan(index)?;
    room.join(stage, index, &token).await
}

async fn admitted(stage: &Stage, seed: u64, waiting: &Waiting) -> Result<(), Error> {
    let fan = Fan::draw(seed, waiting.index, &stage.manner);
    let token = stage.people.fan(fan.index)?;
    let Some(admission) = Room::admission(stage, waiting, &token).await? else {
        stage.tally.ended(Outcome::NotAdmitted);
        return Ok(());
    };
    Visit::new(stage, &fan, &token, Some(&admission)).run().await;
    Room::leave(stage, waiting, &token).await
}

/// A visit without a waiting room.
pub(super) async fn attend(stage: &Stage, fan: &Fan, admission: Option<&str>) -> Outcome {
    match stage.people.fan(fan.index) {
        Ok(token) => Visit::new(stage, fan, &token, admission).run().await,
        Err(error) => {
            stage.tally.failed(&error);
            Outcome::Broken
        }
    }
}

async fn tell_now_and_then(stage: Arc<Stage>, arrived: Arc<AtomicU64>, tell: impl Fn(String)) {
    let mut last = (stage.tally.began(), 0);
    loop {
        tokio::time::sleep(TELLS_EVERY).await;
        let Tally { holds, .. } = &stage.tally;
        let (now, held) = (Instant::now(), holds.load(Ordering::Relaxed));
        let rate = (held - last.1) as f64 / (now - last.0).as_secs_f64();
        last = (now, held);
        tell(format!(
            "{:>4} s  {} fans came, {} left, {} tickets sold, {rate:.0} holds/s",
            (now - stage.tally.began()).as_secs(),
            arrived.load(Ordering::Relaxed),
            stage.tally.visits(),
            stage.tally.tickets(),
        ));
    }
}

/// How many ended how, without those that nobody did.
pub(super) fn outcomes(tally: &Tally) -> BTreeMap<&'static str, u64> {
    let counted = Outcome::ALL.iter().map(|(outcome, name)| (*name, tally.count(*outcome)));
    counted.filter(|(_, count)| *count > 0).collect()
}
