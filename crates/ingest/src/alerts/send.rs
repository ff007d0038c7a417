//! Sends messages to the configured channels: each with deadlines and a few tries, none in the way of another.

use std::time::Duration;

use futures::future::join_all;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{Alert, Message, Resolve, clip, pagerduty, slack, webhook};
use crate::spec::{AlertEvent, Alerts, PagerDuty, Secrets, Slack, Webhook};

/// How long and how often a channel is tried. A run that is told to stop has 30 s in all: its alerts must fit.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Tries, the first included.
    tries: u32,
    /// One try, with its answer.
    one_try: Duration,
    /// All tries and the pauses between them.
    all: Duration,
    /// The first pause; it doubles.
    pause: Duration,
}

const LIMITS: Limits = Limits {
    tries: 3,
    one_try: Duration::from_secs(10),
    all: Duration::from_secs(20),
    pause: Duration::from_millis(500),
};

/// Bytes of an error's body that are read and shown.
const MOST_ANSWER: usize = 300;

/// Where alerts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A Slack incoming webhook.
    Slack,
    /// PagerDuty's Events API v2.
    Pagerduty,
    /// A receiver of JSON.
    Webhook,
}

impl Channel {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Slack, Self::Pagerduty, Self::Webhook];

    /// Its name, as in `alerts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Webhook => "webhook",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Slack => "alerts.slack.webhook",
            Self::Pagerduty => "alerts.pagerduty",
            Self::Webhook => "alerts.webhook",
        }
    }
}

/// What became of one message on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The channel.
    pub channel: Channel,
    /// Whether it took the message.
    pub outcome: Outcome,
    /// How often it was tried.
    pub tries: u32,
}

/// Whether a channel took a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Sent,
    /// It did not: why, without secrets, and what to check.
    Failed(String),
}

/// Sends messages to the channels of a pipeline.
#[derive(Clone, Debug)]
pub struct Alerter {
    slack: Option<Slack>,
    pagerduty: Option<PagerDuty>,
    webhook: Option<Webhook>,
    on: Vec<AlertEvent>,
    client: reqwest::Client,
    secrets: Secrets,
    limits: Limits,
}

/// One request.
struct Post {
    channel: Channel,
    url: String,
    headers: Vec<(String, String)>,
    body: Value,
}

/// What a try came to.
enum Try {
    Taken,
    /// It may go through later; the receiver may have said when.
    Later(String, Option<Duration>),
    Refused(String),
}

impl Alerter {
    /// For the channels and events of `alerts`. What is sent, and every reason of a failure, is redacted with
    /// `secrets` and the channels' own addresses and keys.
    pub fn new(alerts: &Alerts, client: reqwest::Client, mut secrets: Secrets) -> Self {
        let Alerts { slack, pagerduty, webhook, on } = alerts.clone();
        slack.iter().for_each(|slack| secrets.add(slack.webhook.clone()));
        pagerduty.iter().for_each(|pagerduty| secrets.add(pagerduty.routing_key.clone()));
        webhook.iter().for_each(|webhook| secrets.add(webhook.url.clone()));
        Self { slack, pagerduty, webhook, on, client, secrets, limits: LIMITS }
    }

    /// Sends an alert to every channel, at the same time. Nothing where `alerts.on` does not have the event.
    pub async fn send(&self, alert: &Alert) -> Vec<Delivery> {
        self.deliver(&Message::Alert(alert.clone()), &Channel::ALL).await
    }

    /// Says to every channel that it is well again. PagerDuty is told when nothing else is open.
    pub async fn resolve(&self, resolve: &Resolve) -> Vec<Delivery> {
        self.deliver(&Message::Resolved(resolve.clone()), &Channel::ALL).await
    }

    /// Whether a message about this event goes anywhere.
    pub fn wants(&self, event: AlertEvent) -> bool {
        self.on.contains(&event)
    }

    /// The message as it is sent, and the channels that it goes to.
    pub(super) fn addressed(&self, message: &Message) -> (Message, Vec<Channel>) {
        let message = self.prepared(message);
        let posts = if self.wants(message.event()) { self.posts(&message) } else { vec![] };
        (message, posts.into_iter().map(|post| post.channel).collect())
    }

    /// Sends to those of the channels that need to know, at the same time.
    pub(super) async fn deliver(&self, message: &Message, to: &[Channel]) -> Vec<Delivery> {
        if !self.wants(message.event()) {
            return vec![];
        }
        let posts = self.posts(&self.prepared(message)).into_iter().filter(|post| to.contains(&post.channel));
        join_all(posts.map(|post| self.post(post))).await
    }

