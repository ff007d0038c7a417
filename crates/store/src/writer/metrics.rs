//! What a writer counts. Once a batch, not once a command.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Bounds of the buckets of batch sizes.
const SIZES: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
/// Bounds of the buckets of times, in seconds.
const SECONDS: [f64; 9] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// The metrics of one writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    sizes: Histogram,
    waits: Histogram,
    times: Histogram,
    refused: Counter,
    timed_out: Counter,
    splits: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sizes: Histogram::new(SIZES),
            waits: Histogram::new(SECONDS),
            times: Histogram::new(SECONDS),
            refused: Counter::default(),
            timed_out: Counter::default(),
            splits: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers them as `tessera_<product>_writer_…`.
    pub fn register(&self, product: &str, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, metric: &Counter| {
            registry.register(format!("tessera_{product}_writer_{name}"), help, metric.clone());
        };
        add("refused", "commands refused as too many waited", &self.refused);
        add("timed_out", "commands not answered in time", &self.timed_out);
        add("splits", "batches taken apart as one of their commands failed", &self.splits);
        let mut add = |name: &str, help: &str, metric: &Histogram| {
            registry.register(format!("tessera_{product}_writer_{name}"), help, metric.clone());
        };
        add("batch_commands", "commands in one transaction", &self.sizes);
        add("wait_seconds", "how long the oldest command of a batch waited for its turn", &self.waits);
        add("batch_seconds", "how long a batch took, flush included", &self.times);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn timed_out(&self) {
        self.timed_out.inc();
    }

    pub(super) fn split(&self) {
        self.splits.inc();
    }

    pub(super) fn batch(&self, commands: usize, waited: Duration) {
        self.sizes.observe(commands as f64);
        self.waits.observe(waited.as_secs_f64());
    }

    pub(super) fn applied(&self, took: Duration) {
        self.times.observe(took.as_secs_f64());
    }
}
