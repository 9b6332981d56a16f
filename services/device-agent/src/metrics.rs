//! Every metric of the agent. Labels are bounded words of this file; tenants and devices are never labels.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub outcome: &'static str,
}

/// The agent's metrics, under the prefix `thingmesh_device_agent_`.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Measure requests by outcome: `committed`, `diverted`, `empty`, `refused` (by us or the broker), `unavailable`.
    pub measures: Family<OutcomeLabels, Counter>,
    /// Requests refused by a rate limit: `device`, `tenant`.
    pub rate_limited: Family<OutcomeLabels, Counter>,
    /// Soft state that could not be asked: requests pass unlimited.
    pub rate_limit_unknown: Counter,
    /// Entity updates in one call to the broker.
    pub batch_updates: Histogram,
    /// Calls to the broker by outcome: `ok`, `away`.
    pub broker_calls: Family<OutcomeLabels, Counter>,
    /// Requests waiting for their turn to go to the broker.
    pub queued: Gauge,
    /// Records in the topic `measures` that are not applied yet.
    pub diverted_pending: Gauge,
    /// Diverted entity updates by outcome: `applied`, `skipped` (refused by the broker), `unreadable`.
    pub drained: Family<OutcomeLabels, Counter>,
    /// Look-ups of group or device by outcome: `hit`, `miss`.
    pub lookups: Family<OutcomeLabels, Counter>,
    pub devices_created: Counter,
    pub devices_removed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            measures: Family::default(),
            rate_limited: Family::default(),
            rate_limit_unknown: Counter::default(),
            batch_updates: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            broker_calls: Family::default(),
            queued: Gauge::default(),
            diverted_pending: Gauge::default(),
            drained: Family::default(),
            lookups: Family::default(),
            devices_created: Counter::default(),
            devices_removed: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("measures", "Measure requests by outcome", self.measures.clone());
        registry.register("rate_limited", "Requests over a rate limit", self.rate_limited.clone());
        registry.register(
            "rate_limit_unknown",
            "Requests let through because soft state was away",
            self.rate_limit_unknown.clone(),
        );
        registry.register("batch_updates", "Entity updates in one call", self.batch_updates.clone());
        registry.register("broker_calls", "Calls to the broker by outcome", self.broker_calls.clone());
        registry.register("queued_requests", "Requests waiting for the broker", self.queued.clone());
        registry.register(
            "diverted_pending_records",
            "Measures on the bus, not applied yet",
            self.diverted_pending.clone(),
        );
        registry.register("drained_updates", "Diverted updates by outcome", self.drained.clone());
        registry.register("lookups", "Look-ups of group or device in the cache", self.lookups.clone());
        registry.register(
            "devices_created",
            "Devices provisioned, also by themselves",
            self.devices_created.clone(),
        );
        registry.register("devices_removed", "Devices removed", self.devices_removed.clone());
    }

    pub(crate) fn count(family: &Family<OutcomeLabels, Counter>, outcome: &'static str) {
        family.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn value(family: &Family<OutcomeLabels, Counter>, outcome: &'static str) -> u64 {
        family.get_or_create(&OutcomeLabels { outcome }).get()
    }
}
