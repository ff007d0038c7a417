//! `limits`, `access_log` and `tracing`: what holds for all requests.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use tessera_kernel::{Bytes, Span};

use super::rate::PerTime;

/// What holds for every request and connection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The whole head of a request.
    pub head: Bytes,
    /// Path and query.
    pub target: Bytes,
    /// Header lines.
    pub headers: usize,
    /// A request's body, where its route says nothing else.
    pub body: Bytes,
    /// Connections in all.
    pub connections: u32,
    /// Connections of one address; any number where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_ip: Option<u32>,
    /// Requests that one HTTP/2 or HTTP/3 connection may have under way.
    pub streams: u32,
    /// Requests under way; above it less important routes are refused first. Any number where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_at_once: Option<u32>,
    /// Proofs of one address that do not hold, such as wrong passwords; above it no more of its are checked for a while.
    /// Any number where it is `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_proofs_per_ip: Option<PerTime>,
    /// How long a head may take from its first byte, and a connection may be idle before it.
    pub head_timeout: Span,
    /// How long the next bytes of a body may take.
    pub body_timeout: Span,
    /// How long a client may take to accept the next bytes of an answer.
    pub write_timeout: Span,
    /// How long requests may take to end when the gateway stops.
    pub drain: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Bytes(32 << 10),
            target: Bytes(8 << 10),
            headers: 100,
            body: Bytes(10 << 20),
            connections: 50_000,
            connections_per_ip: None,
            streams: 128,
            requests_at_once: None,
            failed_proofs_per_ip: Some(PerTime { count: 60, period: Span::from_secs(60) }),
            head_timeout: Span::from_secs(30),
            body_timeout: Span::from_secs(30),
            write_timeout: Span::from_secs(30),
            drain: Span::from_secs(20),
        }
    }
}

/// A Redis with which several gateways count together: quotas, and rates with `shared`. Where it does not answer each
/// counts by itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedLimits {
    /// Its URL: `redis://host:6379`, or `redis+cluster://a:6379,b:6379`.
    pub redis: String,
    /// How long a request waits for it.
    #[serde(default = "shared_timeout")]
    pub timeout: Span,
    /// What its keys begin with; gateways with the same one count together.
    #[serde(default = "shared_prefix")]
    pub prefix: String,
}

fn shared_timeout() -> Span {
    Span::from_millis(50)
}

fn shared_prefix() -> String {
    "tessera:gateway".into()
}

/// One line for each request.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// The file that lines are appended to; standard output where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How many of the requests answered below 400 within a second are written, in per cent. All others always are.
    pub sample_percent: u8,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: LogFormat::Json, file: None, sample_percent: 100 }
    }
}

/// Spans of requests, where the process sends them somewhere (`telemetry.otlp_endpoint`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// How many of the requests that belong to no trace begin one, in per cent. Others do as their caller's trace says.
    pub sample_percent: u8,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { sample_percent: 100 }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// JSON, one object a line.
    #[default]
    Json,
    /// The combined format of web servers.
    Combined,
    /// None.
    Off,
}
