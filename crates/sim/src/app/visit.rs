//! One fan at the sale: looks, holds, hesitates, pays, tries another card, gives up.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::stage::Stage;
use super::tally::{Bought, Outcome, count};
use crate::Error;
use crate::api::{Confirmed, Hold, Order, seat_of, ticket_id};
use crate::client::{Answer, Ask, Call};
use crate::domain::fan::{CARDS, Card, End, Fan, Wish};
use crate::domain::map::Snapshot;

/// How long a buyer waits for a payment to be settled: a provider that never answers is given up after about a minute.
const SETTLES_IN: Duration = Duration::from_secs(150);
/// What the later of a pair of requests may be told while the first one is being answered.
const BEHIND: &str = "tickets.key_busy";
/// How often a buyer asks.
const ASKS_EVERY: Duration = Duration::from_millis(500);

/// A fan who has come.
pub(super) struct Visit<'a> {
    stage: &'a Stage,
    fan: &'a Fan,
    token: &'a str,
    admission: Option<&'a str>,
    /// Requests up to now: each new one has a new key.
    asked: u32,
}

/// What a reservation came to.
enum Reserved {
    Held(Hold),
    /// Others were faster; free tickets nearby.
    Taken(Vec<String>),
    /// As many are not there at all.
    TooFew,
    NotAdmitted,
    /// The sale has not begun or is over.
    Closed,
}

impl<'a> Visit<'a> {
    pub(super) fn new(stage: &'a Stage, fan: &'a Fan, token: &'a str, admission: Option<&'a str>) -> Self {
        Self { stage, fan, token, admission, asked: 0 }
    }

    /// All of it, counted.
    pub(super) async fn run(mut self) -> Outcome {
        match self.visit().await {
            Ok(outcome) => {
                self.stage.tally.ended(outcome);
                outcome
            }
            Err(error) => {
                self.stage.tally.failed(&error);
                Outcome::Broken
            }
        }
    }

    async fn visit(&mut self) -> Result<Outcome, Error> {
        let mut quantity = self.fan.quantity;
        let mut nearby = Vec::new();
        for attempt in 0..self.fan.patience {
            let seen = self.stage.client.event(&self.stage.event).await?;
            if seen.seats.free == 0 {
                return Ok(Outcome::SoldOut);
            }
            let Some(wish) = self.wish(quantity, &nearby, attempt).await? else {
                nearby.clear();
                quantity = (quantity / 2).max(1);
                continue;
            };
            match self.reserve(&wish).await? {
                Reserved::Held(hold) => {
                    let tally = &self.stage.tally;
                    tally.first_hold(self.fan.index);
                    count(&tally.holds);
                    tally.held.fetch_add(hold.tickets.len() as u64, std::sync::atomic::Ordering::Relaxed);
                    sleep(self.fan.hesitates).await;
                    return self.settle(&hold).await;
                }
                Reserved::Taken(free) => {
                    count(&self.stage.tally.conflicts);
                    nearby = free;
                }
                Reserved::TooFew => {
                    count(&self.stage.tally.conflicts);
                    quantity = (quantity / 2).max(1);
                }
                Reserved::NotAdmitted => return Ok(Outcome::NotAdmitted),
                Reserved::Closed => return Ok(Outcome::SoldOut),
            }
        }
        Ok(Outcome::GaveUp)
    }

    /// What to ask for; `None` where the map shows nothing that will do.
    async fn wish(&mut self, quantity: u32, nearby: &[String], attempt: u32) -> Result<Option<Value>, Error> {
        let stage = self.stage;
        if nearby.len() >= quantity as usize {
            return Ok(Some(json!({ "ticket_ids": nearby[..quantity as usize] })));
        }
        // Who finds no seats together takes what the house gives.
        let wish = if attempt > 2 && self.fan.wish == Wish::Named { Wish::Best } else { self.fan.wish };
        let best = || json!({ "event": stage.event, "quantity": quantity, "best_available": true });
        Ok(match (wish, &stage.standing) {
            (Wish::Named, _) => {
                let snapshot = stage.client.seats(&stage.event).await?;
                let unreadable = |reason| Error::Unreadable { what: "GET /event/{id}/seats".into(), reason };
                let snapshot = Snapshot::read(&snapshot).map_err(unreadable)?;
                let chosen = stage.map.choose(snapshot, self.fan.place, quantity);
                // What was free may have gone when they have made up their minds.
                sleep(self.fan.looks).await;
                let ids = |seats: Vec<u32>| seats.iter().filter_map(|seat| ticket_id(&stage.event, *seat)).collect();
                chosen.map(ids).map(|ids: Vec<String>| json!({ "ticket_ids": ids }))
            }
            (Wish::Standing, Some(area)) => {
                Some(json!({ "event": stage.event, "areas": [{ "area": area, "quantity": quantity }] }))
            }
            (Wish::Best | Wish::Standing, _) => Some(best()),
        })
    }

