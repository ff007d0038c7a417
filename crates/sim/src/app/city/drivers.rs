//! A driver: profile, shift, and then offers as they come, each answered as it was drawn; who accepts drives there, meets the rider,
//! and brings it where it wants to be.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tessera_kernel::{Place, read_id};
use tokio::time::{Instant, sleep, sleep_until};

use super::street::Meeting;
use super::tally::Count;
use super::{City, HURRY};
use crate::Error;
use crate::client::{Answer, Ask, Call, Events};
use crate::domain::book::{Asked, State};
use crate::domain::fan::rng;
use crate::domain::party::{self, Manner, Reply};
use crate::domain::roads::decode_line;
use crate::rides::{Accepted, Ride};

/// Cars draw their ways from randomness of their own.
const WAYS: u64 = 1 << 45;
/// The pause before a broken stream is opened anew.
const REOPENS_AFTER: Duration = Duration::from_secs(1);
/// How fast one drives where the server knows no way, metres a second, over a line that is so much shorter than the road.
const GUESSED_SPEED: f64 = 7.8;
const DETOUR: f64 = 1.4;
/// How long a driver waits for a code that nobody of the city tells, and how often it asks.
const STRANGER_IN: Duration = Duration::from_secs(600);
const ASKS_EVERY: Duration = Duration::from_secs(2);
/// A visitor who rides sees the code for so long before the driver knows it.
const SHOWN_FOR: Duration = Duration::from_secs(8);
/// How often it is said again that a rider does not come.
const NO_SHOW_TRIES: u32 = 10;

const VEHICLES: [&str; 6] = [
    "white Dacia Jogger",
    "grey Škoda Octavia",
    "black Toyota Corolla",
    "blue Renault Zoe",
    "red Seat León",
    "silver Kia Niro",
];
const NAMES: [&str; 12] =
    ["Ana", "Bruno", "Carla", "Duarte", "Elisa", "Fábio", "Graça", "Hugo", "Inês", "João", "Lara", "Mário"];

/// A driver on duty.
pub(super) struct Driver {
    city: Arc<City>,
    number: u64,
    subject: String,
    id: String,
    car: usize,
    /// Offers answered so far.
    answered: u64,
    events: Option<Events>,
    /// The offer that was looked at last, and the ride that was driven last: streams repeat themselves.
    last: (String, String),
}

impl Driver {
    /// Signs up and goes on duty. One who was there before is taken as it is.
    pub(super) async fn begin(city: &Arc<City>, number: u64) -> Result<Self, Error> {
        let subject = format!("{}-driver-{number}", city.people.tag());
        let token = city.people.sign(&subject, "driver")?;
        let mut ways = rng(city.seed, WAYS + number);
        let place = city.somewhere(&mut ways)?;
        let known: crate::rides::Driver =
            city.client.fetch(&Ask::get(Call::Shift, "/drivers/me", Some(&token))).await?;
        if !known.approved {
            let (name, vehicle) = (NAMES[number as usize % NAMES.len()], VEHICLES[number as usize % VEHICLES.len()]);
            let plate = format!("{:02}-SM-{:02}", number / 100 % 100, number % 100);
            let profile = json!({ "name": name, "vehicle": vehicle, "plate": plate, "seats": 4 });
            city.client.write_profile(&profile, &token).await?;
            city.client.approve(&known.id, &city.operator()?).await?;
        }
        if !known.on_duty {
            city.client.shift(Some(place), &token).await?;
        }
        let unreadable = |reason: String| Error::Unreadable { what: "a driver's id".into(), reason };
        let id = read_id(&known.id, "driver").map_err(unreadable)?;
        let car = city.street.add(id.as_u128(), place, ways);
        let last = (String::new(), String::new());
        Ok(Self { city: Arc::clone(city), number, subject, id: known.id, car, answered: 0, events: None, last })
    }