    fn prepared(&self, message: &Message) -> Message {
        let mut message = message.redacted(&self.secrets);
        if let Message::Resolved(resolve) = &mut message {
            resolve.still_open.retain(|event| self.on.contains(event));
        }
        message
    }

    fn posts(&self, message: &Message) -> Vec<Post> {
        let slack = self.slack.as_ref().map(|slack| Post {
            channel: Channel::Slack,
            url: slack.webhook.clone(),
            headers: vec![],
            body: slack::body(message),
        });
        let pagerduty = self.pagerduty.as_ref().and_then(|settings| {
            let (url, body) = pagerduty::request(settings, message)?;
            Some(Post { channel: Channel::Pagerduty, url, headers: vec![], body })
        });
        let webhook = self.webhook.as_ref().map(|settings| {
            let (body, id) = webhook::body(message);
            let own = [("Idempotency-Key".to_owned(), id)];
            let given = settings.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
            let headers = own.into_iter().chain(given).collect();
            Post { channel: Channel::Webhook, url: settings.url.clone(), headers, body }
        });
        [slack, pagerduty, webhook].into_iter().flatten().collect()
    }

    async fn post(&self, post: Post) -> Delivery {
        let deadline = Instant::now() + self.limits.all;
        let mut pause = self.limits.pause;
        let mut tries = 0;
        let reason = loop {
            tries += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = self.limits.one_try.min(left);
            let tried = match timeout(limit, self.try_once(&post)).await {
                Ok(tried) => tried,
                Err(_) => Try::Later(format!("no answer within {} s", limit.as_secs_f32().ceil()), None),
            };
            let (reason, hint) = match tried {
                Try::Taken => return Delivery { channel: post.channel, outcome: Outcome::Sent, tries },
                Try::Refused(reason) => break format!("{reason}; check `{}`", post.channel.setting()),
                Try::Later(reason, hint) => (reason, hint),
            };
            let wait = hint.unwrap_or(pause);
            if tries >= self.limits.tries {
                break format!("{reason}; gave up after {tries} tries");
            }
            if Instant::now() + wait >= deadline {
                break format!("{reason}; the next try would be in {} s, which is too long to wait", wait.as_secs());
            }
            sleep(wait).await;
            pause *= 2;
        };
        Delivery { channel: post.channel, outcome: Outcome::Failed(self.secrets.redact(&reason)), tries }
    }

    async fn try_once(&self, post: &Post) -> Try {
        let mut request = self.client.post(&post.url).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &post.headers {
            request = request.header(name, value);
        }
        let mut response = match request.body(post.body.to_string()).send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => {
                return Try::Refused(format!("the request cannot be made: {}", in_words(error)));
            }
            Err(error) => return Try::Later(in_words(error), None),
        };
        let status = response.status();
        // A client that follows a redirect asks with GET: a page for people would pass for an answer.
        if redirected(&post.url, response.url()) || status.is_redirection() {
            return Try::Refused(format!("{} sends the message to another address", post.channel.name()));
        }
        if status.is_success() {
            return Try::Taken;
        }
        let hint = retry_after(response.headers());
        let mut answer = vec![];
        while let Ok(Some(bytes)) = response.chunk().await {
            answer.extend_from_slice(&bytes);
            if answer.len() >= MOST_ANSWER {
                break;
            }
        }
        // Redacted before it is cut: half a secret would not be recognised.
        let answer = self.secrets.redact(String::from_utf8_lossy(&answer).trim());
        let answer = if answer.is_empty() { answer } else { format!(" ({})", clip(&answer, MOST_ANSWER)) };
        let reason = format!("{} answered {}{answer}", post.channel.name(), status.as_u16());
        let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        if later || status.is_server_error() { Try::Later(reason, hint) } else { Try::Refused(reason) }
    }
}

fn redirected(asked: &str, answered: &url::Url) -> bool {
    let bare = |mut url: url::Url| {
        url.set_fragment(None);
        url
    };
    url::Url::parse(asked).is_ok_and(|asked| bare(asked) != bare(answered.clone()))
}

/// The error and what caused it, without the URL.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// How long the receiver asks to wait: seconds, or a date held against the receiver's own `Date`. Zero is no hint.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = |text| chrono::DateTime::parse_from_rfc2822(text).ok();
    let after = text(header::RETRY_AFTER)?.trim();
    let wait = match after.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (date(after)? - date(text(header::DATE)?)?).to_std().ok()?,
    };
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