    async fn reserve(&mut self, wish: &Value) -> Result<Reserved, Error> {
        let mut body = wish.clone();
        if let Some(admission) = self.admission {
            body["admission"] = admission.into();
        }
        let key = self.next_key();
        let body = body.to_string();
        let ask = Ask::post(Call::Reserve, "/booking/reserve", self.token, &key, body);
        let answer = self.send_as_manner_is(&ask, "hold_id").await?;
        if answer.status == 200 {
            return Ok(Reserved::Held(answer.read(&ask)?));
        }
        let problem = answer.problem();
        match problem.code.as_str() {
            "tickets.seat_taken" => Ok(Reserved::Taken(problem.nearby)),
            "tickets.too_few_free" | "tickets.leaves_orphan" => Ok(Reserved::TooFew),
            "tickets.not_admitted" => Ok(Reserved::NotAdmitted),
            "tickets.not_on_sale" => Ok(Reserved::Closed),
            _ => Err(answer.refused(&ask)),
        }
    }

    /// What becomes of a hold.
    async fn settle(&mut self, hold: &Hold) -> Result<Outcome, Error> {
        match self.fan.end {
            End::WalksAway => Ok(Outcome::WalkedAway),
            End::Releases => self.release(hold).await.map(|()| Outcome::Released),
            End::Pays => {
                for at in 0..CARDS {
                    if let Some(outcome) = self.pay(hold, self.fan.cards[at]).await? {
                        return Ok(outcome);
                    }
                }
                self.release(hold).await.map(|()| Outcome::NoCard)
            }
        }
    }

    /// `None` where another card may be tried.
    async fn pay(&mut self, hold: &Hold, card: Card) -> Result<Option<Outcome>, Error> {
        let key = self.next_key();
        let card = json!({ "number": card.number(), "exp_month": 12, "exp_year": 2034, "cvc": "123" });
        let body = json!({ "hold_id": hold.hold_id, "payment_details": { "card": card } }).to_string();
        let ask = Ask::post(Call::Confirm, "/booking/confirm", self.token, &key, body);
        let answer = self.send_as_manner_is(&ask, "order").await?;
        match answer.status {
            200 => {
                let confirmed: Confirmed = answer.read(&ask)?;
                // The bank may still be thinking.
                if confirmed.order.state.has_seats() {
                    return self.remember(hold, confirmed).map(Some);
                }
                return self.wait_for(hold, &confirmed.order.id).await;
            }
            202 => {
                let Confirmed { order, next_action, .. } = answer.read(&ask)?;
                if let Some(action) = next_action {
                    self.take_second_step(&action.url).await?;
                }
                return self.wait_for(hold, &order.id).await;
            }
            _ => {}
        }
        let problem = answer.problem();
        match (problem.code.as_str(), problem.order) {
            ("tickets.payment_declined", _) => {
                count(&self.stage.tally.declined);
                Ok(None)
            }
            ("tickets.payment_unknown", Some(order)) => self.wait_for(hold, &order).await,
            ("tickets.hold_over" | "tickets.seats_gone", _) => Ok(Some(Outcome::TooLate)),
            _ => Err(answer.refused(&ask)),
        }
    }

