//! What is counted of aggregation, validation, versions, documents and transcoding. Labels come from the config and closed
//! lists only.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Calls of aggregating routes, by route, call and outcome.
pub const CALLS: &str = "tessera_gateway_calls";

/// Requests and answers that do not fit their schema, by route, part and outcome.
pub const INVALID: &str = "tessera_gateway_invalid";

/// Requests by route and version.
pub const VERSIONS: &str = "tessera_gateway_version_requests";

/// OpenAPI documents and descriptors of upstreams, by upstream and outcome.
pub const FETCHES: &str = "tessera_gateway_description_fetches";

/// The counters.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    /// Calls of aggregating routes.
    pub calls: Family<CallLabels, Counter>,
    /// Requests and answers that do not fit their schema.
    pub invalid: Family<InvalidLabels, Counter>,
    /// Requests by version.
    pub versions: Family<VersionLabels, Counter>,
    /// What upstreams say of themselves, fetched.
    pub fetches: Family<FetchLabels, Counter>,
}

/// Labels of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The route.
    pub route: String,
    /// The call.
    pub call: String,
    /// `answered`, `failed` or `skipped`.
    pub outcome: &'static str,
}

/// Labels of what does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InvalidLabels {
    /// The route.
    pub route: String,
    /// `request` or `answer`.
    pub part: &'static str,
    /// `refused` or `reported`.
    pub outcome: &'static str,
}

/// Labels of a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VersionLabels {
    /// The route.
    pub route: String,
    /// The version.
    pub version: String,
}

/// Labels of a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FetchLabels {
    /// The upstream.
    pub upstream: String,
    /// `fetched` or `failed`.
    pub outcome: &'static str,
}

impl Tallies {
    /// Registers all.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(CALLS, "calls of aggregating routes", self.calls.clone());
        registry.register(INVALID, "requests and answers that do not fit their schema", self.invalid.clone());
        registry.register(VERSIONS, "requests by version", self.versions.clone());
        registry.register(FETCHES, "documents and descriptors of upstreams fetched", self.fetches.clone());
    }
}
