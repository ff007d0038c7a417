//! A city: riders who want to go somewhere, drivers who move along the roads and are asked, and the books when all have gone.

mod audit;
mod drivers;
mod edge;
pub mod report;
mod riders;
pub mod small;
mod street;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use rand::rngs::StdRng;
use tessera_kernel::{Clock, Place, Timestamp};
use tessera_service::Keys;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::drivers::Driver;
use self::report::Report;
use self::riders::Visit;
use self::street::Street;
use self::tally::{Count, Outcome, Tally};
use super::stage::People;
use crate::Error;
use crate::client::Client;
use crate::domain::book::Rules;
use crate::domain::demand::{Demand, Trips, digest};
use crate::domain::party::{Answer, Manner, Rider};
use crate::domain::roads::Roads;
use crate::rides::CityMap;

pub use self::edge::Form;

/// Between two lines about how it goes.
const TELLS_EVERY: Duration = Duration::from_secs(5);
/// Drivers who sign up at the same time: the server writes them in batches.
const SIGN_UP: usize = 32;
/// Who is still under way when the last rider has come decides and drives at least so many times faster than in life, as far as
/// cars can: a run ends soon.
const HURRY: f64 = 20.0;
/// How the names of the people of a run begin.
pub const RUN: &str = "sim-";
/// Answers of a driver that count for the digest of a run.
const ANSWERS: u64 = 20;

/// Where the trips come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Town {
    /// Trips that were made in Porto.
    Porto,
    /// Between random junctions of the server's map.
    OfMap,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the server is.
    pub url: String,
    /// Which city.
    pub town: Town,
    /// No trip's line is longer, metres.
    pub longest_m: Option<f64>,
    /// How many drivers.
    pub drivers: u64,
    /// How many riders.
    pub demand: Demand,
    /// Everything that people decide comes from it.
    pub seed: u64,
    /// How many times faster than in life people decide and cars drive.
    pub pace: f64,
    /// In which form positions are sent.
    pub form: Form,
    /// Connections, streams apart.
    pub connections: usize,
    /// How long rides may take to end when the last rider has come.
    pub settles_in: Duration,
    /// The server's.
    pub rules: Rules,
}

/// Who runs it.
pub struct By {
    /// Signs the tokens of riders and drivers.
    pub keys: Keys,
    /// The operator's token, where it is not to be signed here.
    pub operator: Option<String>,
    /// What this run is called, beginning with [`RUN`]; another one on the same server needs another name.
    pub tag: String,
    /// The present moment.
    pub clock: Arc<dyn Clock>,
}

/// A city and those who are in it.
struct City {
    client: Client,
    people: People,
    operator: Option<String>,
    clock: Arc<dyn Clock>,
    roads: Option<Roads>,
    trips: Trips,
    seed: u64,
    pace: f64,
    manner: Manner,
    form: Form,
    rules: Rules,
    street: Street,
    tally: Tally,
    /// Whose codes may be read at the pickup: riders whose name begins so.
    strangers: Option<&'static [&'static str]>,
    /// Nobody comes any more.
    closing: CancellationToken,
    /// It is over.
    stop: CancellationToken,
}

impl City {
    /// How many times faster than in life it goes now.
    fn pace(&self) -> f64 {
        if self.closing.is_cancelled() { self.pace.max(HURRY) } else { self.pace }
    }

    /// So long at the city's pace.
    fn paced(&self, time: Duration) -> Duration {
        time.div_f64(self.pace())
    }

    /// The operator's token.
    fn operator(&self) -> Result<String, Error> {
        match &self.operator {
            Some(token) => Ok(token.clone()),
            None => self.people.sign(&format!("{}-operator", self.people.tag()), "operator"),
        }
    }

    /// Where a car may be.
    fn somewhere(&self, rng: &mut StdRng) -> Result<Place, Error> {
        let junction = self.roads.as_ref().and_then(|roads| roads.place(roads.any(rng)?));
        let place = junction.or_else(|| self.trips.draw(rng).map(|trip| trip.pickup));
        place.ok_or_else(|| Error::Usage("the city has neither roads nor trips".into()))
    }

