//! The public API in types, as far as the crowd reads it.

use std::collections::HashMap;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tessera_kernel::{Money, Timestamp};

use crate::Error;
use crate::client::{Answer, Ask, Call, Client};
use crate::domain::map::{Map, Plan};

/// Items of a page of a list.
const PAGE: u32 = 1000;
/// Digits of an id's UUID.
const ID_DIGITS: usize = 32;
/// Digits of a ticket's id that number the seat.
const SEAT_DIGITS: usize = 8;

/// An event's page.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Its title.
    pub name: String,
    /// Whether it is sold at this moment.
    pub on_sale: bool,
    /// General admission.
    #[serde(default)]
    pub areas: Vec<Area>,
    /// Counts.
    pub seats: Counts,
    /// The waiting room.
    pub queue: Queue,
}

/// General admission.
#[derive(Clone, Debug, Deserialize)]
pub struct Area {
    /// Its key.
    pub key: String,
    /// Places that are free.
    pub free: u32,
}

/// How many are what. `total` is what is sold at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// Seats and places for sale.
    pub total: u32,
    /// Free ones.
    pub free: u32,
    /// Held ones.
    pub held: u32,
    /// Sold ones.
    pub booked: u32,
}

/// The waiting room.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Queue {
    /// Whether one may have to wait.
    pub active: bool,
}

/// A hold.
#[derive(Clone, Debug, Deserialize)]
pub struct Hold {
    /// Its id.
    pub hold_id: String,
    /// What it would cost.
    pub total: Money,
    /// Its tickets.
    pub tickets: Vec<Named>,
}

/// Something with an id.
#[derive(Clone, Debug, Deserialize)]
pub struct Named {
    /// The id.
    pub id: String,
}

/// What a confirmation answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Confirmed {
    /// The order.
    pub order: Order,
    /// Its tickets.
    #[serde(default)]
    pub tickets: Vec<Named>,
    /// What the buyer has to do.
    #[serde(default)]
    pub next_action: Option<NextAction>,
}

/// A second step.
#[derive(Clone, Debug, Deserialize)]
pub struct NextAction {
    /// Where.
    pub url: String,
}

/// An order.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// Of which event.
    pub event: String,
    /// Where it stands.
    pub state: OrderState,
    /// How many tickets it is for.
    pub count: u32,
    /// What it costs.
    pub total: Money,
    /// What the payment provider took.
    pub captured: Money,
    /// What went back.
    pub refunded: Money,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Being paid.
    Paying,
    /// Money is set aside, seats are not booked yet.
    Authorised,
    /// Seats are booked, money is not taken yet.
    Booked,
    /// Done.
    Captured,
    /// Not paid.
    Failed,
    /// Let go without a charge.
    Voided,
    /// Money is on its way back.
    RefundDue,
    /// Money went back.
    Refunded,
}

impl OrderState {
    /// Whether it may still become something else by itself.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Paying | Self::Authorised | Self::Booked | Self::RefundDue)
    }

    /// Whether its seats are the buyer's.
    pub const fn has_seats(self) -> bool {
        matches!(self, Self::Booked | Self::Captured)
    }
}

/// A ticket that was sold.
#[derive(Clone, Debug, Deserialize)]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// Of which order.
    pub order: String,
    /// Whose it is.
    pub owner: String,
    /// What it cost before discounts.
    pub price: Money,
}

/// A place in a waiting room.
#[derive(Clone, Debug, Deserialize)]
pub struct Place {
    /// For asking after it.
    pub token: String,
    /// Compared with the serving number; none before the draw.
    pub number: Option<i64>,
    /// Once it is one's turn.
    #[serde(default)]
    pub admission: Option<String>,
}

/// What everyone who waits is told.
#[derive(Clone, Debug, Deserialize)]
pub struct Serving {
    /// Who has a number up to this has had a turn.
    pub serving: i64,
    /// `before` or `open`.
    pub phase: String,
    /// SHA-256 of the lottery's seed.
    pub commitment: Option<String>,
    /// The seed, once the doors are open.
    pub seed: Option<String>,
}

/// An organiser's report, as far as money goes.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Seats.
    pub tickets: Sold,
    /// Money.
    pub revenue: Revenue,
    /// Orders that have seats or had them.
    pub orders: i64,
}

/// Seats of a report.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Sold {
    /// For sale.
    pub total: u32,
    /// Sold.
    pub sold: u32,
}

/// Money of a report.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Revenue {
    /// What was taken.
    pub gross: Money,
    /// What went back.
    pub refunded: Money,
}

/// A refusal.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Problem {
    /// What sort, such as `tickets.seat_taken`.
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub detail: String,
    /// Free seats near those that were asked for.
    #[serde(default)]
    pub nearby: Vec<String>,
    /// The order, where there is one by now.
    #[serde(default)]
    pub order: Option<String>,
}

