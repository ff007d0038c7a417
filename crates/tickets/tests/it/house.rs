//! A process and its API with an event on sale, asked over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;
use tessera_testkit::sql::Databases;
use tessera_tickets::app::App;
use tessera_tickets::domain::ids::EventId;
use tessera_tickets::payment::Test;
use tower::ServiceExt;

use crate::support::{Process, hall, tickets};

/// The card that succeeds.
pub const GOOD: &str = "4242424242424242";

/// A process.
pub struct House {
    pub url: String,
    pub event: EventId,
    pub keys: Keys,
    pub app: App,
    pub test: Arc<Test>,
    router: Router,
    count: AtomicU64,
}

impl House {
    /// On a fresh database with [`hall`].
    pub async fn open(databases: &Databases) -> Self {
        let (url, event) = hall(databases).await;
        Self::on(url, event, Arc::new(SystemClock)).await
    }

    /// On a database with an event.
    pub async fn on(url: String, event: EventId, clock: Arc<dyn Clock>) -> Self {
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        Self::beside(url, event, keys, clock).await
    }

    /// One more process of an installation.
    pub async fn beside(url: String, event: EventId, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        let (app, test) = Process { keys: keys.clone(), ..Process::new(&url, clock) }.start().await;
        let router = tessera_tickets::http::router(app.clone())
            .merge(tessera_tickets::http::test_payment::router(app.clone(), test.clone()));
        Self { url, event, keys, app, test, router, count: AtomicU64::default() }
    }

    /// A token, such as of `fan ana`.
    pub fn token(&self, who: &str) -> String {
        let (role, subject) = who.split_once(' ').unwrap();
        self.keys.sign_token(subject, &[role.to_owned()], Duration::from_secs(600)).unwrap()
    }

    /// Sends a request with these headers; the answer's status and JSON.
    pub async fn send(&self, method: &str, path: &str, head: &[(&str, &str)], body: Option<String>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 26).await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
    }

    pub async fn get(&self, path: &str, who: &str) -> Value {
        let (status, body) = self.send("GET", path, &[("authorization", &bearer(&self.token(who)))], None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A write under a key.
    pub async fn write(&self, path: &str, who: &str, key: &str, body: &Value) -> (u16, Value) {
        let token = bearer(&self.token(who));
        let head = [("authorization", token.as_str()), ("idempotency-key", key)];
        self.send("POST", path, &head, Some(body.to_string())).await
    }

    /// A write that is done, under a key of its own.
    pub async fn done(&self, path: &str, who: &str, body: Value) -> Value {
        let key = format!("own-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let (status, answer) = self.write(path, who, &key, &body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// A hold on seats.
    pub async fn hold(&self, subject: &str, seats: &[u32]) -> String {
        let wish = json!({ "ticket_ids": tickets(self.event, seats) });
        let hold = self.done("/booking/reserve", &format!("fan {subject}"), wish).await;
        hold["hold_id"].as_str().unwrap().to_owned()
    }

    /// Seats, bought with a card; what confirming has said.
    pub async fn pay(&self, subject: &str, seats: &[u32], number: &str) -> Value {
        let hold = self.hold(subject, seats).await;
        let card = json!({ "number": number, "exp_month": 12, "exp_year": 2094, "cvc": "123" });
        let body = json!({ "hold_id": hold, "payment_details": { "card": card } });
        self.done("/booking/confirm", &format!("fan {subject}"), body).await
    }

    /// Seats, bought; the order's id.
    pub async fn buy(&self, subject: &str, seats: &[u32]) -> String {
        self.pay(subject, seats, GOOD).await["order"]["id"].as_str().unwrap().to_owned()
    }

    /// Set aside, captured, refunded.
    pub async fn sums(&self) -> (i64, i64, i64) {
        let totals = self.test.totals().await.unwrap();
        totals.first().map_or((0, 0, 0), |sums| (sums.authorised, sums.captured, sums.refunded))
    }
}

/// The header of a token.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// All pages of a list.
pub async fn walk(house: &House, path: &str, who: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = house.get(&format!("{path}{joint}limit={limit}&cursor={cursor}"), who).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return items,
        }
    }
}
