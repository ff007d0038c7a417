//! Metrics: each worker counts in cells of its own, and they are summed when they are read.
//!
//! Labels are bounded by the config: routes, upstreams and their endpoints by name, statuses by their first digit, errors
//! by their code.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use crate::tallies::Tallies;

/// Requests by route and class of status.
pub const REQUESTS: &str = "tessera_gateway_requests";
/// Seconds until answers were sent, by route.
pub const DURATION: &str = "tessera_gateway_request_duration_seconds";
/// Bytes of requests' bodies, by route.
pub const BYTES_IN: &str = "tessera_gateway_received_bytes";
/// Bytes of answers' bodies, by route.
pub const BYTES_OUT: &str = "tessera_gateway_sent_bytes";
/// Errors by code and side.
pub const ERRORS: &str = "tessera_gateway_errors";
/// Retries by upstream.
pub const RETRIES: &str = "tessera_gateway_retries";
/// Requests that a second endpoint was asked beside the first, by upstream.
pub const HEDGES: &str = "tessera_gateway_hedges";
/// Look-ups of endpoints, by upstream and outcome.
pub const LOOKUPS: &str = "tessera_gateway_lookups";
/// Connections of clients.
pub const CONNECTIONS: &str = "tessera_gateway_connections";
/// Config files taken and refused.
pub const RELOADS: &str = "tessera_gateway_reloads";
/// Requests of routes with a cache, by route and outcome.
pub const CACHE_REQUESTS: &str = "tessera_gateway_cache_requests";
/// What is kept, by tier.
pub const CACHE_BYTES: &str = "tessera_gateway_cache_stored_bytes";
/// Lines of the access log that could not be written.
pub const LOG_LOST: &str = "tessera_gateway_access_log_lost_lines";

/// Certificates asked for.
pub const CERTIFICATES: &str = "tessera_gateway_certificates";
/// Requests judged by one gateway alone under limits that are shared, since their Redis was away.
pub const JUDGED_ALONE: &str = "tessera_gateway_shared_limits_judged_alone";

/// Upper bounds of the buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// What one worker counts of one route. A page of its own keeps workers out of each other's cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cells {
    by_class: [AtomicU64; 6],
    buckets: [AtomicU64; 15],
    sum_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Cells {
    /// Counts an answer.
    pub fn count(&self, status: u16, took_us: u64, bytes_in: u64, bytes_out: u64) {
        let add = |cell: &AtomicU64, value: u64| {
            // Only this worker writes here, so a plain load and store do.
            cell.store(cell.load(Ordering::Relaxed) + value, Ordering::Relaxed);
        };
        add(&self.by_class[usize::from(status / 100).min(5)], 1);
        add(&self.buckets[BOUNDS_US.partition_point(|bound| *bound < took_us)], 1);
        add(&self.sum_us, took_us);
        if bytes_in > 0 {
            add(&self.bytes_in, bytes_in);
        }
        add(&self.bytes_out, bytes_out);
    }
}

/// What all workers count of one route.
#[derive(Debug)]
pub struct RouteStats {
    workers: Box<[Cells]>,
}

/// Sums of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Answers by the first digit of their status; 0 for those that were never sent.
    pub by_class: [u64; 6],
    /// Answers by how long they took, in buckets.
    pub buckets: [u64; 15],
    /// Their time together.
    pub sum_us: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl Sums {
    /// All answers.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound in milliseconds below which so many of a hundred answers stayed.
    pub fn percentile_ms(&self, percent: u64) -> Option<f64> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(BOUNDS_US.get(at).copied().unwrap_or(BOUNDS_US[13]) as f64 / 1_000.0)
    }
}

/// The upper bounds of the buckets, in milliseconds.
pub fn bounds_ms() -> Vec<f64> {
    BOUNDS_US.iter().map(|bound| *bound as f64 / 1_000.0).collect()
}