    /// Drives until the city stops, at whatever point that is.
    pub(super) async fn run(self) {
        let stop = self.city.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.works() => {}
        }
    }

    async fn works(mut self) {
        let city = Arc::clone(&self.city);
        loop {
            let ride = self.next().await;
            if let Err(error) = self.told(ride).await {
                city.tally.broke(&error);
                city.street.free(self.car);
            }
        }
    }

    /// The shift ends.
    pub(super) async fn end(city: &City, number: u64) -> Result<(), Error> {
        let token = city.people.sign(&format!("{}-driver-{number}", city.people.tag()), "driver")?;
        city.client.shift(None, &token).await.map(drop)
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn token(&self) -> Result<String, Error> {
        self.city.people.sign(&self.subject, "driver")
    }

    /// What the stream says next; it is opened anew when it breaks.
    async fn next(&mut self) -> Ride {
        loop {
            if self.city.street.take_lost(self.car)
                && let (Ok(token), Some(place)) = (self.token(), self.city.street.here(self.car))
                && let Err(error) = self.city.client.shift(Some(place), &token).await
            {
                self.city.tally.broke(&error);
            }
            let Some(events) = &mut self.events else {
                let Ok(token) = self.token() else { return std::future::pending().await };
                match self.city.client.events(&Ask::get(Call::Ride, "/drivers/me/stream", Some(&token))).await {
                    Ok(events) => self.events = Some(events),
                    Err(_) => {
                        self.city.tally.count(Count::Reopened);
                        sleep(REOPENS_AFTER).await;
                    }
                }
                continue;
            };
            match events.next().await {
                Some(event) if event.name == "ride" => match serde_json::from_str(&event.data) {
                    Ok(ride) => return ride,
                    Err(error) => {
                        let what = "an event of /drivers/me/stream".into();
                        self.city.tally.broke(&Error::Unreadable { what, reason: error.to_string() });
                    }
                },
                Some(event) if event.name != "reset" => {}
                _ => {
                    self.city.tally.count(Count::Reopened);
                    self.events = None;
                }
            }
        }
    }

    async fn told(&mut self, ride: Ride) -> Result<(), Error> {
        let is_mine = ride.driver.as_ref() == Some(&self.id) && ride.ride_id != self.last.1;
        match (ride.state, &ride.offer) {
            (State::Offered, Some(offer)) if offer.driver == self.id && offer.offer_id != self.last.0 => {
                self.last.0.clone_from(&offer.offer_id);
                let offer = offer.offer_id.clone();
                self.asked(ride, offer).await
            }
            (State::Accepted | State::Arrived | State::PickedUpRider, _) if is_mine => self.resume(ride).await,
            _ => Ok(()),
        }
    }

    /// Waits, unless the ride is no longer this driver's.
    async fn waits(&mut self, ride: &str, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let told = tokio::select! {
                () = sleep_until(until) => return true,
                told = self.next() => told,
            };
            let asked = told.offer.as_ref().is_some_and(|offer| offer.driver == self.id);
            if told.ride_id == ride && told.driver.as_ref() != Some(&self.id) && !asked {
                return false;
            }
            if told.ride_id == ride && told.state.is_final() {
                return false;
            }
        }
    }

    /// Drives for so long, and faster once the city closes; false where the ride is no longer this driver's.
    async fn drives(&mut self, ride: &str, takes: Duration) -> bool {
        let city = Arc::clone(&self.city);
        let began = Instant::now();
        tokio::select! {
            kept = self.waits(ride, takes) => return kept,
            () = city.closing.cancelled(), if !city.closing.is_cancelled() => {}
        }
        let faster = city.street.hurry(self.car, HURRY / city.pace);
        self.waits(ride, takes.saturating_sub(began.elapsed()).div_f64(faster)).await
    }

    /// A step of a ride. Whether it was taken; where it was not, somebody else was faster.
    async fn step(&self, call: Call, path: &str, body: &Value) -> Result<Option<Answer>, Error> {
        let token = self.token()?;
        let method = if call == Call::Cancel { Method::POST } else { Method::PATCH };
        let ask = Ask::step(call, method, path, &token, body.to_string());
        let answer = self.city.client.send(&ask).await?;
        match answer.status {
            200 => Ok(Some(answer)),
            403 | 404 | 409 => Ok(None),
            _ => Err(answer.refused(&ask)),
        }
    }

    /// Answers an offer.
    async fn asked(&mut self, ride: Ride, offer: String) -> Result<(), Error> {
        let (city, id) = (Arc::clone(&self.city), ride.ride_id);
        if !city.serves(&id).await? {
            let body = json!({ "ride_id": id, "offer_id": offer, "accept": false });
            if self.step(Call::Respond, "/ride/driver/respond", &body).await?.is_some() {
                city.tally.count(Count::Strangers);
            }
            return Ok(());
        }
        city.tally.asked(Asked { ride: id.clone(), driver: self.id.clone(), offer: offer.clone() });
        if city.street.is_silent(self.car) {
            city.tally.count(Count::Ignored);
            return Ok(());
        }
        let mut answer = party::Answer::draw(city.seed, self.number, self.answered, city.manner);
        self.answered += 1;
        if city.manner == Manner::Kind {
            // Visitors are not left standing, and what is meant for them is left to them.
            let is_strange = city.street.meeting(&id).is_none();
            answer.reply = match answer.reply {
                _ if city.street.is_left_alone(&id) => Reply::Denies,
                _ if is_strange => Reply::Accepts,
                reply => reply,
            };
        }
        let accepts = match answer.reply {
            Reply::Accepts => true,
            Reply::Denies => false,
            Reply::Ignores | Reply::GoesSilent(_) => {
                city.tally.count(Count::Ignored);
                if let Reply::GoesSilent(silence) = answer.reply {
                    city.street.silence(self.car, city.paced(silence));
                }
                return Ok(());
            }
        };
        if !self.waits(&id, city.paced(answer.thinks)).await {
            return Ok(());
        }
        let body = json!({ "ride_id": id, "offer_id": offer, "accept": accepts });
        let Some(taken) = self.step(Call::Respond, "/ride/driver/respond", &body).await? else {
            city.tally.count(Count::TooLate);
            return Ok(());
        };
        city.tally.count(if accepts { Count::Accepted } else { Count::Denied });
        if !accepts {
            return Ok(());
        }
        let what = || "PATCH /ride/driver/respond".to_owned();
        let accepted: Accepted = serde_json::from_slice(&taken.body)
            .map_err(|error| Error::Unreadable { what: what(), reason: error.to_string() })?;
        let Accepted { ride, route_to_pickup, pickup_s } = accepted;
        self.last.1.clone_from(&ride.ride_id);
        if let Some(seconds) = pickup_s {
            city.tally.eta(seconds);
        }
        self.comes(&ride, route_to_pickup.as_deref(), pickup_s, answer.gives_back_at).await
    }

    /// A ride that this driver had before the stream was opened.
    async fn resume(&mut self, ride: Ride) -> Result<(), Error> {
        self.last.1.clone_from(&ride.ride_id);
        match ride.state {
            State::Accepted => {
                // The server has to know first where the car is.
                if !self.waits(&ride.ride_id, ASKS_EVERY).await {
                    return Ok(());
                }
                let told = self.city.client.ride(&ride.ride_id, &self.token()?).await?;
                self.comes(&told.ride, told.route_to_pickup.as_deref(), None, None).await
            }
            State::Arrived => self.meets(&ride).await,
            _ => self.brings(&ride).await,
        }
    }

    /// To the pickup.
    async fn comes(
        &mut self,
        ride: &Ride,
        route: Option<&str>,
        seconds: Option<u32>,
        gives_back_at: Option<f64>,
    ) -> Result<(), Error> {
        let city = Arc::clone(&self.city);
        let takes = self.sets_out(ride.pickup, route, seconds);
        let on_the_way = takes.mul_f64(gives_back_at.unwrap_or(1.0));
        if !self.drives(&ride.ride_id, on_the_way).await {
            city.street.free(self.car);
            return Ok(());
        }
        if gives_back_at.is_some() {
            let body = json!({ "ride_id": ride.ride_id, "reason": "a flat tyre" });
            if self.step(Call::Cancel, "/ride/cancel", &body).await?.is_some() {
                city.tally.count(Count::GivenBack);
            }
            city.street.free(self.car);
            return Ok(());
        }
        let body = json!({ "ride_id": ride.ride_id, "status": "arrived" });
        if self.step(Call::Status, "/ride/status", &body).await?.is_none() {
            city.street.free(self.car);
            return Ok(());
        }
        self.meets(ride).await
    }

    /// Sends the car; gives how long it will take.
    fn sets_out(&self, to: Place, route: Option<&str>, seconds: Option<u32>) -> Duration {
        let city = &self.city;
        let mut line = route.map(decode_line).unwrap_or_default();
        line.push(to);
        let here = city.street.here(self.car).unwrap_or(to);
        let guessed = here.distance_m(to) * DETOUR / GUESSED_SPEED;
        let seconds = seconds.map_or(guessed, f64::from) / city.pace();
        city.street.drive(self.car, &line, seconds)
    }

    /// At the pickup.
    async fn meets(&mut self, ride: &Ride) -> Result<(), Error> {
        let (city, id) = (Arc::clone(&self.city), &ride.ride_id);
        let arrived = Instant::now();
        while arrived.elapsed() < STRANGER_IN {
            let meeting = city.street.meeting(id);
            let (code, misspeaks) = match meeting {
                Some(Meeting { boards_after: None, .. }) => return self.waits_in_vain(id).await,
                Some(Meeting { code: Some(code), boards_after: Some(after), misspeaks }) => {
                    let boards = city.paced(after).saturating_sub(arrived.elapsed());
                    if !self.waits(id, boards).await {
                        break;
                    }
                    (code, misspeaks)
                }
                Some(Meeting { code: None, .. }) | None => {
                    let pause = if arrived.elapsed() < SHOWN_FOR { SHOWN_FOR } else { ASKS_EVERY };
                    if !self.waits(id, pause).await {
                        break;
                    }
                    match city.code_of_stranger(id).await? {
                        Some(code) => (code, false),
                        None => continue,
                    }
                }
            };
            let body = |code: &str| json!({ "ride_id": id, "status": "picked_up_rider", "code": code });
            if misspeaks {
                let wrong = format!("{:04}", (code.parse::<u32>().unwrap_or_default() + 1) % 10_000);
                match self.step(Call::Status, "/ride/status", &body(&wrong)).await? {
                    Some(_) => city.tally.found(format!("a wrong code of ride `{id}` was taken")),
                    None => city.tally.count(Count::WrongCodes),
                }
            }
            if self.step(Call::Status, "/ride/status", &body(&code)).await?.is_none() {
                break;
            }
            return self.brings(ride).await;
        }
        if arrived.elapsed() >= STRANGER_IN {
            let body = json!({ "ride_id": id, "reason": "nobody told the code" });
            self.step(Call::Cancel, "/ride/cancel", &body).await?;
        }
        city.street.free(self.car);
        Ok(())
    }

    /// The rider does not come.
    async fn waits_in_vain(&mut self, id: &str) -> Result<(), Error> {
        let city = Arc::clone(&self.city);
        let mut wait = Duration::from_secs(city.rules.no_show_after_s) + ASKS_EVERY;
        for _ in 0..NO_SHOW_TRIES {
            if !self.waits(id, wait).await {
                break;
            }
            let body = json!({ "ride_id": id, "reason": "nobody there", "no_show": true });
            if self.step(Call::Cancel, "/ride/cancel", &body).await?.is_some() {
                break;
            }
            wait = ASKS_EVERY;
        }
        city.street.free(self.car);
        Ok(())
    }

    /// To the destination.
    async fn brings(&mut self, ride: &Ride) -> Result<(), Error> {
        let city = Arc::clone(&self.city);
        let takes = self.sets_out(ride.destination, Some(&ride.route), Some(ride.duration_s));
        if self.drives(&ride.ride_id, takes).await {
            let body = json!({ "ride_id": ride.ride_id, "status": "completed" });
            if self.step(Call::Status, "/ride/status", &body).await?.is_none() {
                city.tally.found(format!("ride `{}` could not be completed by its driver", ride.ride_id));
            }
        }
        city.street.free(self.car);
        Ok(())
    }
}
