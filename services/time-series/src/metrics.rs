//! Every metric of the service, named `thingmesh_time_series_<what>_<unit>`.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use service_kit::metrics::seconds_histogram;

pub struct Metrics {
    pub rows: Counter,
    pub rows_repeated: Counter,
    pub values_nulled: Counter,
    pub records_refused: Counter,
    pub chunks_sealed: Counter,
    pub seal_failures: Counter,
    pub rows_expired: Counter,
    pub series: Gauge,
    pub head_bytes: Gauge,
    pub log_bytes: Gauge,
    /// Requests that shared one transaction.
    pub group_requests: Histogram,
    pub append_seconds: Histogram,
    pub query_seconds: Histogram,
}

impl Metrics {
    pub fn unregistered() -> Self {
        Self {
            rows: Counter::default(),
            rows_repeated: Counter::default(),
            values_nulled: Counter::default(),
            records_refused: Counter::default(),
            chunks_sealed: Counter::default(),
            seal_failures: Counter::default(),
            rows_expired: Counter::default(),
            series: Gauge::default(),
            head_bytes: Gauge::default(),
            log_bytes: Gauge::default(),
            group_requests: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            append_seconds: seconds_histogram(),
            query_seconds: seconds_histogram(),
        }
    }

    pub fn registered(registry: &service_kit::metrics::Metrics) -> Self {
        let metrics = Self::unregistered();
        registry.register("time-series", |registry| metrics.register(registry));
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let counters = [
            ("rows", "Rows stored", &self.rows),
            ("rows_repeated", "Stream records that were stored before", &self.rows_repeated),
            (
                "values_nulled",
                "Values that did not fit their attribute and were stored as null",
                &self.values_nulled,
            ),
            ("records_refused", "Stream records that could not be read", &self.records_refused),
            ("chunks_sealed", "Chunks written", &self.chunks_sealed),
            ("seal_failures", "Failed attempts to write chunks", &self.seal_failures),
            ("rows_expired", "Rows deleted by retention", &self.rows_expired),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("series", "Entities with a history", self.series.clone());
        registry.register("head_bytes", "Memory of rows not yet in chunks", self.head_bytes.clone());
        registry.register("log_bytes", "Size of the log that a restart replays", self.log_bytes.clone());
        registry.register("group_requests", "Requests in one transaction", self.group_requests.clone());
        registry.register("append_seconds", "Time to store a request's rows", self.append_seconds.clone());
        registry.register("query_seconds", "Time to answer a query", self.query_seconds.clone());
    }
}
