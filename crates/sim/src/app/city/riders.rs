//! A rider: asks for a price, requests, watches, and cancels, waits or rides as it was drawn.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::City;
use super::street::Meeting;
use super::tally::{Count, Known, Outcome};
use crate::Error;
use crate::client::{Answer, Ask, Call, Events};
use crate::domain::book::State;
use crate::domain::party::{Rider, Watch};
use crate::rides::{Estimate, Ride};

/// How long a stream may say nothing before the ride is looked at, since the stream of another process may not tell.
const LOOKS_AFTER: Duration = Duration::from_secs(15);
/// Estimates that may expire before they are requested.
const ESTIMATES: u32 = 3;

/// Somebody who wants to ride.
pub(super) struct Visit {
    city: Arc<City>,
    rider: Rider,
    subject: String,
    /// The ride, once there is an estimate.
    id: String,
    /// How long the ride is left to a visitor who drives.
    pub(super) left_for: Option<Duration>,
}

impl Visit {
    pub(super) fn new(city: &Arc<City>, rider: Rider) -> Self {
        let subject = format!("{}-rider-{}", city.people.tag(), rider.index);
        Self { city: Arc::clone(city), rider, subject, id: String::new(), left_for: None }
    }

    /// From the question for the price to the end, whatever that is.
    pub(super) async fn run(mut self) -> Outcome {
        let city = Arc::clone(&self.city);
        city.tally.count(Count::Came);
        let outcome = match self.ride().await {
            Ok(outcome) => outcome,
            Err(error) => {
                city.tally.broke(&error);
                Outcome::Broken
            }
        };
        city.street.forget(&self.id);
        city.tally.ended(outcome);
        outcome
    }

    fn token(&self) -> Result<String, Error> {
        self.city.people.sign(&self.subject, "rider")
    }

    async fn ride(&mut self) -> Result<Outcome, Error> {
        let city = Arc::clone(&self.city);
        let trip = self.rider.wanted.trip;
        let token = self.token()?;
        let body = json!({ "pickup": trip.pickup, "destination": trip.destination }).to_string();
        let ask = Ask::step(Call::Estimate, Method::POST, "/fare-estimate", &token, body);
        let mut estimate: Estimate = city.client.fetch(&ask).await?;
        self.knows(&estimate);
        if !self.rider.requests {
            return Ok(Outcome::Looked);
        }
        sleep(city.paced(self.rider.hesitates)).await;
        for _ in 0..ESTIMATES {
            let body = json!({ "ride_id": estimate.ride_id }).to_string();
            let ask = Ask::step(Call::Request, Method::PATCH, "/ride/request", &token, body);
            let answer = self.request(&ask).await?;
            match answer.status {
                200 => {
                    city.tally.count(Count::Requested);
                    let ride: Ride = answer.read(&ask)?;
                    city.street.expect(&self.id, Meeting { code: ride.code.clone(), ..self.meeting() });
                    if ride.price != estimate.estimated_price {
                        let (cost, told) = (ride.price, estimate.estimated_price);
                        city.tally.found(format!("ride `{}` costs {cost}, its estimate said {told}", self.id));
                    }
                    let ended = self.watch(ride).await;
                    return ended;
                }
                410 => {
                    // It took too long: the fresh estimate is in the answer.
                    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    estimate = serde_json::from_value(problem["estimate"].clone()).map_err(|_| answer.refused(&ask))?;
                    self.knows(&estimate);
                }
                _ => return Err(answer.refused(&ask)),
            }
        }
        Ok(Outcome::Looked)
    }

    fn knows(&mut self, estimate: &Estimate) {
        self.city.street.forget(&self.id);
        self.id.clone_from(&estimate.ride_id);
        self.city.street.expect(&self.id, self.meeting());
        if let Some(left_for) = self.left_for {
            self.city.street.leave_alone(&self.id, left_for);
        }
        let (told, surge) = (estimate.estimated_price.amount, estimate.surge);
        self.city.tally.told(Known { ride: self.id.clone(), told, surge });
    }

    fn meeting(&self) -> Meeting {
        let Rider { boards_after, misspeaks, .. } = self.rider;
        Meeting { code: None, boards_after, misspeaks }
    }

    /// Once, or twice at the same time: then both answers must say the same ride.
    async fn request(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let client = &self.city.client;
        if !self.rider.taps_twice {
            return client.send(ask).await;
        }
        self.city.tally.count(Count::Doubled);
        let (one, two) = tokio::join!(client.send(ask), client.send(ask));
        let (one, two) = (one?, two?);
        if one.status == 200 && two.status == 200 {
            let code = |answer: &Answer| answer.read::<Ride>(ask).map(|ride| (ride.ride_id, ride.code, ride.price));
            let (first, second) = (code(&one)?, code(&two)?);
            if first != second {
                let reason = format!("the same request was answered with {first:?} and {second:?}");
                return Err(Error::Unreadable { what: ask.what(), reason });
            }
        }
        Ok(if one.status == 200 { one } else { two })
    }

