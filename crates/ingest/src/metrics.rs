//! What the service counts. Labels are pipelines and their resources, which are as many as the files in the folder say.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tessera_kernel::Timestamp;

use crate::store::{Counts, Run, Status};

const ROWS: &str = "tessera_ingest_rows";
const REQUESTS: &str = "tessera_ingest_requests";
const THROTTLED: &str = "tessera_ingest_throttled";
const DURATION: &str = "tessera_ingest_run_duration_seconds";
const RUNS: &str = "tessera_ingest_runs";
const LAST_SUCCESS: &str = "tessera_ingest_last_success_timestamp_seconds";
/// Bounds of the duration buckets: from a second to a day.
const DURATION_BUCKETS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10800.0, 28800.0, 86400.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    pipeline: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    pipeline: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabels {
    pipeline: String,
}

/// The metrics of ingest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    rows: Family<ResourceLabels, Counter>,
    requests: Family<ResourceLabels, Counter>,
    throttled: Family<ResourceLabels, Counter>,
    durations: Family<PipelineLabels, Histogram, fn() -> Histogram>,
    runs: Family<RunLabels, Counter>,
    last_success: Family<PipelineLabels, Gauge>,
}

impl Metrics {
    /// Registers them.
    pub fn new(registered: &tessera_service::Metrics) -> Self {
        let metrics = Self {
            rows: Family::default(),
            requests: Family::default(),
            throttled: Family::default(),
            durations: Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram),
            runs: Family::default(),
            last_success: Family::default(),
        };
        registered.register(|registry| {
            registry.register(ROWS, "rows that this process wrote", metrics.rows.clone());
            registry.register(REQUESTS, "requests sent to sources, retries included", metrics.requests.clone());
            registry.register(THROTTLED, "answers 429 of sources", metrics.throttled.clone());
            registry.register(DURATION, "seconds that a run took", metrics.durations.clone());
            registry.register(RUNS, "runs that ended", metrics.runs.clone());
            registry.register(LAST_SUCCESS, "when a run last succeeded, in Unix time", metrics.last_success.clone());
        });
        metrics
    }

    /// Counts what a resource gained since it was last counted.
    pub fn progressed(&self, pipeline: &str, before: Option<&Counts>, now: &Counts) {
        let labels = ResourceLabels { pipeline: pipeline.to_owned(), resource: now.name.clone() };
        let gained = |of: fn(&Counts) -> u64| of(now).saturating_sub(before.map_or(0, of));
        self.rows.get_or_create(&labels).inc_by(gained(|counts| counts.written));
        self.requests.get_or_create(&labels).inc_by(gained(|counts| counts.requests));
        self.throttled.get_or_create(&labels).inc_by(gained(|counts| counts.throttled));
    }

    /// Counts a run that is over.
    pub fn ended(&self, run: &Run) {
        let pipeline = run.pipeline.clone();
        self.runs.get_or_create(&RunLabels { pipeline: pipeline.clone(), status: run.status.as_str() }).inc();
        let took = run.finished_at.unwrap_or(run.updated_at).since(run.started_at);
        self.durations.get_or_create(&PipelineLabels { pipeline }).observe(took.as_secs_f64());
        if let (Status::Succeeded, Some(at)) = (run.status, run.finished_at) {
            self.succeeded(&run.pipeline, at);
        }
    }

    /// Says when a run last succeeded.
    pub fn succeeded(&self, pipeline: &str, at: Timestamp) {
        let labels = PipelineLabels { pipeline: pipeline.to_owned() };
        self.last_success.get_or_create(&labels).set(at.micros().div_euclid(1_000_000));
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        self.last_success.remove(&PipelineLabels { pipeline: pipeline.to_owned() });
    }
}
