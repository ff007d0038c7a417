//! Brings rides and drivers together. Any number of matchers run; an area belongs to who has the claim on it, and a dead one's
//! areas are free within seconds. The claim spares work: that a driver is asked once at a time, and a ride too, rests on the
//! conditional step of the ride ([`crate::store::Step`]).
//!
//! A round takes all rides that wait in the matcher's areas at once: one question for who was asked before, one for the drivers,
//! and the offers go out together, so that they share transactions. Where another was faster, the ride chooses again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tessera_kernel::{Place, Timestamp, Uuid};
use tessera_store::claims::{Acquire, Acquired, Claim};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::dispatch::{Candidate, Matching, Policy, Wish};
use crate::domain::ids::{DriverId, OfferId, RideId};
use crate::domain::ride::{Command, NewOffer, Ride};
use crate::routes::{Crow, Routes};
use crate::store::{Behind, Driver, Step, Stepped, Waiting};

/// How often it looks where nothing wakes it.
pub const EVERY: Duration = Duration::from_millis(500);
/// What wakes it has company at a busy hour: so long it waits for more, and that is how often it looks at the most.
pub const GATHER: Duration = Duration::from_millis(20);
/// How long an area belongs to a matcher that does not say anything.
const OWNED: Duration = Duration::from_secs(5);
/// After how long it says something.
const EXTENDED: Duration = Duration::from_millis(1_500);
/// How long a claim on anything may last, with all extensions.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Rides of an area in one round that have waited longest, and of a longer line as many behind them: those have a turn one after the
/// other, so that no number of rides for which there is nobody hides the rest.
const ROUND: u32 = 200;
/// Rides that choose on this thread; it takes less than half a millisecond.
const FEW: usize = 24;
/// How often a ride chooses again within a round, because another was faster.
pub const PASSES: usize = 10;
/// Searches for the nearest at a time, where positions are in Redis.
const LOOKS: usize = 32;
/// Tables of ways that are asked for at a time, where they come over HTTP.
const TABLES: usize = 8;
/// Offers that are written at a time.
const OFFERS: usize = 256;
/// How much longer than its offer a claim on a driver lasts, so that the answer finds it.
const SLACK: Duration = Duration::from_secs(5);
/// The partition of claims on areas.
const AREAS: Uuid = Uuid::from_u128(0x6172_6561);
/// The partition of claims on drivers.
const DRIVERS: Uuid = Uuid::from_u128(0x6472_6976);

/// Matches until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(app: App, stop: CancellationToken) -> Result<(), String> {
    let mut matcher = Matcher::new(app.clone());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(matcher.pause()) => {}
            () = app.wake.notified() => tokio::time::sleep(GATHER).await,
        }
        tokio::select! {
            () = stop.cancelled() => break,
            done = matcher.round() => {
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "matching failed; it is tried again");
                }
            }
        }
    }
    matcher.give_back().await;
    Ok(())
}

/// A matcher and the areas that it owns.
pub struct Matcher {
    app: App,
    me: Uuid,
    owned: HashMap<u64, Owned>,
    /// When the window in which `balanced` collects rides closes.
    closes: Option<Timestamp>,
}

/// The claim on an area, and when it was made or extended.
struct Owned {
    claim: Claim,
    at: Timestamp,
    /// Up to whom of a long line it has looked; nothing where it begins anew.
    behind: Option<Behind>,
}

/// A ride that looks for a driver.
struct Seeker {
    ride: Ride,
    waited: Duration,
    candidates: Vec<Candidate>,
}

/// What came of an offer.
enum Asked {
    /// The driver is asked, or the ride needs nobody any more.
    Settled,
    /// The driver belongs to another.
    Taken,
}

impl Matcher {
    /// One that owns nothing.
    pub fn new(app: App) -> Self {
        let me = app.ids.next();
        Self { app, me, owned: HashMap::new(), closes: None }
    }

    /// Looks once at every area where somebody waits.
    ///
    /// # Errors
    /// Those of the database and the claims.
    pub async fn round(&mut self) -> Result<(), Error> {
        let lines = self.app.store.lines().await?;
        self.own(&lines).await?;
        let lines: Vec<_> = self.owned.iter().map(|(area, owned)| (*area, owned.behind)).collect();
        let (waiting, behind) = match lines.is_empty() {
            true => Default::default(),
            false => self.app.store.waiting(&lines, ROUND).await?,
        };
        for (area, owned) in &mut self.owned {
            owned.behind = behind.get(area).copied();
        }
        let rides = self.due(waiting);
        if rides.is_empty() { Ok(()) } else { self.find_drivers(rides).await }
    }

