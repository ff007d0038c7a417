//! Telling the product what happened: signed, and as well or badly as the test wants it.

use std::time::Duration;

use ring::hmac;

use super::{State, Stripe, WEBHOOK_SECRET};
use crate::wire;

/// Something that happened to a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `evt_…`.
    pub id: String,
    /// Such as `payment_intent.succeeded`.
    pub kind: String,
    /// `pi_…`.
    pub payment: String,
    /// What is sent, as JSON.
    pub body: String,
}

/// How events are told by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Not at all; see [`Stripe::deliver`].
    #[default]
    Held,
    /// At once, to this URL (`http://host:port/path`).
    Prompt(String),
    /// At once and twice.
    Doubled(String),
}

impl Stripe {
    /// How events are told from now on; those that were held stay so.
    pub fn set_delivery(&self, delivery: Delivery) {
        let mut books = self.state.books();
        books.delivered = books.events.len();
        books.delivery = delivery;
    }

    /// All events so far, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.state.books().events.clone()
    }

    /// The header `stripe-signature` of an event that is sent now.
    pub fn signature(&self, event: &Event) -> String {
        sign(WEBHOOK_SECRET, self.state.now(), &event.body)
    }

    /// The header of one that was sent so long ago and comes again.
    pub fn old_signature(&self, event: &Event, age: Duration) -> String {
        sign(WEBHOOK_SECRET, self.state.now() - i64::try_from(age.as_secs()).unwrap_or(0), &event.body)
    }

    /// The header that somebody makes up who does not have the secret.
    pub fn forged_signature(&self, event: &Event) -> String {
        sign("whsec_guessed", self.state.now(), &event.body)
    }

    /// Posts an event to a URL under a signature and gives the status of the answer.
    ///
    /// # Panics
    /// Where nothing answers there.
    pub fn deliver(&self, url: &str, event: &Event, signature: &str) -> u16 {
        post(url, event, signature).unwrap_or_else(|error| panic!("{url}: {error}"))
    }
}

/// Tells what is new, if it is to be told by itself. Waits for no answer.
pub(super) fn deliver_new(state: &State) {
    let (events, delivery) = {
        let mut books = state.books();
        let all = books.events.len();
        let from = std::mem::replace(&mut books.delivered, all);
        (books.events[from..].to_vec(), books.delivery.clone())
    };
    let (url, times) = match delivery {
        Delivery::Held => return,
        Delivery::Prompt(url) => (url, 1),
        Delivery::Doubled(url) => (url, 2),
    };
    let now = state.now();
    std::thread::spawn(move || {
        for event in events {
            for _ in 0..times {
                // Whether anybody listens is not ours to know.
                let _ = post(&url, &event, &sign(WEBHOOK_SECRET, now, &event.body));
            }
        }
    });
}

fn post(url: &str, event: &Event, signature: &str) -> std::io::Result<u16> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let header = format!("stripe-signature: {signature}\r\n");
    wire::post_with(address, &format!("/{path}"), &header, &event.body).map(|(status, _)| status)
}

fn sign(secret: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={digits}")
}
