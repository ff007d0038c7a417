//! Who is told when something is wrong.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is told of what.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// PagerDuty, Events API v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDuty>,
    /// Any receiver of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Which events are told; all when not given.
    #[serde(default = "every_event")]
    pub on: Vec<AlertEvent>,
}

impl Alerts {
    /// Whether there is a channel at all.
    pub fn is_anyone_told(&self) -> bool {
        self.slack.is_some() || self.pagerduty.is_some() || self.webhook.is_some()
    }
}

fn every_event() -> Vec<AlertEvent> {
    vec![AlertEvent::RunFailed, AlertEvent::SlaMissed, AlertEvent::QualityFailed, AlertEvent::SchemaDrift]
}

/// What an alert can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// A run failed.
    RunFailed,
    /// The data is later than promised.
    SlaMissed,
    /// A quality rule was broken.
    QualityFailed,
    /// The rows changed their shape.
    SchemaDrift,
}

/// A Slack incoming webhook.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// Its URL, which is a secret.
    pub webhook: String,
}

/// PagerDuty, Events API v2.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// Integration key of the service.
    pub routing_key: String,
    /// Another endpoint than PagerDuty's own.
    #[serde(default = "pagerduty_url")]
    pub url: String,
    /// critical, error, warning or info.
    #[serde(default = "pagerduty_severity")]
    pub severity: String,
}

fn pagerduty_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".into()
}
fn pagerduty_severity() -> String {
    "error".into()
}

/// Any receiver of JSON.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where the alert is posted.
    pub url: String,
    /// Sent with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}
