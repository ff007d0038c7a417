//! Push notifications: a hint to a phone that sleeps, through the service that its app is registered with. The stream and the
//! row of the ride are the truth; nothing waits for a push, and nothing rests on one.

mod apns;
mod config;
mod crypt;
mod fcm;
mod metrics;
mod note;
mod web;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use tessera_kernel::{Clock, Timestamp, Uuid};

use crate::domain::ids::uuid_of;
use apns::Apns;
use fcm::Fcm;
use web::Web;

pub use config::{ApnsConfig, Config, FcmConfig, WebConfig};
pub use metrics::Metrics;
pub use note::{Note, notes_of};

/// How long a connection to a service may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Answers are short; what is longer is not read on.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// Who brings it to the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Web Push (RFC 8030), for browsers.
    Web,
}

impl Service {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Fcm, Self::Apns, Self::Web];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Web => "web",
        }
    }
}

/// Where a phone or browser is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Of its owner, service and address.
    pub id: Uuid,
    /// Whose it is: a driver's id, or [`rider_of`].
    pub owner: Uuid,
    /// Of the token that registered it.
    pub subject: String,
    /// Through whom.
    pub service: Service,
    /// The token that the service gave to the app, or the endpoint of a browser's subscription.
    pub address: String,
    /// The browser's key and secret, which the message is encrypted for.
    pub keys: Option<WebKeys>,
    /// When it was registered last.
    pub seen_at: Timestamp,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address is as good as a password.
        f.debug_struct("Device").field("id", &self.id).field("service", &self.service).finish_non_exhaustive()
    }
}

/// The key and the secret of a browser's subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WebKeys {
    /// Its public key: a point of P-256, uncompressed.
    pub p256dh: [u8; 65],
    /// Its secret.
    pub auth: [u8; 16],
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it.
    Sent,
    /// The service knows no such device any more.
    Gone,
    /// The service does not take it, and will not.
    Refused(String),
    /// The service may take it later, after so long where it says so.
    Later(String, Option<Duration>),
}

impl Outcome {
    /// As it is stored and counted.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Gone => "gone",
            Self::Refused(_) => "refused",
            Self::Later(..) => "later",
        }
    }

    /// What the service says, where it did not take it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Sent | Self::Gone => None,
            Self::Refused(reason) | Self::Later(reason, _) => Some(reason),
        }
    }
}

/// A service that brings notes to devices. One call is one attempt.
pub trait Push: Send + Sync {
    /// Sends a note that is worth something for `ttl` from now on.
    fn send<'a>(&'a self, device: &'a Device, note: &'a Note, ttl: Duration) -> BoxFuture<'a, Outcome>;
}

/// The services that are set up.
#[derive(Clone, Default)]
pub struct Services {
    fcm: Option<Arc<dyn Push>>,
    apns: Option<Arc<dyn Push>>,
    web: Option<Arc<dyn Push>>,
}

impl Services {
    /// Reads keys and makes clients.
    ///
    /// # Errors
    /// The setting, and why it cannot be met.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, (&'static str, String)> {
        let client = tessera_service::client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ("rides.push", format!("no HTTP client can be made: {error}")))?;
        let named = |key: &'static str| move |reason: String| (key, reason);
        let fcm = Fcm::open(&config.fcm, client.clone(), Arc::clone(clock)).map_err(named("rides.push.fcm"))?;
        let apns = Apns::open(&config.apns, client.clone(), Arc::clone(clock)).map_err(named("rides.push.apns"))?;
        let web = Web::open(&config.web, client, Arc::clone(clock)).map_err(named("rides.push.web"))?;
        Ok(Self {
            fcm: fcm.map(|fcm| Arc::new(fcm) as Arc<dyn Push>),
            apns: apns.map(|apns| Arc::new(apns) as Arc<dyn Push>),
            web: web.map(|web| Arc::new(web) as Arc<dyn Push>),
        })
    }

    /// Whether none is set up.
    pub fn is_empty(&self) -> bool {
        Service::ALL.iter().all(|service| self.get(*service).is_none())
    }

    /// A service, where it is set up.
    pub fn get(&self, service: Service) -> Option<&Arc<dyn Push>> {
        match service {
            Service::Fcm => self.fcm.as_ref(),
            Service::Apns => self.apns.as_ref(),
            Service::Web => self.web.as_ref(),
        }
    }
}

/// The owner of a rider's devices.
pub fn rider_of(subject: &str) -> Uuid {
    uuid_of(&[b"tessera-rider:", subject.as_bytes()])
}

/// What a service answered: status, seconds to wait where it says so, and the beginning of the body.
struct Answer {
    status: u16,
    after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    /// What its status means where nothing more is known: 429 and faults of the service may pass.
    fn outcome(self, reason: &str) -> Outcome {
        let said = format!("{} {reason}", self.status).trim_end().to_owned();
        match self.status {
            200..=299 => Outcome::Sent,
            408 | 429 | 500..=599 => Outcome::Later(said, self.after),
            _ => Outcome::Refused(said),
        }
    }
}

/// Sends a request; where nothing comes back it may come later.
async fn ask(request: RequestBuilder) -> Result<Answer, Outcome> {
    let later = |error: reqwest::Error| Outcome::Later(error.without_url().to_string(), None);
    let answer = request.send().await.map_err(later)?;
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(answer).await.map_err(later)?;
    Ok(Answer { status, after: after.map(Duration::from_secs), body })
}

async fn read(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES - body.len())]);
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

/// Whole seconds since 1970.
fn unix_s(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

/// Whole seconds, at least one: some services take zero for "now or never".
fn whole_s(span: Duration) -> u64 {
    span.as_secs().max(1)
}
