//! The small city of the demo: some dozen drivers and a few riders around the visitor, for as long as it runs.
//!
//! A visitor who rides gets one of its drivers, who learns the rider's code some seconds after arriving, as if it was told through the
//! car's window: the city holds the key of the installation, so it may read it. A visitor who drives gets riders nearby, whom the city's
//! own drivers leave to the visitor for a while; [`told_code`] is what such a rider says at the pickup.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use rand::RngExt;
use tessera_kernel::{Clock, Place, Timestamp};
use tessera_service::Keys;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drivers::Driver;
use super::riders::Visit;
use super::street::Street;
use super::tally::Tally;
use super::{City, Form, Town, edge, survey};
use crate::Error;
use crate::app::stage::People;
use crate::client::{Ask, Call, Client};
use crate::domain::book::{Rules, State};
use crate::domain::demand::{Trip, Wanted};
use crate::domain::fan::rng;
use crate::domain::party::{Manner, Rider};
use crate::rides::Told;

/// Drivers of the city.
const DRIVERS: u64 = 60;
/// Between one rider and the next, on average.
const RIDER_EVERY: Duration = Duration::from_secs(15);
/// How often it looks for a visitor who drives.
const LOOKS_EVERY: Duration = Duration::from_secs(10);
/// How near a rider for a visitor is, metres.
const NEAR_M: f64 = 150.0;
/// Between two riders for the same visitor: about as long as it takes to answer, and to see that there is another.
const VISITOR_EVERY: Duration = Duration::from_secs(30);
/// How long such a ride is left to the visitor.
const LEFT_FOR: Duration = Duration::from_secs(40);
/// Drivers who sign up at the same time.
const SIGN_UP: usize = 8;
/// Riders at the same time.
const AT_ONCE: usize = 60;
/// The name before all people of the city; the same after each start, so that drivers come back on duty.
const TAG: &str = "demo-city";
/// Whose codes the city's drivers learn: visitors of the demo, and riders from before a restart.
const STRANGERS: &[&str] = &["demo-rider", "demo-city-rider-"];
/// Whose codes are told to visitors who drive.
const OWN: &[&str] = &["demo-city-rider-"];
/// Riders draw from randomness of their own.
const RIDERS: u64 = 1 << 46;
/// How long ago a visitor may have gone on duty.
const VISITS: Duration = Duration::from_secs(12 * 3_600);
/// The pause before the city is opened again when the server does not answer yet.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until it is stopped.
pub async fn run(client: Client, keys: Keys, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let began = clock.now();
    let seed = began.micros().unsigned_abs();
    let (roads, trips) = loop {
        tokio::select! {
            () = stop.cancelled() => return,
            surveyed = survey(&client, Town::Porto, None, seed) => match surveyed {
                Ok(surveyed) => break surveyed,
                Err(error @ Error::Usage(_)) => {
                    tracing::warn!(%error, "the city of the demo stays empty");
                    return;
                }
                Err(error) => tracing::debug!(%error, "the city of the demo waits for the server"),
            },
        }
        sleep(AGAIN).await;
    };
    let city = Arc::new(City {
        client,
        people: People::new(keys, TAG),
        operator: None,
        clock,
        roads,
        trips,
        seed,
        pace: 1.0,
        manner: Manner::Kind,
        form: Form::Compact,
        rules: Rules {
            offer_s: 0,
            search_s: None,
            estimate_s: 0,
            cancel_after_s: 0,
            cancel_fee: 0,
            no_show_after_s: 300,
        },
        street: Street::default(),
        tally: Tally::new(false),
        strangers: Some(STRANGERS),
        closing: CancellationToken::new(),
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    tasks.spawn(edge::run(Arc::clone(&city)));
    let mut signing = stream::iter((0..DRIVERS).map(|number| Driver::begin(&city, number))).buffer_unordered(SIGN_UP);
    let mut own = HashSet::new();
    loop {
        let signed = tokio::select! {
            () = stop.cancelled() => break,
            signed = signing.next() => signed,
        };
        match signed {
            Some(Ok(driver)) => {
                own.insert(driver.id().to_owned());
                tasks.spawn(driver.run());
            }
            Some(Err(error)) => tracing::debug!(%error, "a driver of the demo stays at home"),
            None => break,
        }
    }
    drop(signing);
    let riders =
        Riders { city: Arc::clone(&city), began, inside: Arc::new(Semaphore::new(AT_ONCE)), tasks: tasks.clone() };
    tokio::select! {
        () = stop.cancelled() => {}
        () = riders.come() => {}
        () = riders.come_to_visitors(&own) => {}
    }
    tasks.close();
    tasks.wait().await;
}

/// Those who want to ride.
struct Riders {
    city: Arc<City>,
    began: Timestamp,
    inside: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Riders {
    /// Anywhere in the city, for as long as it runs.
    async fn come(&self) {
        let mut rng = rng(self.city.seed, RIDERS);
        for index in 0.. {
            let Some(trip) = self.city.trips.draw(&mut rng) else { return };
            self.ride(2 * index, trip, None);
            let wait: f64 = rng.random_range(0.3..1.7);
            sleep(RIDER_EVERY.mul_f64(wait)).await;
        }
    }

    /// Beside visitors who drive and are free.
    async fn come_to_visitors(&self, own: &HashSet<String>) {
        let city = &self.city;
        let mut rng = rng(city.seed, RIDERS + 1);
        let mut last: Option<Instant> = None;
        for index in 0.. {
            sleep(LOOKS_EVERY).await;
            if last.is_some_and(|last| last.elapsed() < VISITOR_EVERY) {
                continue;
            }
            let visitors = match self.visitors(own).await {
                Ok(visitors) => visitors,
                Err(error) => {
                    tracing::debug!(%error, "nobody can say which visitors drive");
                    continue;
                }
            };
            for place in visitors {
                if let Some(trip) = city.trips.draw_from(place, NEAR_M, &mut rng) {
                    last = Some(Instant::now());
                    self.ride(2 * index + 1, trip, Some(LEFT_FOR));
                }
            }
        }
    }

    /// Where visitors are who are on duty. Those of an earlier day have gone home.
    async fn visitors(&self, own: &HashSet<String>) -> Result<Vec<Place>, Error> {
        let drivers = self.city.client.drivers(self.began.minus(VISITS), &self.city.operator()?).await?;
        let visits = drivers.into_iter().filter(|driver| driver.on_duty && !own.contains(&driver.id));
        Ok(visits.filter_map(|driver| driver.place).collect())
    }

    /// One rider, if there is room; what is meant for a visitor is left to the visitor for a while.
    fn ride(&self, index: u64, trip: Trip, left_for: Option<Duration>) {
        let city = Arc::clone(&self.city);
        let Ok(permit) = Arc::clone(&self.inside).try_acquire_owned() else { return };
        // Each start has riders of its own.
        let number = self.began.micros().unsigned_abs() / 1_000 * 100_000 + index % 100_000;
        let wanted = Wanted { at: Duration::ZERO, trip, is_hot: false };
        let rider = Rider { index: number, ..Rider::draw(city.seed, index, wanted, city.manner) };
        let mut visit = Visit::new(&city, rider);
        visit.left_for = left_for;
        self.tasks.spawn(async move {
            tokio::select! {
                () = city.stop.cancelled() => {}
                _ = visit.run() => {}
            }
            drop(permit);
        });
    }
}

/// The code of a ride, read as its rider, whose name must begin in one of these ways.
pub(super) async fn code(
    client: &Client,
    people: &People,
    operator: &str,
    ride: &str,
    riders: &[&str],
) -> Result<Option<String>, Error> {
    let Told { ride: seen, .. } = client.ride(ride, operator).await?;
    let Some(rider) = seen.rider.filter(|rider| riders.iter().any(|prefix| rider.starts_with(prefix))) else {
        return Ok(None);
    };
    let token = people.sign(&rider, "rider")?;
    Ok(client.ride(ride, &token).await?.ride.code)
}

/// What a rider of the small city says to the driver at the pickup: the four digits, once the driver has arrived; `None` before that, and
/// for other riders.
///
/// # Errors
/// Those of the client; the ride must be that of the driver whose token it is.
pub async fn told_code(client: &Client, keys: &Keys, ride: &str, driver: &str) -> Result<Option<String>, Error> {
    let path = format!("/rides/{ride}");
    let ask = Ask::get(Call::Ride, &path, Some(driver));
    let Told { ride: seen, .. } = client.fetch(&ask).await?;
    if seen.state != State::Arrived {
        return Ok(None);
    }
    let people = People::new(keys.clone(), TAG);
    let operator = people.sign(&format!("{TAG}-operator"), "operator")?;
    code(client, &people, &operator, ride, OWN).await
}
