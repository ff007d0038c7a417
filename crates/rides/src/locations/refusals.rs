//! How many reports changed nothing, and why.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Refusal;

/// Counters by [`Refusal`]. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Family<Label, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    reason: &'static str,
}

impl Refusals {
    /// Shows them as `tessera_rides_positions_refused_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("tessera_rides_positions_refused", "positions that changed nothing", self.0.clone());
    }

    /// Counts one.
    pub fn count(&self, refusal: Refusal) {
        self.0.get_or_create(&Label { reason: refusal.code() }).inc();
    }

    /// How many were counted.
    pub fn counted(&self, refusal: Refusal) -> u64 {
        self.0.get_or_create(&Label { reason: refusal.code() }).get()
    }
}