    /// Whether the city's drivers drive this rider. Who runs beside it has drivers of its own, who know the codes.
    async fn serves(&self, ride: &str) -> Result<bool, Error> {
        if self.street.meeting(ride).is_some() {
            return Ok(true);
        }
        if self.strangers.is_none() {
            return Ok(false);
        }
        let rider = self.client.ride(ride, &self.operator()?).await?.ride.rider;
        Ok(rider.is_none_or(|rider| !rider.starts_with(RUN)))
    }

    /// The code of a rider whom the city does not know, as if it was told through the car's window; `None` where it is not told.
    async fn code_of_stranger(&self, ride: &str) -> Result<Option<String>, Error> {
        let Some(prefixes) = self.strangers else { return Ok(None) };
        small::code(&self.client, &self.people, &self.operator()?, ride, prefixes).await
    }
}

/// The map and the trips of a town.
async fn survey(
    client: &Client,
    town: Town,
    longest_m: Option<f64>,
    seed: u64,
) -> Result<(Option<Roads>, Trips), Error> {
    let map = client.city_map().await?;
    let trips = match (town, &map) {
        (Town::Porto, None) => Trips::porto().map_err(Error::Usage)?,
        (Town::Porto, Some(CityMap { south_west, north_east, .. })) => {
            Trips::porto().map_err(Error::Usage)?.within(*south_west, *north_east)
        }
        (Town::OfMap, Some(CityMap { roads, .. })) => Trips::between_junctions(roads, seed),
        (Town::OfMap, None) => {
            let text = "the server has no map to draw trips from; give it one with `tessera rides import`, or say `--city porto`";
            return Err(Error::Usage(text.into()));
        }
    };
    if trips.is_empty() {
        let (town, other) = match town {
            Town::Porto => ("porto", "map"),
            Town::OfMap => ("map", "porto"),
        };
        let text =
            format!("`--city {town}`: no trip lies on the server's roads; say `--city {other}` or import another map");
        return Err(Error::Usage(text));
    }
    let trips = match longest_m {
        Some(longest_m) => trips.up_to(longest_m),
        None => trips,
    };
    if let (Some(longest_m), true) = (longest_m, trips.is_empty()) {
        return Err(Error::Usage(format!("`--longest {longest_m}`: no trip is so short; give more metres")));
    }
    Ok((map.map(|map| map.roads), trips))
}

/// Runs it, with a line about how it goes now and then.
///
/// # Errors
/// What keeps it from being set up or checked. What went wrong for somebody is in the report.
pub async fn run(plan: &Plan, by: By, tell: impl Fn(String) + Send + 'static) -> Result<Report, Error> {
    let client = Client::new(&plan.url, plan.connections)?;
    let (roads, trips) = survey(&client, plan.town, plan.longest_m, plan.seed).await?;
    let wanted = plan.demand.all(plan.seed, &trips);
    let draw = |(index, wanted)| Rider::draw(plan.seed, index as u64, wanted, Manner::Everyday);
    let riders: Vec<Rider> = wanted.into_iter().enumerate().map(draw).collect();
    let answers = (0..plan.drivers).flat_map(|driver| (0..ANSWERS).map(move |offer| (driver, offer)));
    let answers = answers.map(|(driver, offer)| Answer::draw(plan.seed, driver, offer, Manner::Everyday));
    let decisions =
        digest(riders.iter().map(|rider| format!("{rider:?}")).chain(answers.map(|answer| format!("{answer:?}"))));
    let has_roads = roads.is_some();
    let city = Arc::new(City {
        client,
        people: People::new(by.keys, by.tag),
        operator: by.operator,
        clock: by.clock,
        roads,
        trips,
        seed: plan.seed,
        pace: plan.pace,
        manner: Manner::Everyday,
        form: plan.form,
        rules: plan.rules,
        street: Street::default(),
        tally: Tally::new(true),
        strangers: None,
        closing: CancellationToken::new(),
        stop: CancellationToken::new(),
    });
    let tasks = open(&city, plan.drivers).await?;
    let ways = if has_roads { "along the roads of its map" } else { "in straight lines, since the server has no map" };
    tell(format!("{} drivers are on duty and drive {ways}; {} riders will come", plan.drivers, riders.len()));
    let began = Instant::now();
    let telling = tokio::spawn(tell_now_and_then(Arc::clone(&city), began, tell));
    let (closed, unfinished) = come(&city, riders, began, plan).await;
    let took = began.elapsed();
    telling.abort();
    city.stop.cancel();
    tasks.close();
    tasks.wait().await;
    let audit = audit::check(&city, unfinished).await?;
    end_shifts(&city, plan.drivers).await?;
    Ok(Report::new(&city, plan, decisions, took, closed, audit))
}

