//! Every metric of the broker: names and label sets.

use std::{sync::atomic::AtomicU64, time::Duration};

use ngsi::{Error, ErrorWord};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};
use service_kit::metrics::{Metrics, seconds_histogram};

use crate::{administration::Outgoing, notification::SubscriptionKey, store::StoreGauges, update::Applied};

const SERVICE: &str = "context-broker";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Forward {
    kind: &'static str,
    outcome: &'static str,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSubscription {
    tenant: String,
    subscription: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct BrokerMetrics {
    operations: Family<Outcome, Counter>,
    batch_size: Histogram,
    commit_seconds: Histogram,
    waiting_writes: Gauge,
    notifications: Family<Outcome, Counter>,
    dropped: Counter,
    cancelled: Counter,
    pending: Gauge,
    pending_by_subscription: Family<OfSubscription, Gauge>,
    notifier_lag: Gauge,
    history_records: Counter,
    cache_bytes: Gauge<u64, AtomicU64>,
    journal_bytes: Gauge<u64, AtomicU64>,
    unapplied: Gauge,
    expired: Counter,
    forwards: Family<Forward, Counter>,
    forward_seconds: Histogram,
    slow_queries: Counter,
}

impl BrokerMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self {
            operations: Family::default(),
            batch_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            commit_seconds: seconds_histogram(),
            waiting_writes: Gauge::default(),
            notifications: Family::default(),
            dropped: Counter::default(),
            cancelled: Counter::default(),
            pending: Gauge::default(),
            pending_by_subscription: Family::default(),
            notifier_lag: Gauge::default(),
            history_records: Counter::default(),
            cache_bytes: Gauge::default(),
            journal_bytes: Gauge::default(),
            unapplied: Gauge::default(),
            expired: Counter::default(),
            forwards: Family::default(),
            forward_seconds: seconds_histogram(),
            slow_queries: Counter::default(),
        };
        let all = own.clone();
        metrics.register(SERVICE, |registry| {
            registry.register("operations", "Operations on entities by outcome", all.operations);
            registry.register("commit_batch_size", "Operations in one transaction", all.batch_size);
            registry.register_with_unit(
                "commit",
                "Time of one transaction with its batch",
                Unit::Seconds,
                all.commit_seconds,
            );
            registry.register("waiting_writes", "Operations that wait for a transaction", all.waiting_writes);
            registry.register("notifications", "Tries to notify over HTTP by outcome", all.notifications);
            registry.register("notifications_dropped", "Notifications that were given up", all.dropped);
            registry.register(
                "notifications_cancelled",
                "Notifications whose subscription changed or ended",
                all.cancelled,
            );
            registry.register("pending_deliveries", "Notifications that wait to be sent", all.pending);
            registry.register(
                "subscription_pending_deliveries",
                "Notifications that wait to be sent, of the subscriptions for which most wait",
                all.pending_by_subscription,
            );
            registry.register("notifier_lag", "Changes that the notifier has not seen yet", all.notifier_lag);
            registry.register("history_records", "Changes handed to the history", all.history_records);
            registry.register_with_unit("entity_cache", "Entities in memory", Unit::Bytes, all.cache_bytes);
            registry.register_with_unit("journal", "Files of the journal", Unit::Bytes, all.journal_bytes);
            registry.register(
                "unapplied_entities",
                "Entities that changed in the journal and not yet in the rows",
                all.unapplied,
            );
            registry.register("forwards", "Requests to context providers by outcome", all.forwards);
            registry.register_with_unit(
                "forward",
                "Time of one request to a context provider",
                Unit::Seconds,
                all.forward_seconds,
            );
            registry.register("expired_entities", "Entities removed after their end", all.expired);
            registry.register("slow_queries", "Queries given up after their time", all.slow_queries);
        });
        own
    }

    pub(crate) fn update(&self, result: &Result<Applied, Error>) {
        let outcome = match result {
            Ok(applied) if applied.repeated => "repeated",
            Ok(_) => "applied",
            Err(error) => match error.word {
                ErrorWord::PartialUpdate => "partly_applied",
                ErrorWord::ServiceUnavailable => "unavailable",
                ErrorWord::InternalServerError => "failed",
                _ => "refused",
            },
        };
        self.operations.get_or_create(&Outcome { outcome }).inc();
    }

    /// What was sent over HTTP and what was not, since the start.
    pub(crate) fn outgoing(&self) -> Outgoing {
        let tries = |outcome| self.notifications.get(&Outcome { outcome }).map_or(0, |counter| counter.get());
        Outgoing {
            sent: tries("accepted") + tries("answered_with_error"),
            failed: tries("busy") + tries("unreachable") + tries("refused"),
            dropped: self.dropped.get(),
            waiting: u64::try_from(self.pending.get()).unwrap_or(0),
            refreshes: 0,
        }
    }

    pub(crate) fn batch(&self, requests: usize, took: Duration, queued: usize) {
        self.batch_size.observe(requests as f64);
        self.commit_seconds.observe(took.as_secs_f64());
        self.waiting_writes.set(i64::try_from(queued).unwrap_or(i64::MAX));
    }

    pub(crate) fn notification(&self, outcome: &'static str) {
        self.notifications.get_or_create(&Outcome { outcome }).inc();
    }

    /// `kind`: what was forwarded, or was not.
    pub(crate) fn forward(&self, kind: &'static str, outcome: &'static str) {
        self.forwards.get_or_create(&Forward { kind, outcome }).inc();
    }

    pub(crate) fn forward_took(&self, took: Duration) {
        self.forward_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn dropped(&self, count: u64) {
        self.dropped.inc_by(count);
    }

    pub(crate) fn cancelled(&self, count: u64) {
        self.cancelled.inc_by(count);
    }

    pub(crate) fn pending(&self, count: u64) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes the place of what was told before.
    pub(crate) fn longest_backlogs(&self, backlogs: Vec<(SubscriptionKey, i64)>) {
        self.pending_by_subscription.clear();
        for (key, pending) in backlogs {
            let labels = OfSubscription {
                tenant: key.tenant.as_str().to_owned(),
                subscription: key.id.as_str().to_owned(),
            };
            self.pending_by_subscription.get_or_create(&labels).set(pending);
        }
    }

    pub(crate) fn notifier_lag(&self, records: u64) {
        self.notifier_lag.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    pub(crate) fn history_records(&self, count: u64) {
        self.history_records.inc_by(count);
    }

    pub(crate) fn store(&self, gauges: StoreGauges) {
        self.cache_bytes.set(gauges.cache_bytes);
        self.journal_bytes.set(gauges.journal_bytes);
        self.unapplied.set(i64::try_from(gauges.unapplied).unwrap_or(i64::MAX));
    }

    pub(crate) fn slow_query(&self) {
        self.slow_queries.inc();
    }

    pub(crate) fn expired(&self, count: u64) {
        self.expired.inc_by(count);
    }
}
