//! `upstreams`: the services behind the gateway.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use tessera_kernel::{Span, text_on_the_wire};

use super::key::Key;

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its endpoints: a URL each, or `{ url, weight }`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Where endpoints are found, instead of `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Source>,
    /// The components of the gateway's own process answer (`tessera up`), without a connection in between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_process: bool,
    /// Who of them is asked.
    #[serde(default)]
    pub balance: Balance,
    /// What tells callers apart under `balance: hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<Key>,
    /// What is spoken.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS to endpoints with `https`.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// How long a connection may take.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// How long a connection is kept without a request.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Span,
    /// Idle connections that each worker keeps to each endpoint.
    #[serde(default = "idle_connections")]
    pub idle_connections: usize,
    /// How often an HTTP/2 connection that says nothing is asked whether it is still there; it has `connect_timeout` to
    /// answer.
    #[serde(default = "ping_every")]
    pub ping_every: Span,
    /// Probes that find out whether an endpoint is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How long an endpoint that is new or back takes to get its whole share: it begins with a tenth. Not under `hash`,
    /// where a share is a set of keys. All at once where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// When an endpoint that fails is left alone.
    #[serde(default)]
    pub outliers: Outliers,
    /// When the whole upstream is asked no more for a while.
    #[serde(default)]
    pub breaker: Breaker,
    /// The path of its OpenAPI document (3.0 or 3.1, JSON or YAML), which becomes part of the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
    /// Retries for each request that is not one, in per cent.
    #[serde(default = "retry_budget")]
    pub retry_budget_percent: u32,
}

fn connect_timeout() -> Span {
    Span::from_secs(2)
}

fn idle_timeout() -> Span {
    Span::from_secs(60)
}

fn ping_every() -> Span {
    Span::from_secs(10)
}

fn idle_connections() -> usize {
    128
}

fn retry_budget() -> u32 {
    20
}

/// An endpoint: a URL, or a URL with a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Endpoint {
    /// Scheme, host and port.
    pub url: EndpointUrl,
    /// Its share of requests beside the others; 0 gets none.
    pub weight: u32,
    /// The name that its address was found under, which its certificate is for.
    #[serde(skip)]
    pub name: Option<String>,
}

impl Endpoint {
    /// With a weight of 1.
    pub fn at(url: EndpointUrl) -> Self {
        Self { url, weight: 1, name: None }
    }
}

/// The highest weight.
pub const MAX_WEIGHT: u32 = 10_000;

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> de::Visitor<'de> for Written {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or { url, weight }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                Ok(Endpoint::at(text.parse().map_err(E::custom)?))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Fields {
                    url: EndpointUrl,
                    #[serde(default = "one")]
                    weight: u32,
                }
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Endpoint { weight: fields.weight, ..Endpoint::at(fields.url) })
            }
        }
        fn one() -> u32 {
            1
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<EndpointUrl>();
        json_schema!({ "anyOf": [url, {
            "type": "object", "additionalProperties": false, "required": ["url"],
            "properties": { "url": url, "weight": { "type": "integer", "minimum": 0, "maximum": MAX_WEIGHT } },
        }] })
    }
}

/// `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointUrl {
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl EndpointUrl {
    /// Host and port as in a `host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

impl FromStr for EndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not an endpoint; write http://host:port or https://host:port, without a path");
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
        let host = url.host_str().filter(|host| !host.is_empty() && bare).ok_or_else(wrong)?;
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        Ok(Self { is_tls, host: host.trim_matches(['[', ']']).to_owned(), port })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

text_on_the_wire!(EndpointUrl, "^https?://[^/]+/?$", "http://127.0.0.1:9000");

/// Where endpoints are found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The addresses of a name, asked again and again.
    Dns {
        /// The URL with the name; each of its addresses is an endpoint.
        url: EndpointUrl,
        /// How often it is asked; as long as its records hold, between a second and a minute, where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every: Option<Span>,
        /// Name servers that are asked instead of the system's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        servers: Vec<SocketAddr>,
    },
    /// The targets of a service's SRV records, those of the highest priority by their weight.
    Srv {
        /// The name, such as `_http._tcp.shop.internal`.
        name: String,
        /// Whether TLS is spoken; certificates are for the targets' names.
        #[serde(default)]
        tls: bool,
        /// How often it is asked; as long as its records hold, between a second and a minute, where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every: Option<Span>,
        /// Name servers that are asked instead of the system's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        servers: Vec<SocketAddr>,
    },
    /// A file of URLs, one a line; it is read again when it changes.
    File {
        /// The file.
        path: PathBuf,
    },
}

impl Source {
    /// Whether the same endpoints are found there.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns { url, .. }, Self::Dns { url: other, .. }) => url == other,
            (Self::Srv { name, .. }, Self::Srv { name: other, .. }) => name == other,
            (Self::File { path }, Self::File { path: other }) => path == other,
            _ => false,
        }
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// The better of two at random, by how long answers took of late (peak EWMA).
    PeakEwma,
    /// Always the same one for the same `hash_key`.
    Hash,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
    /// What the endpoint chooses in TLS, and HTTP/1.1 without.
    Negotiate,
}

/// TLS to endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// Authorities that sign the endpoints' certificates, as a PEM file; the public ones where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// The name that certificates are for, where it is not the endpoint's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A certificate that the gateway shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<super::Certificate>,
}

/// Probes that find out whether an endpoint is well.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked with GET; an answer of 200 to 399 is well.
    pub path: String,
    /// How often.
    #[serde(default = "health_every")]
    pub every: Span,
    /// How long an answer may take.
    #[serde(default = "health_timeout")]
    pub timeout: Span,
    /// Failures in a row until it counts as unwell.
    #[serde(default = "two")]
    pub failures: u32,
    /// Successes in a row until it counts as well again.
    #[serde(default = "two")]
    pub successes: u32,
}

fn health_every() -> Span {
    Span::from_secs(5)
}

fn health_timeout() -> Span {
    Span::from_secs(2)
}

fn two() -> u32 {
    2
}

/// When an endpoint that fails is left alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outliers {
    /// Failures in a row (no connection, broken off, 502 to 504); 0 never leaves one alone.
    pub failures: u32,
    /// For how long the first time; each further time adds as much again.
    pub pause: Span,
    /// The longest pause.
    pub longest_pause: Span,
    /// The share of endpoints that may be left alone at once, in per cent.
    pub most_percent: u32,
}

impl Default for Outliers {
    fn default() -> Self {
        Self { failures: 5, pause: Span::from_secs(5), longest_pause: Span::from_secs(60), most_percent: 50 }
    }
}

/// When the whole upstream is asked no more for a while.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Requests under way; more are refused at once. Any number where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_at_once: Option<u32>,
    /// Failures in a row, over all endpoints; 0 never opens it.
    pub failures: u32,
    /// How long it stays open before one request tries.
    pub pause: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { requests_at_once: None, failures: 0, pause: Span::from_secs(5) }
    }
}
