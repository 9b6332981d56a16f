use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bus::header;
use parking_lot::Mutex;
use prost::Message;
use proto::v1::{DivertedMeasure, EntityUpdate, UpdateRequest};
use tokio::sync::Notify;

use super::{
    Job, Undelivered,
    batch::{Limits, Room},
};
use crate::{
    device::DeviceKey,
    metrics::Metrics,
    store::{Diverted, Mark, Store, StoreError},
};

/// Updates in one record: well below what a topic takes in one message, and never more of one entity than the broker
/// remembers.
const RECORD: Limits = Limits { updates: 64, bytes: 512 * 1024 };

/// Which devices are diverted, and the way onto the bus.
///
/// The truth is in the store, in the transactions of outbox and position. Where this process alone writes to it, a copy
/// in memory answers; otherwise each batch asks the store (soft state would be cheaper, but may be lost, and then a
/// measure would overtake those on the bus).
pub(crate) struct Diversion {
    store: Arc<dyn Store>,
    own: Option<Mutex<HashMap<DeviceKey, Mark>>>,
    pending: AtomicU64,
    changed: Notify,
    max_pending: u64,
    metrics: Metrics,
}

impl Diversion {
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        max_pending: u64,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let own = match store.is_shared() {
            true => None,
            false => Some(Mutex::new(store.all_diverted().await?.into_iter().collect())),
        };
        Ok(Self { store, own, pending: AtomicU64::new(0), changed: Notify::new(), max_pending, metrics })
    }

    /// What the bus knows of records that are not applied yet.
    pub(crate) fn set_pending(&self, records: u64) {
        self.pending.store(records, Ordering::Relaxed);
        self.metrics.diverted_pending.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Which of `devices` must go to the bus.
    pub(super) async fn diverted_of(
        &self,
        devices: Vec<DeviceKey>,
    ) -> Result<HashSet<DeviceKey>, StoreError> {
        match &self.own {
            Some(own) => {
                let own = own.lock();
                Ok(devices.into_iter().filter(|device| own.contains_key(device)).collect())
            }
            None => Ok(self.store.diverted_of(&devices).await?.into_iter().collect()),
        }
    }

    /// Puts what is left of the jobs on the bus, in order.
    pub(super) async fn divert(&self, jobs: &[Job]) -> Result<(), Undelivered> {
        let measures: Vec<Diverted> = jobs.iter().flat_map(records).collect();
        let count = measures.len() as u64;
        if count == 0 {
            return Ok(());
        }
        if self.pending.load(Ordering::Relaxed) + count > self.max_pending {
            return Err(Undelivered::Unavailable(
                "the context broker is away and the bus is full: try again later",
            ));
        }
        if let Err(error) = self.store.divert(&measures).await {
            tracing::error!(%error, "neither broker nor bus takes measures");
            return Err(Undelivered::Unavailable("neither broker nor bus can be reached: try again later"));
        }
        self.pending.fetch_add(count, Ordering::Relaxed);
        self.metrics.diverted_pending.inc_by(i64::try_from(count).unwrap_or_default());
        if let Some(own) = &self.own {
            own.lock().extend(measures.into_iter().map(|measure| (measure.device, measure.mark)));
        }
        Ok(())
    }

    /// Moves the position over applied records; false if another process did.
    pub(super) async fn drained(
        &self,
        batch: &bus::Batch,
        expected: Option<i64>,
        next: i64,
        devices: &[(DeviceKey, Mark)],
    ) -> Result<bool, StoreError> {
        if !self.store.drained(&batch.topic, batch.partition, expected, next, devices).await? {
            return Ok(false);
        }
        if let Some(own) = &self.own {
            let mut own = own.lock();
            for (device, mark) in devices {
                if own.get(device) == Some(mark) {
                    own.remove(device);
                }
            }
        }
        self.changed.notify_waiters();
        Ok(true)
    }

    /// Resolves when this process has drained something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// What is left of a job as records; the mark is the last measure id of each.
fn records(job: &Job) -> Vec<Diverted> {
    let mut records = Vec::new();
    let mut room = Room::new(RECORD);
    let mut updates: Vec<EntityUpdate> = Vec::new();
    for update in &job.updates {
        if !room.take(update) {
            records.push(record(job, std::mem::take(&mut updates)));
            room = Room::new(RECORD);
            room.take(update);
        }
        updates.push(update.clone());
    }
    if !room.is_empty() {
        records.push(record(job, updates));
    }
    records
}

fn record(job: &Job, updates: Vec<EntityUpdate>) -> Diverted {
    let mark = mark_of(&updates);
    let (traceparent, tracestate, correlator) = match &job.context {
        Some(context) => {
            (context.trace.traceparent(), context.trace.state.clone(), context.correlator.to_string())
        }
        None => Default::default(),
    };
    let headers = [
        (header::TRACEPARENT, &traceparent),
        (header::TRACESTATE, &tracestate),
        (header::CORRELATOR, &correlator),
    ];
    let headers = headers
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into(), value.as_str().into()))
        .collect();
    let measure = DivertedMeasure {
        tenant: job.device.tenant.to_string(),
        device_id: job.device.device_id.to_string(),
        updates: UpdateRequest { updates }.encode_to_vec().into(),
        arrived_us: job.arrived_us,
        traceparent,
        tracestate,
        correlator,
    };
    Diverted { device: job.device.clone(), mark, payload: measure.encode_to_vec().into(), headers }
}

/// The mark of a record: its last measure id.
pub(super) fn mark_of(updates: &[EntityUpdate]) -> Mark {
    let id = updates.last().map(|update| &update.measure_id[..]).unwrap_or_default();
    id.try_into().unwrap_or_default()
}
