use std::sync::Arc;

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer, Record, header::TRACEPARENT};
use parking_lot::Mutex;
use prost::Message;
use proto::v1::{DivertedMeasure, EntityUpdate, UpdateRequest};
use scope::{ServicePath, Tenant};
use service_kit::{
    Code, RequestContext, TraceContext,
    telemetry::{batch_span, event_span},
};

use super::{
    Broker, Diversion,
    batch::{Limits, Room},
    broker::Applied,
    diversion::mark_of,
};
use crate::{
    device::DeviceKey,
    metrics::Metrics,
    store::{Mark, Store},
};

const SERVICE: &str = "device-agent";
/// Updates in one call to the broker.
const CHUNK: Limits = Limits { updates: 500, bytes: 2 * 1024 * 1024 };
/// How often an update that the broker fails on, without saying that it is away, is tried before it is skipped.
const MAX_FAILURES: u32 = 5;

/// Applies diverted measures in order. While the broker is away its batch comes again and again; what the broker refuses
/// is counted and skipped.
pub(crate) struct Drain {
    broker: Arc<Broker>,
    diversion: Arc<Diversion>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    /// Offset of the chunk that failed last, and how often.
    failures: Mutex<(i64, u32)>,
}

/// Records that go to the broker in one call.
struct Chunk {
    room: Room,
    updates: Vec<EntityUpdate>,
    devices: Vec<(DeviceKey, Mark)>,
}

impl Chunk {
    fn new() -> Self {
        Self { room: Room::new(CHUNK), updates: Vec::new(), devices: Vec::new() }
    }
}

impl Drain {
    pub(crate) fn new(
        broker: Arc<Broker>,
        diversion: Arc<Diversion>,
        store: Arc<dyn Store>,
        metrics: Metrics,
    ) -> Self {
        Self { broker, diversion, store, metrics, failures: Mutex::new((-1, 0)) }
    }

    /// Sends a chunk that ends before offset `next`.
    async fn apply(&self, updates: Vec<EntityUpdate>, next: i64) -> Result<(), ConsumeError> {
        if updates.is_empty() {
            return Ok(());
        }
        let results = self.broker.update(updates).await.map_err(|away| ConsumeError(away.to_string()))?;
        if results.contains(&Applied::Later) {
            return Err(ConsumeError("the context broker takes it later".into()));
        }
        let failed =
            results.iter().any(|result| matches!(result, Applied::Refused { code: Code::Internal, .. }));
        if failed && self.failed_again(next) <= MAX_FAILURES {
            return Err(ConsumeError("the context broker failed on a measure".into()));
        }
        for result in results {
            let Applied::Refused { code, error, .. } = result else {
                Metrics::count(&self.metrics.drained, "applied");
                continue;
            };
            Metrics::count(&self.metrics.drained, "skipped");
            tracing::warn!(?code, error, "the context broker refused a diverted measure; it is skipped");
        }
        Ok(())
    }

    fn failed_again(&self, next: i64) -> u32 {
        let mut failures = self.failures.lock();
        *failures = if failures.0 == next { (next, failures.1 + 1) } else { (next, 1) };
        failures.1
    }

    fn read(&self, record: &Record) -> Option<(DeviceKey, Vec<EntityUpdate>)> {
        let read = || {
            let measure = DivertedMeasure::decode(record.payload.clone()).ok()?;
            let updates = UpdateRequest::decode(measure.updates).ok()?.updates;
            let tenant = Tenant::from_header(Some(&measure.tenant)).ok()?;
            let path = ServicePath::parse(&updates.first()?.service_path).ok()?;
            Some((DeviceKey { tenant, path, device_id: measure.device_id.as_str().into() }, updates))
        };
        let read = read();
        if read.is_none() {
            Metrics::count(&self.metrics.drained, "unreadable");
            tracing::error!(
                offset = record.offset,
                "a record of topic measures cannot be read; it is skipped"
            );
        }
        read
    }
}

#[async_trait]
impl Consumer for Drain {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(self.store.position(topic, partition).await?)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        let traces: Vec<TraceContext> = batch
            .records
            .iter()
            .filter_map(|record| TraceContext::parse(record.header(TRACEPARENT)?))
            .collect();
        let span = batch_span(SERVICE, "measures drain", traces.iter().cloned());
        // One span per measure, in the trace of the request that it came with.
        let spans: Vec<_> =
            traces.iter().filter_map(|trace| event_span(SERVICE, "measure drain", trace)).collect();
        let mut context = RequestContext::background(SERVICE);
        if let Some(span) = &span {
            context.trace = span.trace_context();
        }
        let consumed = context.run(self.drain(batch)).await;
        if let Err(error) = &consumed {
            span.iter().chain(&spans).for_each(|span| span.fail(&error.to_string()));
        }
        consumed
    }
}

impl Drain {
    /// A batch may need several calls; the position moves after each, so that what the broker has taken is never sent
    /// again once it can have forgotten the measure ids.
    async fn drain(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        if self.position(&batch.topic, batch.partition).await? != batch.expected {
            return Ok(Consumed::Moved);
        }
        let mut expected = batch.expected;
        let mut chunk = Chunk::new();
        for record in &batch.records {
            let Some((device, updates)) = self.read(record) else { continue };
            if !chunk.room.take_all(&updates) {
                let full = std::mem::replace(&mut chunk, Chunk::new());
                self.apply(full.updates, record.offset).await?;
                if !self.diversion.drained(batch, expected, record.offset, &full.devices).await? {
                    return Ok(Consumed::Moved);
                }
                expected = Some(record.offset);
                chunk.room.take_all(&updates);
            }
            chunk.devices.push((device, mark_of(&updates)));
            chunk.updates.extend(updates);
        }
        self.apply(chunk.updates, batch.next).await?;
        let stored = self.diversion.drained(batch, expected, batch.next, &chunk.devices).await?;
        Ok(if stored { Consumed::Stored } else { Consumed::Moved })
    }
}
