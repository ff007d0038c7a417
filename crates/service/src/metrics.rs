//! Metrics of one process: a registry that is passed in, never global, and its Prometheus text.
//!
//! Names are `tessera_<product>_<noun>_<unit>`; counters get `_total` when they are written out. Labels are bounded:
//! routes are templates, methods and statuses are from a closed list.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tessera_kernel::{Clock, Timestamp};

use crate::VERSION;

const HTTP_REQUESTS: &str = "tessera_http_requests";
const HTTP_DURATION: &str = "tessera_http_request_duration_seconds";
const HTTP_IN_FLIGHT: &str = "tessera_http_requests_in_flight";
const UPTIME: &str = "tessera_process_uptime_seconds";
const BUILD: &str = "tessera_build";
const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The route of a request that fits none.
pub(crate) const UNMATCHED: &str = "unmatched";
/// Kinds of answers that are found without their labels; others take the longer way.
const MAX_ANSWERED: usize = 10_000;
/// Bounds of the latency buckets, in seconds.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The metrics of one process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    started_at: Timestamp,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    /// What was looked up by its labels once.
    answered: RwLock<HashMap<Answered, Counted>>,
}

/// Which requests are counted together. A route is told by the address of its template, which [`Counted`] keeps there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Answered {
    route: usize,
    method: &'static str,
    status: u16,
}

/// Which route answered.
pub(crate) enum Route {
    /// None.
    None,
    /// One of the router's.
    Matched(MatchedPath),
    /// One of this template.
    Named(&'static str),
}

impl Route {
    /// Its template.
    fn as_str(&self) -> &str {
        match self {
            Self::None => UNMATCHED,
            Self::Matched(path) => path.as_str(),
            Self::Named(path) => path,
        }
    }
}

/// Where they are counted.
struct Counted {
    _route: Route,
    requests: Counter,
    durations: Histogram,
}

impl Metrics {
    /// A registry with the process's own metrics in it.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let started_at = clock.now();
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram);
        let in_flight = Gauge::default();
        let mut registry = Registry::default();
        registry.register(BUILD, "what runs", Info::new(vec![("version", VERSION)]));
        registry.register(HTTP_REQUESTS, "requests answered", Family::clone(&requests));
        registry.register(HTTP_DURATION, "seconds until the answer began", Family::clone(&durations));
        registry.register(HTTP_IN_FLIGHT, "requests being answered", in_flight.clone());
        registry.register_collector(Box::new(Uptime { clock, started_at }));
        Self(Arc::new(Inner {
            registry: Mutex::new(registry),
            started_at,
            requests,
            durations,
            in_flight,
            answered: RwLock::default(),
        }))
    }

    /// Registers a product's metrics.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.0.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// When this process's metrics began.
    pub fn started_at(&self) -> Timestamp {
        self.0.started_at
    }

    /// Everything registered, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// The answer to `GET /metrics`.
    pub fn response(&self) -> Response {
        ([(CONTENT_TYPE, CONTENT)], self.encode()).into_response()
    }

    pub(crate) fn request_began(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// Counts an answer. Its labels are made up and hashed the first time only.
    pub(crate) fn request_ended(&self, method: &'static str, route: Route, status: u16, took: Duration) {
        let path = route.as_str();
        let address = path.as_ptr().addr();
        let key = Answered { route: address, method, status };
        if let Some(counted) = self.0.answered.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            counted.count(took);
            return;
        }
        let labels = RequestLabels { method, route: path.to_owned(), status };
        let requests = self.0.requests.get_or_create(&labels).clone();
        let labels = RouteLabels { method, route: path.to_owned() };
        let durations = self.0.durations.get_or_create(&labels).clone();
        let counted = Counted { _route: route, requests, durations };
        counted.count(took);
        let mut answered = self.0.answered.write().unwrap_or_else(PoisonError::into_inner);
        // Templates, methods and statuses are few. Were a router to make its templates anew, this stays bounded too.
        if answered.len() < MAX_ANSWERED {
            answered.insert(key, counted);
        }
    }
}

impl Counted {
    fn count(&self, took: Duration) {
        self.requests.inc();
        self.durations.observe(took.as_secs_f64());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started_at", &self.0.started_at).finish_non_exhaustive()
    }
}

/// Counts a request as in flight until it is dropped, whatever becomes of it.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

struct Uptime {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
}

impl fmt::Debug for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uptime").field("started_at", &self.started_at).finish_non_exhaustive()
    }
}

impl Collector for Uptime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let uptime = ConstGauge::new(self.clock.now().since(self.started_at).as_secs_f64());
        let metric = encoder.encode_descriptor(UPTIME, "seconds since start", None, uptime.metric_type())?;
        uptime.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use tessera_kernel::ManualClock;

    use super::*;

    #[test]
    fn two_registries_do_not_meet() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let (one, other) = (Metrics::new(clock.clone()), Metrics::new(clock.clone()));
        one.request_ended("GET", Route::None, 200, Duration::from_millis(3));
        one.request_ended("GET", Route::None, 200, Duration::from_millis(3));
        clock.advance(Duration::from_secs(7));
        let text = one.encode();
        let counted = r#"tessera_http_requests_total{method="GET",route="unmatched",status="200"} 2"#;
        assert!(text.contains(counted), "{text}");
        assert!(text.contains("tessera_process_uptime_seconds 7.0"), "{text}");
        assert!(text.contains(&format!("tessera_build_info{{version=\"{VERSION}\"}} 1")), "{text}");
        assert!(!other.encode().contains("unmatched"), "{}", other.encode());
    }
}
