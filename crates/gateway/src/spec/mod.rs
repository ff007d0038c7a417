//! The config file: what a user writes, as types. The doc comments are the reference: the JSON Schema is made of them.

mod aggregate;
mod auth;
mod cache;
mod check;
mod compress;
mod documents;
mod key;
mod limits;
mod listener;
mod load;
mod matching;
mod rate;
mod route;
mod template;
mod transcode;
mod upstream;
mod validate;
mod versions;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::text_on_the_wire;

use crate::domain::cidr::Cidr;

pub use aggregate::{Aggregate, Call};
pub use auth::{Algorithm, ApiKey, Auth, JwtKey, SignedIdentity, User};
pub use cache::{Cache, CacheDisk, CacheQuery, RouteCache};
pub use check::check;
pub use compress::Compress;
pub use documents::{Docs, Documents, document_path};
pub use key::Key;
pub use limits::{AccessLog, Limits, LogFormat, SharedLimits, Tracing};
pub use listener::{Acme, AcmeChallenge, Certificate, ClientCertificates, Listener, Tls, TlsProfile};
pub use load::{Loaded, json_schema, load, load_file};
pub use matching::{Matcher, Text};
pub use rate::PerTime;
pub use route::{
    Access, Headers, Importance, Mirror, RateLimit, Redirect, Respond, Retry, RetryOn, Rewrite, Route, Share,
};
pub use template::Template;
pub use tessera_service::yaml::Environment;
pub use transcode::Transcode;
pub use upstream::{
    Balance, Breaker, Endpoint, EndpointUrl, Health, MAX_WEIGHT, Outliers, Protocol, Source, Upstream, UpstreamTls,
};
pub use validate::{Strictness, Validate};
pub use versions::{Day, Version, VersionKey, Versions, chain as version_chain};

text_on_the_wire!(Cidr, "^[0-9a-fA-F.:]+(/[0-9]+)?$", "10.0.0.0/8");

/// The gateway: where it listens, who is behind it, and which requests go where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Version of this file's format: 1.
    pub version: u32,
    /// Threads that serve; as many as the machine has cores where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Proxies in front of the gateway, whose `x-forwarded-for` is believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<crate::domain::cidr::Cidr>,
    /// What holds for every request and connection.
    #[serde(default)]
    pub limits: Limits,
    /// A Redis with which several gateways count together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_limits: Option<SharedLimits>,
    /// One line for each request.
    #[serde(default)]
    pub access_log: AccessLog,
    /// Spans of requests, where the process sends them somewhere.
    #[serde(default)]
    pub tracing: Tracing,
    /// Ways to prove who one is, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auth: BTreeMap<String, Auth>,
    /// Who asks, for services, in a signed token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_identity: Option<SignedIdentity>,
    /// The services behind the gateway, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Where answers are kept, for routes with a `cache`; in memory where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// The OpenAPI documents of the upstreams, merged into one.
    #[serde(default)]
    pub documents: Documents,
    /// Which requests go where. The most specific path wins, whatever the order.
    pub routes: Vec<Route>,
}
