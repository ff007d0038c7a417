//! `cache`: answers that are kept, and what of a request tells them apart.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Bytes, Span};

use super::check::{Fault, ensure};
use super::key::Key;
use super::{Gateway, Route};

/// Where answers are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// How much is kept in memory.
    pub memory: Bytes,
    /// A folder for more; it outlives restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<CacheDisk>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory: Bytes(64 << 20), disk: None }
    }
}

/// Answers kept on disk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheDisk {
    /// A folder that nothing else uses. What looks like the gateway's there is the gateway's, and is removed when there is
    /// too much of it.
    pub folder: PathBuf,
    /// How much is kept there.
    #[serde(default = "disk_size")]
    pub size: Bytes,
}

fn disk_size() -> Bytes {
    Bytes(1 << 30)
}

/// Keeps answers to GET as their `cache-control` says (RFC 9111).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteCache {
    /// Which parameters of the query tell answers apart.
    pub query: CacheQuery,
    /// What else tells answers apart, beside what `vary` names. With `consumer`, each caller has answers of its own, and
    /// they are kept without asking for `public`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<Key>,
    /// How long answers are fresh that do not say it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_lifetime: Option<Span>,
    /// How long stale answers are used while they are fetched anew, where they do not say it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate: Option<Span>,
    /// How long stale answers are used where the upstream fails, where they do not say it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<Span>,
    /// The largest answer that is kept.
    pub object: Bytes,
    /// Whether answers with `set-cookie` are kept that say neither `public` nor `s-maxage`: everyone gets the same cookie.
    pub set_cookie: bool,
    /// Whether callers may ask for fresher answers (`cache-control` and `pragma` of requests).
    pub callers_decide: bool,
    /// The header of answers that has their tags, for purging; it goes no further.
    pub tag_header: String,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self {
            query: CacheQuery::All,
            by: Vec::new(),
            default_lifetime: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            object: Bytes(1 << 20),
            set_cookie: false,
            callers_decide: true,
            tag_header: "surrogate-key".into(),
        }
    }
}

/// Which parameters of the query tell answers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheQuery {
    /// All, as they are written.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Vec<String>),
    /// All but these; a star at the end stands for any rest, as in `utm_*`.
    Without(Vec<String>),
}

/// Rules of the caches of gateway and route.
pub(super) fn check(gateway: &Gateway) -> Result<(), Fault> {
    let least = Bytes(1 << 20);
    if let Some(cache) = &gateway.cache {
        ensure(cache.memory >= least, &["cache", "memory"], || "memory must be at least 1MiB".into())?;
        if let Some(disk) = &cache.disk {
            ensure(disk.size >= least, &["cache", "disk", "size"], || "size must be at least 1MiB".into())?;
        }
    }
    gateway.routes.iter().try_for_each(check_route)
}

fn check_route(route: &Route) -> Result<(), Fault> {
    let Some(cache) = &route.cache else { return Ok(()) };
    let name = route.name.as_str();
    ensure(route.upstream.is_some() || !route.split.is_empty(), &["routes", name, "cache"], || {
        "there is nothing to keep without an upstream; take out `cache`".into()
    })?;
    ensure(http::HeaderName::try_from(cache.tag_header.as_str()).is_ok(), &["routes", name, "tag_header"], || {
        format!("`{}` cannot be the name of a header", cache.tag_header)
    })?;
    ensure((1..=1 << 30).contains(&cache.object.0), &["routes", name, "cache", "object"], || {
        "object must be 1B to 1GiB".into()
    })
}