    /// Until the ride is over, or the rider has had enough.
    async fn watch(&self, requested: Ride) -> Result<Outcome, Error> {
        let city = &self.city;
        let began = Instant::now();
        let mut eyes = Eyes { visit: self, events: None };
        let mut ride = requested;
        let mut matched_at: Option<Instant> = None;
        let (mut is_counted, mut has_cancelled) = (false, false);
        loop {
            let comes = matches!(ride.state, State::Accepted | State::Arrived | State::PickedUpRider);
            // Who asks now and then may see a match only in what is left of it.
            if (comes || ride.state == State::Completed || ride.accepted_at.is_some())
                && !std::mem::replace(&mut is_counted, true)
            {
                city.tally.count(Count::Matched);
            }
            match ride.state {
                State::Completed => return Ok(Outcome::Rode),
                State::NoDriver => return Ok(Outcome::NoDriver),
                State::Cancelled | State::Expired => return Ok(self.how_it_was_cancelled(&ride)),
                State::Accepted | State::Arrived => matched_at = matched_at.or(Some(Instant::now())),
                State::Requested | State::Offered => matched_at = None,
                State::Estimated | State::PickedUpRider => {}
            }
            let until = self.has_had_enough_at(&ride, began, matched_at);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) && !has_cancelled {
                has_cancelled = self.cancel().await?;
            }
            let pause = left.filter(|_| !has_cancelled).unwrap_or(LOOKS_AFTER).min(LOOKS_AFTER);
            ride = match eyes.next(pause.max(Duration::from_millis(50))).await? {
                Some(next) => next,
                None => ride,
            };
        }
    }

    /// When the rider cancels, as things are.
    fn has_had_enough_at(&self, ride: &Ride, began: Instant, matched_at: Option<Instant>) -> Option<Instant> {
        let city = &self.city;
        let Rider { patience, regrets, boards_after, .. } = self.rider;
        match ride.state {
            // Nobody waits for those who do not come when the run is over.
            State::Arrived if boards_after.is_none() && city.closing.is_cancelled() => Some(Instant::now()),
            State::Requested | State::Offered => patience.map(|patience| began + city.paced(patience)),
            State::Accepted | State::Arrived => {
                regrets.zip(matched_at).map(|(regrets, matched)| matched + city.paced(regrets))
            }
            _ => None,
        }
    }

    /// Whether the ride is over now; where it is not, the driver was faster.
    async fn cancel(&self) -> Result<bool, Error> {
        let token = self.token()?;
        let body = json!({ "ride_id": self.id, "reason": "changed plans" }).to_string();
        let ask = Ask::step(Call::Cancel, Method::POST, "/ride/cancel", &token, body);
        let answer = self.city.client.send(&ask).await?;
        match answer.status {
            200 => Ok(true),
            409 => Ok(false),
            _ => Err(answer.refused(&ask)),
        }
    }

    fn how_it_was_cancelled(&self, ride: &Ride) -> Outcome {
        let by_rider = ride.cancellation.as_ref().is_some_and(|cancellation| cancellation.by == "rider");
        match (by_rider, self.rider.boards_after, ride.accepted_at) {
            (_, None, Some(_)) => Outcome::Absent,
            (true, _, Some(_)) => Outcome::Regretted,
            (true, _, None) => Outcome::LeftLine,
            _ => Outcome::Unfinished,
        }
    }
}

/// How a rider sees what becomes of the ride.
struct Eyes<'a> {
    visit: &'a Visit,
    events: Option<Events>,
}

impl Eyes<'_> {
    /// The ride as it is after at most so long; `None` where nothing was seen.
    async fn next(&mut self, within: Duration) -> Result<Option<Ride>, Error> {
        let (visit, city) = (self.visit, &self.visit.city);
        let token = visit.token()?;
        if let Watch::Asks(every) = visit.rider.watch {
            sleep(every.min(within)).await;
            return Ok(Some(city.client.ride(&visit.id, &token).await?.ride));
        }
        if self.events.is_none() {
            let path = format!("/rides/{}/stream", visit.id);
            self.events = city.client.events(&Ask::get(Call::Ride, &path, Some(&token))).await.ok();
        }
        let Some(events) = &mut self.events else {
            city.tally.count(Count::Reopened);
            sleep(within.min(Duration::from_secs(1))).await;
            return Ok(Some(city.client.ride(&visit.id, &token).await?.ride));
        };
        let until = Instant::now() + within;
        while let Ok(event) = timeout(until.saturating_duration_since(Instant::now()), events.next()).await {
            match event {
                Some(event) if event.name == "ride" => {
                    let what = || "an event of a ride's stream".to_owned();
                    let read = serde_json::from_str(&event.data);
                    return read
                        .map(Some)
                        .map_err(|error| Error::Unreadable { what: what(), reason: error.to_string() });
                }
                Some(_) => {}
                None => {
                    self.events = None;
                    city.tally.count(Count::Reopened);
                    return Ok(Some(city.client.ride(&visit.id, &token).await?.ride));
                }
            }
        }
        if within >= LOOKS_AFTER {
            return Ok(Some(city.client.ride(&visit.id, &token).await?.ride));
        }
        Ok(None)
    }
}
