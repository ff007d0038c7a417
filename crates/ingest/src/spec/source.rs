//! The API: where it is, how fast it may be asked, how often it is tried.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, Bytes, Span};

/// The API.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Where the API lives; resource paths are appended to it.
    pub base_url: String,
    /// How requests prove who sends them.
    #[serde(default)]
    pub auth: Auth,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Sent in the query of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Our own limit, whatever the API allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Requests in flight at the most; fewer while the API answers 429 or 5xx.
    #[serde(default = "default_concurrency")]
    pub concurrency: u16,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often a request is tried, the first time included.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// Further hosts that next URLs and parent rows may lead to; the API's own host always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Largest response body, decompressed.
    #[serde(default = "default_max_body")]
    pub max_body: Bytes,
    /// A path that `check` calls to try the connection and the credentials; the first resource otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_path: Option<String>,
}

fn default_concurrency() -> u16 {
    8
}
fn default_timeout() -> Span {
    Span::from_secs(60)
}
fn default_attempts() -> u32 {
    8
}
fn default_max_body() -> Bytes {
    Bytes(256 << 20)
}

/// Requests a second, with a burst.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Steady rate; fractions are fine: 0.5 is one request every two seconds.
    pub requests_per_second: f64,
    /// How many may go at once after a pause.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}