/// Puts drivers on duty and lets them drive.
async fn open(city: &Arc<City>, drivers: u64) -> Result<TaskTracker, Error> {
    let tasks = TaskTracker::new();
    let signing = stream::iter((0..drivers).map(|number| Driver::begin(city, number))).buffer_unordered(SIGN_UP);
    tasks.spawn(edge::run(Arc::clone(city)));
    let started = signing
        .try_for_each(|driver| {
            tasks.spawn(driver.run());
            std::future::ready(Ok(()))
        })
        .await;
    if let Err(error) = started {
        city.stop.cancel();
        return Err(error);
    }
    Ok(tasks)
}

async fn end_shifts(city: &City, drivers: u64) -> Result<(), Error> {
    let ending = stream::iter((0..drivers).map(|number| Driver::end(city, number))).buffer_unordered(SIGN_UP);
    // One whose ride did not end stays on duty; the books say so already.
    ending.for_each(|_| std::future::ready(())).await;
    Ok(())
}

/// All riders, each at its time; gives when the last one had come, and how many were not done in the end.
async fn come(city: &Arc<City>, riders: Vec<Rider>, began: Instant, plan: &Plan) -> (Timestamp, u64) {
    let visits = TaskTracker::new();
    for rider in riders {
        sleep_until(began + rider.wanted.at).await;
        let visit = Visit::new(city, rider);
        let stop = city.stop.clone();
        visits.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = visit.run() => {}
            }
        });
    }
    sleep_until(began + plan.demand.lasts).await;
    let closed = city.clock.now();
    city.closing.cancel();
    visits.close();
    // How many are left is what counts, not that there was a limit.
    let _ = timeout(plan.settles_in, visits.wait()).await;
    (closed, visits.len() as u64)
}

async fn tell_now_and_then(city: Arc<City>, began: Instant, tell: impl Fn(String)) {
    let mut is_over = false;
    loop {
        sleep(TELLS_EVERY).await;
        if city.closing.is_cancelled() && !std::mem::replace(&mut is_over, true) {
            tell("nobody comes any more; those who are under way are driven to the end, and faster".to_owned());
        }
        let tally = &city.tally;
        let ended = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| tally.outcome(*outcome)).sum::<u64>();
        let (requested, matched) = (tally.of(Count::Requested), tally.of(Count::Matched));
        let unmatched = ended(&[Outcome::NoDriver, Outcome::LeftLine]);
        let after = ended(&[Outcome::Rode, Outcome::Regretted, Outcome::Absent]);
        let surge = match city.operator() {
            Ok(token) => city.client.areas(&token).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let surge = surge.iter().map(|area| area.surge).fold(1.0, f64::max);
        tell(format!(
            "{:>4} s  {requested} requests, {} wait, {matched} matched, {} under way, {} done, surge up to {surge:.2}, {} positions",
            began.elapsed().as_secs(),
            requested.saturating_sub(matched + unmatched),
            matched.saturating_sub(after),
            tally.outcome(Outcome::Rode),
            tally.of(Count::Positions),
        ));
    }
}