impl RouteStats {
    fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Cells::default()).collect() }
    }

    /// The cells of a worker.
    pub fn of(&self, worker: usize) -> &Cells {
        &self.workers[worker % self.workers.len()]
    }

    /// The sums over all workers.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for cells in &self.workers {
            sums.by_class.iter_mut().zip(&cells.by_class).for_each(|(sum, cell)| *sum += load(cell));
            sums.buckets.iter_mut().zip(&cells.buckets).for_each(|(sum, cell)| *sum += load(cell));
            sums.sum_us += load(&cells.sum_us);
            sums.bytes_in += load(&cells.bytes_in);
            sums.bytes_out += load(&cells.bytes_out);
        }
        sums
    }
}

/// All metrics of a gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    workers: usize,
    routes: Arc<Mutex<BTreeMap<String, Arc<RouteStats>>>>,
    /// Errors by code and side.
    pub errors: Family<ErrorLabels, Counter>,
    /// Retries by upstream.
    pub retries: Family<UpstreamLabels, Counter>,
    /// Second endpoints asked beside the first, by upstream.
    pub hedges: Family<UpstreamLabels, Counter>,
    /// Look-ups of endpoints, in DNS and in files.
    pub lookups: Family<LookupLabels, Counter>,
    /// Config files taken and refused.
    pub reloads: Family<ReloadLabels, Counter>,
    /// Requests of routes with a cache.
    pub cache_requests: Family<CacheLabels, Counter>,
    /// What is kept.
    pub cache_bytes: Family<CacheTier, Gauge>,
    /// Certificates issued and refused by authorities.
    pub certificates: Family<OutcomeLabels, Counter>,
    /// Lines of the access log that could not be written.
    pub log_lost: Counter,
    /// Requests judged by this gateway alone under limits that are shared.
    pub judged_alone: Counter,
    /// Aggregation, validation, versions, documents, transcoding.
    pub tallies: Tallies,
}

/// Labels of an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// Its code.
    pub code: &'static str,
    /// Whose doing it was.
    pub side: &'static str,
}

/// Labels of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabels {
    /// Its name.
    pub upstream: String,
}

/// Labels of a certificate that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `issued` or `refused`.
    pub outcome: &'static str,
}

/// Labels of a look-up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LookupLabels {
    /// The upstream's name.
    pub upstream: String,
    /// `found` or `failed`.
    pub outcome: &'static str,
}

/// Labels of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `taken` or `refused`.
    pub outcome: &'static str,
}

/// Labels of a request of a route with a cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    /// The route.
    pub route: String,
    /// `hit`, `stale`, `coalesced`, `revalidated`, `miss` or `pass`.
    pub outcome: &'static str,
}

/// Labels of a tier of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheTier {
    /// `memory` or `disk`.
    pub tier: &'static str,
}

/// The route of requests that no route takes.
pub const UNMATCHED: &str = "unmatched";

