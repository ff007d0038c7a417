//! A desk where one signs in, on a database, in time that is moved by hand.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Request, StatusCode};
use axum::body::Body;
use http_body_util::BodyExt;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tessera_accounts::app::passwords::Passwords;
use tessera_accounts::app::{App, Parts};
use tessera_accounts::config::{Config, Hashing};
use tessera_accounts::domain::ids::UserId;
use tessera_accounts::store::Store;
use tessera_accounts::{Metrics, http, signing};
use tessera_kernel::{Clock, ManualClock, RandomIds, SystemClock, Timestamp};
use tessera_service::http::Peer;
use tessera_service::identity::Origin;
use tessera_service::{Identity, Keys};
use tower::ServiceExt;

pub const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
pub const PASSWORD: &str = "four small green owls";
pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// A process of the service.
pub struct Desk {
    pub app: App,
    /// Where time is moved by hand: on SQLite, which goes by it.
    pub clock: Option<Arc<ManualClock>>,
    metrics: Metrics,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// Hashing that takes no time; what it is worth is not what these tests are about.
pub fn quick() -> Config {
    Config { hashing: Hashing { memory_kib: 64, passes: 1, lanes: 1, at_once: 4, waiting: 256 }, ..Config::default() }
}

impl Desk {
    /// A process whose time is moved by hand.
    pub async fn still(url: &str, config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(NOON));
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let metrics = Metrics::default();
        Self { app: app(url, config, clock.clone(), keys, &metrics).await, clock: Some(clock), metrics }
    }

    /// A process in real time.
    pub async fn live(url: &str, config: Config) -> Self {
        let clock = Arc::new(SystemClock);
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let metrics = Metrics::default();
        Self { app: app(url, config, clock, keys, &metrics).await, clock: None, metrics }
    }

    /// Another process of the same installation.
    pub async fn sibling(&self, url: &str) -> Self {
        let clock: Arc<dyn Clock> = match &self.clock {
            Some(clock) => clock.clone(),
            None => Arc::new(SystemClock),
        };
        let metrics = Metrics::default();
        let app = app(url, self.app.config().clone(), clock, self.app.keys().clone(), &metrics).await;
        Self { app, clock: self.clock.clone(), metrics }
    }

    pub fn passes(&self, seconds: u64) {
        self.clock.as_ref().unwrap().advance(Duration::from_secs(seconds));
    }

    pub async fn send(&self, request: ::http::request::Builder, body: &str) -> Answer {
        let request = request.extension(Peer { address: SocketAddr::new(HOME, 4_711), is_tls: false });
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = http::router(self.app.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request, &body.to_string()).await
    }

    /// Asks with a token.
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        self.send(request, &if body.is_null() { String::new() } else { body.to_string() }).await
    }

    /// What was counted, as Prometheus reads it.
    pub fn numbers(&self) -> String {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// The token of an admin who exists.
    pub async fn admin(&self) -> String {
        self.app.make_user("root-admin", PASSWORD, vec!["admin".into()]).await.unwrap().unwrap();
        self.app.sign_in("root-admin", PASSWORD, HOME).await.unwrap().access_token
    }
}

/// As whom the token of an account has its bearer.
pub fn of(user: UserId) -> Identity {
    let origin = Origin::Ring;
    Identity {
        subject: user.to_string().into(),
        roles: [].into(),
        origin,
        expires_at: Timestamp::from_micros(i64::MAX),
    }
}

/// How many rows a table has.
pub async fn rows(url: &str, table: &'static str) -> i64 {
    number(url, &format!("SELECT COUNT(*) FROM accounts.{table}")).await
}

/// Does this to what is stored.
pub async fn execute(url: &str, text: &str) {
    if url.starts_with("sqlite:") {
        let text = sqlx::AssertSqlSafe(text.replace("accounts.", ""));
        let pool = sqlx::SqlitePool::connect(url).await.unwrap();
        sqlx::query(text).execute(&pool).await.unwrap();
        pool.close().await;
    } else {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        sqlx::query(text).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

/// A number out of what is stored.
pub async fn number(url: &str, text: &str) -> i64 {
    if url.starts_with("sqlite:") {
        let text = sqlx::AssertSqlSafe(text.replace("accounts.", ""));
        let pool = sqlx::SqlitePool::connect(url).await.unwrap();
        let number = sqlx::query_scalar(text).fetch_one(&pool).await.unwrap();
        pool.close().await;
        number
    } else {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        let number = sqlx::query_scalar(text).fetch_one(&pool).await.unwrap();
        pool.close().await;
        number
    }
}

async fn app(url: &str, config: Config, clock: Arc<dyn Clock>, keys: Keys, metrics: &Metrics) -> App {
    let store = Store::open(url, Arc::clone(&clock), config.rules(), Default::default()).await.unwrap();
    keys.name_issuer("http://127.0.0.1:8080").unwrap();
    signing::renew(&config, &keys).unwrap();
    App::new(Parts {
        store,
        keys,
        passwords: Passwords::new(config.hashing).unwrap(),
        config,
        issuer: "http://127.0.0.1:8080".into(),
        ids: Arc::new(RandomIds),
        metrics: metrics.clone(),
    })
}