    /// The page of the test provider on which one agrees or does not.
    async fn take_second_step(&mut self, url: &str) -> Result<(), Error> {
        let path = url.find("/payments/").map_or(url, |at| &url[at..]);
        let path = format!("{path}?agree={}", self.fan.agrees);
        let ask = Ask { key: None, ..Ask::post(Call::Order, &path, self.token, "", "") };
        let answer = self.stage.client.send(&ask).await?;
        if answer.status < 400 { Ok(()) } else { Err(answer.refused(&ask)) }
    }

    /// Until the order is settled. Only what the server says counts.
    async fn wait_for(&mut self, hold: &Hold, order: &str) -> Result<Option<Outcome>, Error> {
        let path = format!("/orders/{order}");
        let ask = Ask::get(Call::Order, &path, Some(self.token));
        let deadline = Instant::now() + SETTLES_IN;
        while Instant::now() < deadline {
            let order: Order = self.stage.client.fetch(&ask).await?;
            if order.state.has_seats() {
                return self
                    .remember(hold, Confirmed { order, tickets: hold.tickets.clone(), next_action: None })
                    .map(Some);
            }
            if !order.state.is_open() {
                count(&self.stage.tally.declined);
                return Ok(None);
            }
            sleep(ASKS_EVERY).await;
        }
        Ok(Some(Outcome::Unclear))
    }

    /// The buyer keeps what was bought, and looks at it.
    fn remember(&self, hold: &Hold, confirmed: Confirmed) -> Result<Outcome, Error> {
        let Confirmed { order, tickets, .. } = confirmed;
        let what = || format!("POST /booking/confirm of order `{}`", order.id);
        let mut seats: Vec<u32> = tickets.iter().filter_map(|ticket| seat_of(&ticket.id)).collect();
        let mut held: Vec<u32> = hold.tickets.iter().filter_map(|ticket| seat_of(&ticket.id)).collect();
        seats.sort_unstable();
        held.sort_unstable();
        if seats != held || order.total != hold.total {
            let reason = format!("held {held:?} for {}, bought {seats:?} for {}", hold.total, order.total);
            return Err(Error::Unreadable { what: what(), reason });
        }
        let subject = self.stage.people.subject(self.fan.index);
        self.stage.tally.bought(Bought { subject, order: order.id, total: order.total.amount, seats });
        Ok(Outcome::Bought)
    }

    async fn release(&mut self, hold: &Hold) -> Result<(), Error> {
        let key = self.next_key();
        let body = json!({ "hold_id": hold.hold_id }).to_string();
        let ask = Ask::post(Call::Release, "/booking/release", self.token, &key, body);
        let answer = self.stage.client.send(&ask).await?;
        // It may have lapsed by now.
        if answer.status < 500 { Ok(()) } else { Err(answer.refused(&ask)) }
    }

    /// Once, or twice at the same time with the same key: then both answers must name the same thing.
    async fn send_as_manner_is(&self, ask: &Ask<'_>, member: &str) -> Result<Answer, Error> {
        let client = &self.stage.client;
        if !self.fan.double_taps {
            return client.send(ask).await;
        }
        count(&self.stage.tally.doubled);
        let (one, two) = tokio::join!(client.send(ask), client.send(ask));
        let (one, two) = (one?, two?);
        if one.status == 200 && two.status == 200 {
            let named = |answer: &Answer| answer.read::<Value>(ask).map(|body| id_in(&body[member]));
            let (first, second) = (named(&one)?, named(&two)?);
            if first != second {
                let reason = format!("the same key was answered with {first} and {second}");
                return Err(Error::Unreadable { what: ask.what(), reason });
            }
        }
        let is_behind = |answer: &Answer| answer.problem().code == BEHIND;
        match (one.status < 400, two.status < 400) {
            (true, _) => Ok(one),
            (_, true) => Ok(two),
            _ if is_behind(&one) && is_behind(&two) => client.send(ask).await,
            _ if is_behind(&one) => Ok(two),
            _ => Ok(one),
        }
    }

    fn next_key(&mut self) -> String {
        self.asked += 1;
        format!("{}-{}", self.fan.index, self.asked)
    }
}

fn id_in(value: &Value) -> String {
    value.as_str().or_else(|| value["id"].as_str()).unwrap_or_default().to_owned()
}
