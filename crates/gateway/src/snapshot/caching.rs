//! What a route keeps of its answers.

use std::path::Path;
use std::sync::Arc;

use http::HeaderName;
use prometheus_client::metrics::counter::Counter;

use super::{Lasting, Snapshot};
use crate::Error;
use crate::cache::{Digest, Store};
use crate::domain::freshness::Defaults;
use crate::metrics::CacheLabels;
use crate::spec::{self, Key};

/// What a route keeps of its answers.
#[derive(Debug)]
pub struct Caching {
    /// What the file says.
    pub spec: spec::RouteCache,
    /// Where they are kept.
    pub store: Arc<Store>,
    /// What holds where an answer says nothing.
    pub defaults: Defaults,
    /// The header with tags.
    pub tag_header: HeaderName,
    /// Whether each caller has answers of its own.
    pub is_personal: bool,
    /// The beginning of every key: what changes an answer with the config.
    pub scope: Digest,
    /// What became of requests, in the order of outcomes.
    counts: [Counter; 6],
}

/// What became of a request of a route with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with what was kept and fresh.
    Hit,
    /// Answered with what was kept and stale.
    Stale,
    /// Answered with what another's fetch had brought.
    Coalesced,
    /// Answered with what was kept, once the upstream had said that it still holds.
    Revalidated,
    /// Fetched.
    Miss,
    /// Fetched without looking.
    Pass,
}

impl Outcome {
    const ALL: [Self; 6] = [Self::Hit, Self::Stale, Self::Coalesced, Self::Revalidated, Self::Miss, Self::Pass];

    /// Its name in metrics and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Coalesced => "coalesced",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Pass => "pass",
        }
    }
}

impl Caching {
    pub(super) fn new(route: &spec::Route, store: Option<&Arc<Store>>, lasting: &Lasting) -> Option<Self> {
        let spec = route.cache.as_ref()?;
        let count = |outcome: Outcome| {
            let labels = CacheLabels { route: route.name.clone(), outcome: outcome.name() };
            lasting.metrics.cache_requests.get_or_create(&labels).clone()
        };
        Some(Self {
            store: store?.clone(),
            defaults: Defaults {
                lifetime: spec.default_lifetime.map(|span| span.0),
                stale_while_revalidate: spec.stale_while_revalidate.map(|span| span.0),
                stale_if_error: spec.stale_if_error.map(|span| span.0),
                set_cookie: spec.set_cookie,
            },
            // The check of the config has seen that it is a name.
            tag_header: HeaderName::try_from(spec.tag_header.as_str()).ok()?,
            is_personal: spec.by.contains(&Key::Consumer),
            scope: Digest::of("answer").with(route.name.as_bytes()).with(
                format!("{:?}", (&route.rewrite, route.keep_host, &route.request_headers, &spec.query, &spec.by))
                    .as_bytes(),
            ),
            counts: Outcome::ALL.map(count),
            spec: spec.clone(),
        })
    }
}

impl Caching {
    /// Counts a request.
    pub fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].inc();
    }

    /// How many of its requests were answered with what was kept or another had fetched, and all of them.
    pub fn counted(&self) -> (u64, u64) {
        let sum = |counts: &[Counter]| counts.iter().map(Counter::get).sum();
        (sum(&self.counts[..Outcome::Miss as usize]), sum(&self.counts))
    }
}

/// Where answers are kept, if any route keeps some. What is kept stays while the config says the same of it.
pub(super) fn store(
    spec: &spec::Gateway,
    folder: &Path,
    before: Option<&Snapshot>,
    lasting: &Lasting,
) -> Result<Option<Arc<Store>>, Error> {
    if spec.routes.iter().all(|route| route.cache.is_none()) {
        return Ok(None);
    }
    let wanted = spec.cache.clone().unwrap_or_default();
    let known = before.and_then(|before| before.cache.as_ref()).filter(|known| known.spec == wanted);
    match known {
        Some(known) => Ok(Some(known.clone())),
        None => Store::new(&wanted, folder, &lasting.metrics).map(|store| Some(Arc::new(store))),
    }
}
