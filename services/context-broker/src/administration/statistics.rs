//! Counters of `/statistics` and `/cache/statistics`.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::AdministrationConfig;

/// What the requests of one path template were, by method.
type ByMethod = BTreeMap<&'static str, u64>;

#[derive(Default)]
pub(crate) struct Statistics {
    started_us: i64,
    reset_us: AtomicI64,
    requests: Mutex<BTreeMap<&'static str, ByMethod>>,
    json: AtomicU64,
    text: AtomicU64,
    no_payload: AtomicU64,
    invalid: AtomicU64,
    legacy_forwards: AtomicU64,
    total_us: AtomicU64,
    last_us: AtomicU64,
    inserts: AtomicU64,
    removes: AtomicU64,
    updates: AtomicU64,
    /// Counters of the notifier and of the index when they were last reset.
    base: Mutex<Outgoing>,
}

/// What the notifier has counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    /// Now, not since the start.
    pub(crate) waiting: u64,
    /// How often subscriptions were read into memory.
    pub(crate) refreshes: u64,
}

/// What a request was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// As the API's description writes its path; None: no such path.
    pub(crate) template: Option<&'static str>,
    pub(crate) method: &'static str,
    pub(crate) payload: Payload,
    pub(crate) status: u16,
    pub(crate) took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    None,
    Json,
    Text,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Statistics {
    pub(crate) fn new(now_us: i64) -> Self {
        Self { started_us: now_us, reset_us: now_us.into(), ..Self::default() }
    }

    pub(crate) fn request(&self, request: &Request) {
        match request.template {
            Some(template) if request.status != 405 => {
                *self.requests.lock().entry(template).or_default().entry(request.method).or_default() += 1;
            }
            _ => add(&self.invalid),
        }
        add(match request.payload {
            Payload::None => &self.no_payload,
            Payload::Json => &self.json,
            Payload::Text => &self.text,
        });
        let took_us = u64::try_from(request.took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(took_us, Ordering::Relaxed);
        self.last_us.store(took_us, Ordering::Relaxed);
    }

    /// Counts a change of the subscriptions, by what was asked and answered.
    pub(crate) fn subscription(&self, method: &'static str, status: u16) {
        match (method, status) {
            ("POST", 201) => add(&self.inserts),
            ("DELETE", 204) => add(&self.removes),
            ("PATCH", 204) => add(&self.updates),
            _ => {}
        }
    }

    pub(crate) fn legacy_forward(&self) {
        add(&self.legacy_forwards);
    }

    /// `outgoing`: the counters of others, which start again from here.
    pub(crate) fn reset(&self, now_us: i64, outgoing: Outgoing) {
        self.reset_us.store(now_us, Ordering::Relaxed);
        self.requests.lock().clear();
        for counter in [
            &self.json,
            &self.text,
            &self.no_payload,
            &self.invalid,
            &self.legacy_forwards,
            &self.total_us,
            &self.last_us,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        let refreshes = self.base.lock().refreshes;
        *self.base.lock() = Outgoing { refreshes, ..outgoing };
    }

    pub(crate) fn reset_cache(&self, outgoing: Outgoing) {
        for counter in [&self.inserts, &self.removes, &self.updates] {
            counter.store(0, Ordering::Relaxed);
        }
        self.base.lock().refreshes = outgoing.refreshes;
    }

    pub(crate) fn shown(
        &self,
        config: &AdministrationConfig,
        full: bool,
        now_us: i64,
        outgoing: Outgoing,
    ) -> Value {
        let mut shown = Map::new();
        let base = *self.base.lock();
        let sent = (outgoing.sent + outgoing.failed).saturating_sub(base.sent + base.failed);
        if config.statistics_counters {
            shown.insert("counters".to_owned(), self.counters(full, sent));
        }
        if config.statistics_semaphores {
            let semaphores = [
                "request",
                "dbConnectionPool",
                "transaction",
                "subCache",
                "connectionContext",
                "timeStat",
                "metrics",
            ];
            let waits: Map<String, Value> =
                semaphores.into_iter().map(|name| (name.to_owned(), json!(0.0))).collect();
            shown.insert("semWait".to_owned(), Value::Object(waits));
        }
        if config.statistics_timing {
            let seconds = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e6;
            shown.insert(
                "timing".to_owned(),
                json!({"accumulated": {"total": seconds(&self.total_us)}, "last": {"total": seconds(&self.last_us)}}),
            );
        }
        if config.statistics_queue {
            let (ok, errors) =
                (outgoing.sent.saturating_sub(base.sent), outgoing.failed.saturating_sub(base.failed));
            let dropped = outgoing.dropped.saturating_sub(base.dropped);
            let queue = json!({
                "in": sent + dropped + outgoing.waiting, "out": sent, "reject": dropped, "sentOk": ok,
                "sentError": errors, "size": outgoing.waiting,
            });
            shown.insert("notifQueue".to_owned(), queue);
        }
        let since = |from: i64| json!((now_us - from).max(0) / 1_000_000);
        shown.insert("uptime_in_secs".to_owned(), since(self.started_us));
        shown.insert("measuring_interval_in_secs".to_owned(), since(self.reset_us.load(Ordering::Relaxed)));
        Value::Object(shown)
    }

    /// Zero counters are left out unless `full`.
    fn counters(&self, full: bool, notifications: u64) -> Value {
        let mut shown = Map::new();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, count) in [
            ("jsonRequests", read(&self.json)),
            ("textRequests", read(&self.text)),
            ("noPayloadRequests", read(&self.no_payload)),
        ] {
            if full || count > 0 {
                shown.insert(name.to_owned(), json!(count));
            }
        }
        let requests = self.requests.lock();
        if full || !requests.is_empty() {
            shown.insert("requests".to_owned(), json!(*requests));
        }
        for (name, count) in [("invalidRequests", read(&self.invalid)), ("notificationsSent", notifications)]
        {
            if full || count > 0 {
                shown.insert(name.to_owned(), json!(count));
            }
        }
        let legacy = read(&self.legacy_forwards);
        if full || legacy > 0 {
            shown.insert("deprecatedFeatures".to_owned(), json!({"ngsiv1Forwarding": legacy}));
        }
        Value::Object(shown)
    }

    pub(crate) fn cache(&self, ids: &str, items: usize, outgoing: Outgoing) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let refreshes = outgoing.refreshes.saturating_sub(self.base.lock().refreshes);
        json!({
            "ids": ids, "refresh": refreshes, "inserts": read(&self.inserts), "removes": read(&self.removes),
            "updates": read(&self.updates), "items": items,
        })
    }
}