#[derive(Debug, Deserialize)]
struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Answer {
    /// Reads a success.
    ///
    /// # Errors
    /// [`Error::Refused`] for anything else, [`Error::Unreadable`].
    pub fn read<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Error> {
        if !(200..300).contains(&self.status) {
            return Err(self.refused(ask));
        }
        let unreadable = |error: serde_json::Error| Error::Unreadable { what: ask.what(), reason: error.to_string() };
        serde_json::from_slice(&self.body).map_err(unreadable)
    }

    /// As a refusal that nobody expected.
    pub fn refused(&self, ask: &Ask<'_>) -> Error {
        let Problem { code, detail, .. } = self.problem();
        Error::Refused { what: ask.what(), status: self.status, detail: format!("{code} {detail}") }
    }

    /// What a refusal says; nothing where it is none.
    pub fn problem(&self) -> Problem {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// Asks and reads a success.
    ///
    /// # Errors
    /// [`Error::Unanswered`], [`Error::Refused`], [`Error::Unreadable`].
    pub async fn fetch<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, Error> {
        self.send(ask).await?.read(ask)
    }

    /// The page of an event.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn event(&self, event: &str) -> Result<Event, Error> {
        self.fetch(&Ask::get(Call::Event, &format!("/event/{event}"), None)).await
    }

    /// The rows of an event.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn map(&self, event: &str) -> Result<Map, Error> {
        let plan: Plan = self.fetch(&Ask::get(Call::Office, &format!("/event/{event}/plan"), None)).await?;
        Ok(plan.into())
    }

    /// A snapshot of its seats, to be read with [`crate::domain::map::Snapshot`].
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn seats(&self, event: &str) -> Result<Bytes, Error> {
        let path = format!("/event/{event}/seats");
        let mut ask = Ask::get(Call::Seats, &path, None);
        ask.accept = Some("application/octet-stream");
        let answer = self.send(&ask).await?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(answer.refused(&ask)),
        }
    }

    /// Creates or does something as an organiser and gives the answer.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn office(&self, path: &str, token: &str, key: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.fetch(&Ask { method: Method::POST, ..Ask::post(Call::Office, path, token, key, body) }).await
    }

    /// All items of a list; `path` has a query already.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let path = format!("{path}&limit={PAGE}{next}");
            let list: List<T> = self.fetch(&Ask::get(Call::Office, &path, Some(token))).await?;
            all.extend(list.items);
            match list.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Orders of an event that changed since; each once, as it stood last.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn orders(&self, event: &str, since: Timestamp, token: &str) -> Result<HashMap<String, Order>, Error> {
        let orders: Vec<Order> = self.list(&format!("/orders?updated_since={since}"), token).await?;
        let of_event = orders.into_iter().filter(|order| order.event == event);
        Ok(of_event.map(|order| (order.id.clone(), order)).collect())
    }

    /// Tickets of an event that are sold.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn tickets(&self, event: &str, token: &str) -> Result<Vec<Ticket>, Error> {
        self.list(&format!("/tickets?event={event}"), token).await
    }
}

/// The id in an answer.
///
/// # Errors
/// [`Error::Unreadable`] where there is none.
pub fn id_of(answer: &Value, what: &str) -> Result<String, Error> {
    let id = answer["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Unreadable { what: what.to_owned(), reason: "it has no `id`".into() })
}

/// The ticket of a seat: an event's id ends in zeroes, which a ticket's id fills with the seat's number and one.
pub fn ticket_id(event: &str, seat: u32) -> Option<String> {
    let digits = event.strip_prefix("event_").filter(|digits| digits.len() == ID_DIGITS && digits.is_ascii())?;
    Some(format!("ticket_{}{:08x}", &digits[..ID_DIGITS - SEAT_DIGITS], seat.checked_add(1)?))
}

/// The seat of a ticket.
pub fn seat_of(ticket: &str) -> Option<u32> {
    let digits = ticket.strip_prefix("ticket_").filter(|digits| digits.len() == ID_DIGITS && digits.is_ascii())?;
    u32::from_str_radix(&digits[ID_DIGITS - SEAT_DIGITS..], 16).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_and_seats_name_each_other() {
        let event = "event_0199aabbccdd7eee8fffaaaa00000000";
        let ticket = ticket_id(event, 59_999).unwrap();
        assert_eq!(ticket, "ticket_0199aabbccdd7eee8fffaaaa0000ea60");
        assert_eq!(seat_of(&ticket), Some(59_999));
        assert_eq!(seat_of("ticket_0199aabbccdd7eee8fffaaaa00000000"), None);
        assert_eq!((ticket_id("event_1", 0), seat_of("x")), (None, None));
    }
}