impl Metrics {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            routes: Arc::default(),
            errors: Family::default(),
            retries: Family::default(),
            hedges: Family::default(),
            lookups: Family::default(),
            reloads: Family::default(),
            cache_requests: Family::default(),
            cache_bytes: Family::default(),
            certificates: Family::default(),
            log_lost: Counter::default(),
            judged_alone: Counter::default(),
            tallies: Tallies::default(),
        }
    }

    /// The counts of a route, which a changed config does not set back.
    pub fn route(&self, name: &str) -> Arc<RouteStats> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.entry(name.to_owned()).or_insert_with(|| Arc::new(RouteStats::new(self.workers))).clone()
    }

    /// Requests refused because there were too many.
    pub fn limits_hit(&self) -> u64 {
        let codes = [
            ("gateway.rate_limited", "client"),
            ("gateway.too_many_at_once", "client"),
            ("gateway.overloaded", "gateway"),
        ];
        let count = |(code, side)| self.errors.get(&ErrorLabels { code, side }).map_or(0, |counter| counter.get());
        codes.into_iter().map(count).sum()
    }

    /// Forgets routes that are in no config any more.
    pub fn tidy(&self) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|name, stats| name == UNMATCHED || Arc::strong_count(stats) > 1);
    }

    /// Registers everything; `connections` is asked for the gauge.
    pub fn register(&self, metrics: &tessera_service::Metrics, connections: Arc<crate::limit::Connections>) {
        metrics.register(|registry| {
            registry.register(ERRORS, "refusals and failures", self.errors.clone());
            registry.register(RETRIES, "requests tried again", self.retries.clone());
            registry.register(HEDGES, "requests that a second endpoint was asked for too", self.hedges.clone());
            registry.register(LOOKUPS, "look-ups of endpoints in DNS and files", self.lookups.clone());
            registry.register(RELOADS, "config files read", self.reloads.clone());
            registry.register(CACHE_REQUESTS, "requests of routes with a cache", self.cache_requests.clone());
            registry.register(CACHE_BYTES, "bytes of answers that are kept", self.cache_bytes.clone());
            registry.register(CERTIFICATES, "certificates asked for", self.certificates.clone());
            registry.register(JUDGED_ALONE, "requests under shared limits judged alone", self.judged_alone.clone());
            registry.register(LOG_LOST, "lines of the access log that could not be written", self.log_lost.clone());
            self.tallies.register(registry);
            registry.register_collector(Box::new(Routes { metrics: self.clone(), connections }));
        });
    }
}

#[derive(Debug)]
struct Routes {
    metrics: Metrics,
    connections: Arc<crate::limit::Connections>,
}

impl Collector for Routes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let routes: Vec<(String, Sums)> = {
            let routes = self.metrics.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.iter().map(|(name, stats)| (name.clone(), stats.sums())).collect()
        };
        let one = ConstCounter::new(0_u64);
        let mut requests = encoder.encode_descriptor(REQUESTS, "requests answered", None, one.metric_type())?;
        for (route, sums) in &routes {
            let classes = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
            for (class, count) in classes.iter().zip(sums.by_class).filter(|(_, count)| *count > 0) {
                let labels = [("route", route.as_str()), ("status", class)];
                ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
            }
        }
        type Part = (&'static str, &'static str, fn(&Sums) -> u64);
        let parts: [Part; 2] = [
            (BYTES_IN, "bytes of bodies received", |sums| sums.bytes_in),
            (BYTES_OUT, "bytes of bodies sent", |sums| sums.bytes_out),
        ];
        for (name, help, part) in parts {
            let mut family = encoder.encode_descriptor(name, help, None, one.metric_type())?;
            for (route, sums) in &routes {
                ConstCounter::new(part(sums)).encode(family.encode_family(&[("route", route.as_str())])?)?;
            }
        }
        let kind = prometheus_client::metrics::MetricType::Histogram;
        let mut durations = encoder.encode_descriptor(DURATION, "seconds until the answer was sent", None, kind)?;
        for (route, sums) in &routes {
            let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(sums.buckets).collect();
            let labels = [("route", route.as_str())];
            let mut family = durations.encode_family(&labels)?;
            family.encode_histogram::<[(&str, &str); 0]>(sums.sum_us as f64 / 1e6, sums.count(), &buckets, None)?;
        }
        let connections = ConstGauge::new(i64::from(self.connections.count()));
        let gauge =
            encoder.encode_descriptor(CONNECTIONS, "connections of clients", None, connections.metric_type())?;
        connections.encode(gauge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_percentiles_come_from_buckets() {
        let metrics = Metrics::new(2);
        let route = metrics.route("a");
        for worker in 0..2 {
            for _ in 0..49 {
                route.of(worker).count(200, 300, 1, 2);
            }
            route.of(worker).count(503, 40_000, 0, 0);
        }
        let sums = route.sums();
        assert_eq!((sums.count(), sums.by_class[2], sums.by_class[5], sums.bytes_out), (100, 98, 2, 196));
        assert_eq!((sums.percentile_ms(50), sums.percentile_ms(99)), (Some(0.5), Some(50.0)));
        drop(route);
        metrics.tidy();
        assert!(metrics.routes.lock().unwrap().is_empty());
    }
}