    /// Gives all areas back.
    pub async fn give_back(&mut self) {
        for (_, owned) in self.owned.drain() {
            // It lapses by itself within seconds.
            let _ = self.app.claims.release(owned.claim).await;
        }
    }

    /// How long nothing is to be done, unless something wakes it.
    fn pause(&self) -> Duration {
        self.closes.map_or(EVERY, |closes| closes.since(self.app.clock.now()).min(EVERY).max(GATHER))
    }

    /// Gives back the areas where nobody waits, and takes or keeps the others as far as they are nobody else's.
    async fn own(&mut self, lines: &[Waiting]) -> Result<(), Error> {
        let (app, me, now) = (&self.app, self.me, self.app.clock.now());
        let waiting: HashSet<u64> = lines.iter().map(|line| line.area).collect();
        let (kept, over): (Vec<_>, Vec<_>) = self.owned.drain().partition(|(area, _)| waiting.contains(area));
        let mut releasing = Vec::with_capacity(over.len());
        for (_, owned) in over {
            releasing.push(app.claims.release(owned.claim));
        }
        let released = join_all(releasing).await;
        let mut before: HashMap<u64, Owned> = kept.into_iter().collect();
        let own = async |area: u64, before: Option<Owned>| -> Result<Option<(u64, Owned)>, Error> {
            if let Some(owned) = before {
                if now.since(owned.at) < EXTENDED {
                    return Ok(Some((area, owned)));
                }
                if app.claims.extend(owned.claim.clone(), OWNED).await?.is_some() {
                    return Ok(Some((area, Owned { at: now, ..owned })));
                }
            }
            let wish = Acquire {
                partition: AREAS,
                resources: vec![Uuid::from_u64_pair(AREAS.as_u64_pair().1, area)],
                holder: me,
                ttl: OWNED,
                longest: LONGEST,
            };
            Ok(match app.claims.acquire(wish).await? {
                Acquired::Claim(claim) => Some((area, Owned { claim, at: now, behind: None })),
                Acquired::Taken { .. } => None,
            })
        };
        let mut taking = Vec::with_capacity(waiting.len());
        for area in waiting {
            let before = before.remove(&area);
            taking.push(own(area, before));
        }
        let taken = join_all(taking).await;
        let mut failed = released.into_iter().find_map(Result::err).map(Error::from);
        for taken in taken {
            match taken {
                Ok(taken) => self.owned.extend(taken),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Who of those that wait has a turn now: with `fifo` all; with `balanced` all once the window closes, and until then who
    /// was asked for before.
    fn due(&mut self, mut waiting: Vec<Ride>) -> Vec<Ride> {
        let rules = &self.app.config.matching;
        if rules.policy == Policy::Fifo {
            return waiting;
        }
        if waiting.is_empty() {
            self.closes = None;
            return waiting;
        }
        let now = self.app.clock.now();
        let window = Duration::from_millis(u64::from(rules.window_ms));
        if now >= *self.closes.get_or_insert(now.plus(window)) {
            self.closes = None;
        } else {
            waiting.retain(|ride| ride.offers > 0);
        }
        waiting
    }

    /// Asks drivers for rides, who wait longest first, and tells those for whom there is nobody.
    async fn find_drivers(&self, rides: Vec<Ride>) -> Result<(), Error> {
        let (app, now) = (&self.app, self.app.clock.now());
        let seeker = |ride: Ride| {
            let waited = ride.searching_since.map_or(Duration::ZERO, |since| now.since(since));
            Seeker { ride, waited, candidates: Vec::new() }
        };
        let mut seekers: Vec<Seeker> = rides.into_iter().map(seeker).collect();
        let mut taken: HashSet<DriverId> = HashSet::new();
        let mut failed: Vec<Error> = Vec::new();
        for _ in 0..PASSES {
            self.look(&mut seekers, &taken).await?;
            let (seeking, alone): (Vec<_>, Vec<_>) = seekers.into_iter().partition(|one| !one.candidates.is_empty());
            failed.extend(self.give_up(&alone).await);
            seekers = seeking;
            if seekers.is_empty() {
                break;
            }
            let seeking = seekers.iter().map(|one| (one.waited, one.candidates.clone())).collect();
            let chosen = choose(&app.config.matching, seeking).await;
            let pairs: Vec<(RideId, Candidate)> = seekers
                .iter()
                .zip(chosen)
                .filter_map(|(one, place)| Some((one.ride.id, *one.candidates.get(place?)?)))
                .collect();
            taken.extend(pairs.iter().map(|(_, candidate)| candidate.driver));
            let mut asking = Vec::with_capacity(pairs.len());
            for (ride, candidate) in pairs {
                asking.push(async move { (ride, self.ask(ride, candidate).await) });
            }
            let answers: Vec<_> = stream::iter(asking).buffer_unordered(OFFERS).collect().await;
            let mut over: HashSet<RideId> = HashSet::new();
            for (ride, asked) in answers {
                match asked {
                    Ok(Asked::Taken) => continue,
                    Ok(Asked::Settled) => {}
                    // One that cannot be matched now does not keep the others.
                    Err(error) => failed.push(error),
                }
                over.insert(ride);
            }
            seekers.retain(|one| !over.contains(&one.ride.id));
            for one in &mut seekers {
                one.candidates.retain(|candidate| !taken.contains(&candidate.driver));
            }
        }
        let rides = failed.len();
        if let Some(error) = failed.pop() {
            tracing::warn!(rides, error = &error as &dyn std::error::Error, "rides wait on");
        }
        Ok(())
    }

    /// Finds candidates for those who have none.
    async fn look(&self, seekers: &mut [Seeker], taken: &HashSet<DriverId>) -> Result<(), Error> {
        let (app, rules) = (&self.app, &self.app.config.matching);
        let now = app.clock.now();
        let mut looking: Vec<&mut Seeker> = seekers.iter_mut().filter(|one| one.candidates.is_empty()).collect();
        let ids: Vec<RideId> = looking.iter().map(|one| one.ride.id).collect();
        let asked = app.store.asked(&ids).await?;
        let asked = &asked;
        let mut looks = Vec::with_capacity(looking.len());
        for one in &looking {
            let (ride, pickup, radius) = (one.ride.id, one.ride.estimate.pickup, rules.radius(one.waited));
            looks.push(async move {
                let fits = |driver| !taken.contains(&driver) && !asked.contains(&(ride, driver));
                app.locations.nearest(pickup, rules.candidates as usize, radius, now, fits).await
            });
        }
        let found: Vec<_> = stream::iter(looks).buffered(LOOKS).collect().await;
        let mut near: Vec<Vec<(DriverId, Place)>> = Vec::with_capacity(found.len());
        for found in found {
            let found = found.unwrap_or_else(|error| {
                // The search ends in its time all the same.
                tracing::warn!(error = &error as &dyn std::error::Error, "nobody is near as far as is known");
                Vec::new()
            });
            near.push(found.into_iter().map(|near| (near.driver, near.place)).collect());
        }
        let mut ids: Vec<DriverId> = near.iter().flatten().map(|(driver, _)| *driver).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let rows: HashMap<DriverId, Driver> =
            app.store.drivers(&ids).await?.into_iter().map(|driver| (driver.id, driver)).collect();
        let mut tables = Vec::with_capacity(looking.len());
        for (one, near) in looking.iter().zip(&near) {
            let places: Vec<Place> = near.iter().map(|(_, place)| *place).collect();
            tables.push(self.times(one.ride.estimate.pickup, places));
        }
        let times: Vec<Vec<Option<f64>>> = stream::iter(tables).buffered(TABLES).collect().await;
        for ((one, near), times) in looking.iter_mut().zip(&near).zip(times) {
            let candidate = |((driver, _), eta_s): (&(DriverId, Place), Option<f64>)| {
                let row = rows.get(driver).filter(|row| row.approved && row.on_duty)?;
                let idle = now.since(row.idle_since);
                Some(Candidate { driver: *driver, eta_s: eta_s?, offered: row.offered, accepted: row.accepted, idle })
            };
            one.candidates = near.iter().zip(times).filter_map(candidate).collect();
        }
        Ok(())
    }

    /// Seconds by road from each to the pickup, or by line where the roads cannot be asked.
    async fn times(&self, pickup: Place, places: Vec<Place>) -> Vec<Option<f64>> {
        if places.is_empty() {
            return Vec::new();
        }
        // Our own roads take most of a millisecond: others have a turn in between.
        tokio::task::yield_now().await;
        match self.app.routes.table(&places, pickup).await {
            Ok(times) => times,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "drivers are compared by straight lines");
                Crow.table(&places, pickup).await.unwrap_or_default()
            }
        }
    }

    /// Tells who has looked long enough that there is nobody, or nobody yet; gives what failed.
    async fn give_up(&self, alone: &[Seeker]) -> Vec<Error> {
        let (app, rules) = (&self.app, &self.app.config.matching);
        let most = Duration::from_secs(u64::from(rules.search_s));
        let command = |ride: &Ride| match rules.keep_place {
            false => Some(Command::GiveUp(most)),
            true => (!ride.knows_of_nobody()).then_some(Command::WaitOn(most)),
        };
        let mut steps = Vec::new();
        for one in alone.iter().filter(|one| one.waited >= most) {
            let Some(command) = command(&one.ride) else { continue };
            steps.push(app.store.step(Step { ride: one.ride.id, command, rider: None }));
        }
        join_all(steps).await.into_iter().filter_map(Result::err).collect()
    }

    /// Offers a ride to a driver.
    async fn ask(&self, ride: RideId, candidate: Candidate) -> Result<Asked, Error> {
        let app = &self.app;
        let window = Duration::from_secs(u64::from(app.config.matching.offer_s));
        let id = OfferId::from(app.ids.next());
        let wish = Acquire {
            partition: DRIVERS,
            resources: vec![candidate.driver.uuid()],
            holder: id.uuid(),
            ttl: window + SLACK,
            longest: LONGEST,
        };
        let Acquired::Claim(claim) = app.claims.acquire(wish).await? else { return Ok(Asked::Taken) };
        let eta_s = candidate.eta_s.round() as u32;
        let offer = NewOffer { id, driver: candidate.driver, token: claim.token, window, eta_s };
        let stepped = app.store.step(Step { ride, command: Command::Offer(offer), rider: None }).await;
        // From here on the row is the truth; the claim was for the choice, and lapses where it cannot be given back.
        let released = app.claims.release(claim).await;
        let stepped = stepped?;
        released?;
        // Where it is refused, the ride was cancelled meanwhile, or another matcher was faster.
        Ok(if matches!(stepped, Stepped::DriverBound(_)) { Asked::Taken } else { Asked::Settled })
    }
}

/// Which of its candidates each ride has, after its wait. Many rides choose on a thread of their own.
async fn choose(rules: &Matching, seeking: Vec<(Duration, Vec<Candidate>)>) -> Vec<Option<usize>> {
    let (count, rules) = (seeking.len(), rules.clone());
    let choose = move || {
        let wishes: Vec<Wish<'_>> =
            seeking.iter().map(|(waited, candidates)| Wish { waited: *waited, candidates }).collect();
        rules.choose(&wishes)
    };
    if count <= FEW {
        return choose();
    }
    tokio::task::spawn_blocking(choose).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The process is stopping.
        Err(_) => vec![None; count],
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Rides that all want the same drivers, fewer than they are.
    fn seeking(rides: u64) -> Vec<(Duration, Vec<Candidate>)> {
        let candidate = |n: u64| Candidate {
            driver: Uuid::from_u128(u128::from(n % (rides / 2 + 1))).into(),
            eta_s: (n * 7 % 600) as f64,
            offered: 0,
            accepted: 0,
            idle: Duration::ZERO,
        };
        (0..rides).map(|ride| (Duration::from_secs(ride % 60), (ride..ride + 10).map(candidate).collect())).collect()
    }

    #[test]
    fn many_rides_choose_elsewhere_and_few_here() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(many_choose_elsewhere());
    }

    async fn many_choose_elsewhere() {
        for policy in [Policy::Fifo, Policy::Balanced] {
            let rules = Matching { policy, ..Matching::default() };
            assert!(choose(&rules, seeking(20)).now_or_never().is_some());
            let many = seeking(2_500);
            // The one thread for it has something else to do still.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let other = tokio::task::spawn_blocking(move || busy.recv().is_err());
            let choosing = tokio::spawn({
                let (rules, many) = (rules.clone(), many.clone());
                async move { choose(&rules, many).await }
            });
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(!choosing.is_finished(), "other tasks have a turn meanwhile");
            drop(free);
            assert!(other.await.unwrap());
            let chosen = choosing.await.unwrap();
            let drivers: HashSet<DriverId> =
                many.iter().zip(&chosen).filter_map(|((_, row), at)| Some(row[(*at)?].driver)).collect();
            assert_eq!(drivers.len(), chosen.iter().flatten().count(), "no driver is given twice");
            assert!(drivers.len() > 900, "{}", drivers.len());
        }
    }
}
