//! How many attempts there were, and what came of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Outcome, Service};

/// Counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    attempts: Family<Label, Counter>,
    dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    service: &'static str,
    outcome: &'static str,
}

impl Metrics {
    /// Shows them as `tessera_rides_push_attempts_total` and `tessera_rides_push_dropped_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("tessera_rides_push_attempts", "notes that were sent, by outcome", self.attempts.clone());
        registry.register("tessera_rides_push_dropped", "notes for which there was no room", self.dropped.clone());
    }

    pub(crate) fn attempt(&self, service: Service, outcome: &Outcome) {
        let label = Label { service: service.as_str(), outcome: outcome.as_str() };
        self.attempts.get_or_create(&label).inc();
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }
}
