//! What tickets counts, worked out when it is asked for.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

const PAGE_HITS: &str = "tessera_tickets_event_page_hits";
const PAGE_MISSES: &str = "tessera_tickets_event_page_misses";
const SEARCH_HITS: &str = "tessera_tickets_search_answer_hits";
const SEARCH_MISSES: &str = "tessera_tickets_search_answer_misses";
const SEARCH_LAG: &str = "tessera_tickets_search_lag_seconds";
const QUEUES: &str = "tessera_tickets_queue_rooms";
const QUEUE_WAITING: &str = "tessera_tickets_queue_waiting_people";
const QUEUE_INSIDE: &str = "tessera_tickets_queue_inside_people";
const QUEUE_ARRIVALS: &str = "tessera_tickets_queue_arrivals_per_second";

/// What a process counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// Event pages from memory, and rendered.
    pub pages: (u64, u64),
    /// Searches answered from memory, and by the index.
    pub searches: (u64, u64),
    /// Since when the index is not known to be level with the database.
    pub search_lag: Duration,
    /// Waiting rooms that are open, who waits in them, who is inside, who arrives a second.
    pub queues: [i64; 4],
}

/// The metrics of one process, by what gives its numbers.
pub struct Metrics(pub Box<dyn Fn() -> Numbers + Send + Sync>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Numbers { pages, searches, search_lag, queues } = (self.0)();
        for (name, help, count) in [
            (PAGE_HITS, "event pages given from memory", pages.0),
            (PAGE_MISSES, "event pages rendered", pages.1),
            (SEARCH_HITS, "searches answered from memory", searches.0),
            (SEARCH_MISSES, "searches answered by the index", searches.1),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let lag = ConstGauge::new(search_lag.as_secs_f64());
        let help = "since when the search index is not known to be level with the database";
        lag.encode(encoder.encode_descriptor(SEARCH_LAG, help, None, lag.metric_type())?)?;
        let names = [
            (QUEUES, "waiting rooms that are open and known to this process"),
            (QUEUE_WAITING, "people who wait in them"),
            (QUEUE_INSIDE, "people who were let in and are not done"),
            (QUEUE_ARRIVALS, "people who arrive at this process"),
        ];
        for ((name, help), count) in names.into_iter().zip(queues) {
            let gauge = ConstGauge::new(count);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
