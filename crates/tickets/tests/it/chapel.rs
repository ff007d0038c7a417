//! A process whose API is asked without a socket, and a small house to fill it with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tessera_kernel::{Clock, Ids, SystemClock, Uuid};
use tessera_testkit::sql::Databases;
use tessera_tickets::app::App;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::ids::EventId;
use tessera_tickets::http;
use tower::ServiceExt;

use crate::support::Process;

/// A seat plan.
pub const CHAPEL: &str = include_str!("../data/chapel.json");

/// Ids that the tickets of an event have room below.
#[derive(Default)]
pub struct Counted(AtomicU64);

impl Ids for Counted {
    fn next(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1) << 64)
    }
}

/// A process and its API.
pub struct Api {
    /// The process.
    pub app: App,
    /// How many keys it has drawn for writes.
    pub keys: AtomicU64,
}

/// What was answered.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    head: axum::http::HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.head.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Api {
    pub async fn open(url: &str, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let (app, _) = Process { ids, ..Process::new(url, clock) }.start().await;
        Self { app, keys: AtomicU64::default() }
    }

    pub async fn start(databases: &Databases) -> Self {
        Self::open(&databases.fresh(), Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await
    }

    pub async fn send(&self, method: &str, path: &str, who: &str, head: &[(&str, &str)], body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        if !who.is_empty() {
            let (role, subject) = who.split_once(' ').unwrap_or(("organiser", who));
            let token = self.app.keys.sign_token(subject, &[role.to_owned()], Duration::from_secs(600)).unwrap();
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = http::router(self.app.clone()).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (status, head) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap().to_vec();
        Answer { status, head, body }
    }

    pub async fn get(&self, path: &str, who: &str) -> Answer {
        self.send("GET", path, who, &[], String::new()).await
    }

    /// A write under a key of its own.
    pub async fn write(&self, method: &str, path: &str, who: &str, body: Value) -> Answer {
        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, who, &[("idempotency-key", &key)], body).await
    }

    /// A write that is carried out.
    pub async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.write(method, path, "ona", body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// A draft in the chapel.
    pub async fn draft(&self) -> Value {
        let plan = self.done("POST", "/organiser/plans", serde_json::from_str(CHAPEL).unwrap()).await;
        let venue = self.done("POST", "/organiser/venues", venue(&plan["id"])).await;
        let performer = self.done("POST", "/organiser/performers", json!({ "name": "Coro Novo" })).await;
        self.done("POST", "/organiser/events", event(&venue["id"], &performer["id"])).await
    }

    /// An event on sale in the chapel.
    pub async fn on_sale(&self) -> (EventId, Value) {
        let draft = self.draft().await;
        let id = draft["id"].as_str().unwrap();
        let event = self.done("POST", &format!("/organiser/events/{id}/publish"), Value::Null).await;
        (id.parse().unwrap(), event)
    }

    pub async fn hold(&self, subject: &str, wish: Wish) {
        let key = format!("hold-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let request = tessera_tickets::app::request::Request { subject: subject.into(), key };
        self.app.reserve(&request, &wish).await.unwrap();
    }
}

/// A description of a venue with this plan.
pub fn venue(plan: &Value) -> Value {
    json!({
        "name": "Capela das Flores", "city": "Lisboa", "country": "PT", "address": "Rua das Flores 1",
        "lat": 38.71, "lng": -9.14, "timezone": "Europe/Lisbon", "plan": plan
    })
}

/// A description of an event there.
pub fn event(venue: &Value, performer: &Value) -> Value {
    json!({
        "name": "Vésperas <script>alert(1)</script>", "kind": "Concert", "venue": venue, "performers": [performer],
        "starts_at": "2030-05-01T19:00:00Z", "doors_at": "2030-05-01T18:00:00Z", "currency": "EUR",
        "price_levels": [
            { "key": "nave", "name": "Nave", "price": 3000, "color": "#c2493d", "categories": ["Nave"] },
            { "key": "choir", "name": "Choir", "price": 4500, "color": "#5b7f95", "categories": ["Choir"] },
            { "key": "standing", "name": "Standing", "price": 1000, "color": "#888888" }
        ],
        "areas": [{ "key": "porch", "name": "Porch", "capacity": 5, "price_level": "standing" }]
    })
}
