use bus::BusCounters;
use prometheus_client::metrics::counter::Counter;
use service_kit::metrics::Metrics;

/// What the bus counts, as metrics `thingmesh_bus_…_total`.
pub(crate) struct BusMetrics {
    published: Counter,
    dead: Counter,
    lost: Counter,
    relay_failures: Counter,
}

impl BusMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            published: Counter::default(),
            dead: Counter::default(),
            lost: Counter::default(),
            relay_failures: Counter::default(),
        };
        metrics.register("bus", |registry| {
            registry.register(
                "published_records",
                "Records that the relay moved to Kafka",
                this.published.clone(),
            );
            registry.register("dead_letters", "Records that Kafka can never take", this.dead.clone());
            registry.register(
                "lost_records",
                "Records deleted before every group had read them",
                this.lost.clone(),
            );
            registry.register(
                "relay_failures",
                "Times a relay had to start again",
                this.relay_failures.clone(),
            );
        });
        this
    }

    /// Brings the metrics up to what the bus has counted.
    pub(crate) fn update(&self, now: BusCounters) {
        for (metric, count) in [
            (&self.published, now.published),
            (&self.dead, now.dead),
            (&self.lost, now.lost),
            (&self.relay_failures, now.relay_failures),
        ] {
            metric.inc_by(count.saturating_sub(metric.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bus_counts_is_seen_in_the_metrics() {
        let metrics = Metrics::new();
        let bus = BusMetrics::register(&metrics);
        bus.update(BusCounters { published: 5, dead: 1, ..BusCounters::default() });
        bus.update(BusCounters { published: 7, dead: 1, lost: 2, relay_failures: 0 });
        let text = metrics.encode();
        for line in [
            "thingmesh_bus_published_records_total 7",
            "thingmesh_bus_dead_letters_total 1",
            "thingmesh_bus_lost_records_total 2",
            "thingmesh_bus_relay_failures_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
