//! Brings rides and drivers together, an area at a time. Any number of matchers run; an area belongs to who has the claim on it,
//! and a dead one's areas are free within seconds. The claim spares work: that a driver is asked once at a time, and a ride too,
//! rests on the conditional step of the ride ([`crate::store::Step`]).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tessera_kernel::{Place, Uuid};
use tessera_store::claims::{Acquire, Acquired, Claim};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::app::App;
use crate::domain::dispatch::Candidate;
use crate::domain::ids::{DriverId, OfferId};
use crate::domain::ride::{Command, NewOffer, Ride};
use crate::routes::{Crow, Routes};
use crate::store::{Step, Stepped};

/// How often it looks where nothing wakes it.
const EVERY: Duration = Duration::from_millis(500);
/// How long an area belongs to a matcher that does not say anything.
const OWNED: Duration = Duration::from_secs(5);
/// How long a claim on anything may last, with all extensions.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Rides of an area in one round.
const ROUND: u32 = 200;
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
            () = tokio::time::sleep(EVERY) => {}
            () = app.wake.notified() => {}
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
    owned: HashMap<u64, Claim>,
}

impl Matcher {
    /// One that owns nothing.
    pub fn new(app: App) -> Self {
        let me = app.ids.next();
        Self { app, me, owned: HashMap::new() }
    }

    /// Looks once at every area where somebody waits.
    ///
    /// # Errors
    /// Those of the database and the claims.
    pub async fn round(&mut self) -> Result<(), Error> {
        let lines = self.app.store.lines().await?;
        let waiting: HashSet<u64> = lines.iter().map(|line| line.area).collect();
        let over: Vec<u64> = self.owned.keys().copied().filter(|area| !waiting.contains(area)).collect();
        for area in over {
            if let Some(claim) = self.owned.remove(&area) {
                self.app.claims.release(claim).await?;
            }
        }
        for line in lines {
            if self.own(line.area).await? {
                for ride in self.app.store.waiting(line.area, ROUND).await? {
                    // One that cannot be matched now does not keep the others.
                    if let Err(error) = self.find_driver(&ride).await {
                        tracing::warn!(ride.id = %ride.id, error = &error as &dyn std::error::Error, "a ride waits on");
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives all areas back.
    pub async fn give_back(&mut self) {
        for (_, claim) in self.owned.drain() {
            // It lapses by itself within seconds.
            let _ = self.app.claims.release(claim).await;
        }
    }

    /// Whether the area is this matcher's for the next seconds.
    async fn own(&mut self, area: u64) -> Result<bool, Error> {
        if let Some(claim) = self.owned.get(&area) {
            if self.app.claims.extend(claim.clone(), OWNED).await?.is_some() {
                return Ok(true);
            }
            self.owned.remove(&area);
        }
        let wish = Acquire {
            partition: AREAS,
            resources: vec![Uuid::from_u64_pair(AREAS.as_u64_pair().1, area)],
            holder: self.me,
            ttl: OWNED,
            longest: LONGEST,
        };
        Ok(match self.app.claims.acquire(wish).await? {
            Acquired::Claim(claim) => {
                self.owned.insert(area, claim);
                true
            }
            Acquired::Taken { .. } => false,
        })
    }

    /// Asks the best driver for a ride, or tells that there is none.
    async fn find_driver(&self, ride: &Ride) -> Result<(), Error> {
        let (app, rules) = (&self.app, &self.app.config.matching);
        let now = app.clock.now();
        let waited = ride.searching_since.map_or(Duration::ZERO, |since| now.since(since));
        let asked: HashSet<DriverId> = app.store.asked(ride.id).await?.into_iter().collect();
        let pickup = ride.estimate.pickup;
        let fits = |driver| !asked.contains(&driver);
        let near = app.locations.nearest(pickup, rules.candidates as usize, rules.radius(waited), now, fits).await;
        let near = near.unwrap_or_else(|error| {
            // The search ends in its time all the same.
            tracing::warn!(error = &error as &dyn std::error::Error, "nobody is near as far as is known");
            Vec::new()
        });
        let places: Vec<Place> = near.iter().map(|near| near.place).collect();
        let times = match app.routes.table(&places, pickup).await {
            Ok(times) => times,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "drivers are compared by straight lines");
                Crow.table(&places, pickup).await?
            }
        };
        let ids: Vec<DriverId> = near.iter().map(|near| near.driver).collect();
        let rows: HashMap<DriverId, _> =
            app.store.drivers(&ids).await?.into_iter().map(|driver| (driver.id, driver)).collect();
        let candidates = near.iter().zip(times).filter_map(|(near, eta_s)| {
            let row = rows.get(&near.driver).filter(|row| row.approved && row.on_duty)?;
            let idle = now.since(row.idle_since);
            Some(Candidate { driver: near.driver, eta_s: eta_s?, offered: row.offered, accepted: row.accepted, idle })
        });
        for candidate in rules.ranked(candidates.collect()) {
            if self.ask(ride, &candidate).await? {
                return Ok(());
            }
        }
        let most = Duration::from_secs(u64::from(rules.search_s));
        if waited >= most && !rules.keep_place {
            app.store.step(Step { ride: ride.id, command: Command::GiveUp(most), rider: None }).await?;
        }
        Ok(())
    }

    /// Offers a ride to a driver. Whether the ride needs no other one now.
    async fn ask(&self, ride: &Ride, candidate: &Candidate) -> Result<bool, Error> {
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
        let Acquired::Claim(claim) = app.claims.acquire(wish).await? else { return Ok(false) };
        let eta_s = candidate.eta_s.round() as u32;
        let offer = NewOffer { id, driver: candidate.driver, token: claim.token, window, eta_s };
        let step = Step { ride: ride.id, command: Command::Offer(offer), rider: None };
        let stepped = app.store.step(step).await?;
        // From here on the row is the truth; the claim was for the choice.
        app.claims.release(claim).await?;
        // Where it is refused, the ride was cancelled meanwhile, or another matcher was faster.
        Ok(!matches!(stepped, Stepped::DriverBound(_)))
    }
}
