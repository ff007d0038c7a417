//! `routes`: which requests go where, and what is asked of them on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Bytes, Span};

use super::aggregate::Aggregate;
use super::cache::RouteCache;
use super::compress::Compress;
use super::documents::Docs;
use super::key::Key;
use super::matching::{Matcher, Text};
use super::rate::PerTime;
use super::template::Template;
use super::transcode::Transcode;
use super::validate::Validate;
use super::versions::Versions;

/// A route. It has one of `upstream`, `split`, `redirect`, `respond`, `aggregate` and `docs`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in logs, metrics and the admin API.
    pub name: String,
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matcher: Matcher,
    /// Before routes of the same path with a lower one; then those that ask for more come first.
    #[serde(default)]
    pub priority: i32,
    /// The upstream that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Upstreams that share the requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Share>,
    /// What keeps a caller with one share of `split`; left out, each request is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Key>,
    /// Sends the caller elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answers itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Asks several upstreams and shapes one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Serves the OpenAPI documents of all upstreams, merged, or a page that shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<Docs>,
    /// A second upstream that gets a copy of requests without a body; its answers are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Checks requests and answers against an OpenAPI document or a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Validate>,
    /// HTTP and JSON for callers of a gRPC service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcode: Option<Transcode>,
    /// Its versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// Changes to path and host.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// How long until the answer begins, retries included.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long an answer or a WebSocket may say nothing.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Span,
    /// The largest body of a request; that of `limits` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Bytes>,
    /// Headers on the way to the upstream.
    #[serde(default)]
    pub request_headers: Headers,
    /// Headers on the way to the caller.
    #[serde(default)]
    pub response_headers: Headers,
    /// Whether the upstream sees the caller's `host` instead of its own.
    #[serde(default = "yes")]
    pub keep_host: bool,
    /// Who may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// How often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// How many requests at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_at_once: Option<u32>,
    /// What is refused first when there is too much to do.
    #[serde(default)]
    pub importance: Importance,
    /// When a request is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Whether gRPC-Web of browsers goes on as gRPC. The upstream speaks HTTP/2.
    #[serde(default)]
    pub grpc_web: bool,
    /// Whether other protocols may take over the connection (WebSocket).
    #[serde(default = "yes")]
    pub upgrades: bool,
    /// Keeps answers and gives them to later callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RouteCache>,
    /// Compresses answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Whether compressed bodies of requests (zstd, br, gzip) are inflated for the upstream; `body` limits what comes out.
    #[serde(default)]
    pub decompress: bool,
}

impl Route {
    /// The names of all upstreams that its requests may be forwarded to.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let shares = self.split.iter().map(|share| share.upstream.as_str());
        let versions = self.versions.iter().flat_map(|versions| versions.known.values());
        let versions = versions.filter_map(|version| version.upstream.as_deref());
        self.upstream.as_deref().into_iter().chain(shares).chain(versions)
    }
}

fn timeout() -> Span {
    Span::from_secs(30)
}

fn idle_timeout() -> Span {
    Span::from_secs(300)
}

fn yes() -> bool {
    true
}

/// A share of `split`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The upstream.
    pub upstream: String,
    /// Its weight beside the others.
    pub weight: u32,
}

/// Sends the caller elsewhere.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Where: a path or URL with `{parameter}`, `{host}`, `{path}` and `{query}` (with its `?`). It begins with `/`,
    /// `https://`, `http://` or `{path}`.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

/// Answers itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status.
    #[serde(default = "ok")]
    pub status: u16,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: String,
}

fn ok() -> u16 {
    200
}

/// A copy of requests for a second upstream.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The upstream.
    pub upstream: String,
    /// Of how many requests, in per cent.
    #[serde(default = "all")]
    pub percent: u8,
}

fn all() -> u8 {
    100
}

/// Changes to path and host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// The new path, with `{parameter}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Template>,
    /// What is taken away from the path's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// What is put before the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_prefix: Option<String>,
    /// The host that the upstream sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Changes to headers. Values may have `{request_id}`, `{client_ip}`, `{subject}` and the path's `{parameters}`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Set, instead of what is there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Template>,
    /// Added to what is there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, Template>,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Ways to prove who one is, by their names under `auth`; any of them does.
    pub by: Vec<String>,
    /// Whether callers without any proof may pass, as nobody. A proof that does not hold is always refused.
    #[serde(default)]
    pub anonymous: bool,
    /// Roles: any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Scopes: all of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Claims: all of these; a value may name a parameter of the path, as in `"{user}"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Text>,
    /// Policies in the Cedar language, one of which must permit it, and none forbid. `principal` is `User::"…"` in its `Role::"…"`,
    /// `action` is `Action::"GET"`, `resource` is `Route::"…"`; `context` has `subject`, `scopes`, `claims`, `path` (its parameters),
    /// `host` and `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The same, in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_file: Option<PathBuf>,
}

/// How often.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Its name, in refusals and metrics. Routes that name the same limit with the same rate share it.
    pub name: String,
    /// Whose requests are counted together; all requests where it is empty.
    #[serde(default)]
    pub per: Vec<Key>,
    /// How many in which time, such as `100/s`.
    pub rate: PerTime,
    /// How many at once; the number of `rate` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Whether all gateways with the same `shared_limits` count together.
    #[serde(default)]
    pub shared: bool,
}

/// What is refused first when there is too much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// From 70 per cent of `limits.requests_at_once` on.
    Low,
    /// From 90 per cent on.
    #[default]
    Normal,
    /// At 100 per cent.
    High,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// What is tried again, besides connections that could not be made. Only GET, HEAD, OPTIONS, PUT and DELETE without
    /// a body are.
    pub on: Vec<RetryOn>,
    /// How long one attempt may take until its answer begins; the route's `timeout` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Span>,
    /// After how long without an answer a second endpoint is asked beside the first, for GET, HEAD and OPTIONS without a
    /// body; whichever answers first counts. Never where it is left out. The second one comes out of the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Span>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, on: vec![RetryOn::BrokenOff], attempt_timeout: None, hedge_after: None }
    }
}

/// A reason to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// The connection ended before an answer.
    BrokenOff,
    /// No answer within `attempt_timeout`.
    Timeout,
    /// An answer of 502, 503 or 504.
    Unavailable,
}
