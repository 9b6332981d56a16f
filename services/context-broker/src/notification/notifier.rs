//! Consumes the changes: finds what they trigger, and stores what follows from a batch together with its position.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer};
use bytes::Bytes;
use prost::Message;
use proto::v1::ContextChange;
use scope::Tenant;
use service_kit::Clock;

use super::{
    delivery::Caller,
    matching::{Matcher, Prepared},
    store::{Intake, Match, NotificationStore},
};
use crate::{
    metrics::BrokerMetrics,
    subscription::{Registry, TenantIndex},
};

/// Entities whose last version is remembered, so that a change which the bus brings twice is told once.
const REMEMBERED: u64 = 200_000;

pub(crate) struct Notifier {
    registry: Arc<Registry>,
    store: Arc<dyn NotificationStore>,
    matcher: Arc<Matcher>,
    caller: Caller,
    clock: Arc<dyn Clock>,
    metrics: BrokerMetrics,
    /// Last version told, by the key of the entity.
    told: moka::sync::Cache<Bytes, i64>,
}

impl Notifier {
    pub(super) fn new(registry: Arc<Registry>, matcher: Matcher, caller: Caller) -> Self {
        Self {
            store: registry.deliveries.clone(),
            clock: registry.clock.clone(),
            metrics: registry.metrics.clone(),
            registry,
            matcher: Arc::new(matcher),
            caller,
            told: moka::sync::Cache::new(REMEMBERED),
        }
    }

    /// The changes of a batch that were not told yet.
    fn decode(&self, batch: &Batch) -> Vec<(Bytes, ContextChange)> {
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        let mut changes = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            let Ok(change) = ContextChange::decode(record.payload.clone()) else {
                tracing::error!(
                    topic = batch.topic,
                    offset = record.offset,
                    "change not readable, passed over"
                );
                continue;
            };
            let told = last.get(&record.key).copied().or_else(|| self.told.get(&record.key));
            if told.is_none_or(|told| change.version > told) {
                last.insert(record.key.clone(), change.version);
                changes.push((record.key.clone(), change));
            }
        }
        changes
    }

    async fn matches(
        &self,
        changes: Vec<ContextChange>,
    ) -> Result<(Vec<ContextChange>, Vec<Match>), ConsumeError> {
        let mut epochs: HashMap<&str, i64> = HashMap::new();
        for change in &changes {
            let epoch = epochs.entry(&change.tenant).or_insert(0);
            *epoch = (*epoch).max(change.subscription_epoch);
        }
        let mut indexes: HashMap<String, (Tenant, Arc<TenantIndex>)> = HashMap::new();
        for (name, epoch) in epochs {
            let Ok(tenant) = Tenant::from_header(Some(name)) else { continue };
            let index = self.registry.index(&tenant, epoch).await?;
            indexes.insert(name.to_owned(), (tenant, index));
        }
        let matcher = self.matcher.clone();
        let work = move || {
            let Prepared { changes, matches } = matcher.prepare(changes, &indexes);
            (changes, matches)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ConsumeError(error.to_string()))
    }
}

#[async_trait]
impl Consumer for Notifier {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(self.store.position(topic, partition).await?)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        let (keys, changes): (Vec<_>, Vec<_>) = self.decode(batch).into_iter().unzip();
        let versions: Vec<i64> = changes.iter().map(|change| change.version).collect();
        let (changes, matches) = self.matches(changes).await?;
        let intake = Intake {
            topic: &batch.topic,
            partition: batch.partition,
            expected: batch.expected,
            next: batch.next,
            matches,
            changes: &changes,
            now_us: self.clock.now_us(),
        };
        let Some(recorded) = self.store.record(intake).await? else { return Ok(Consumed::Moved) };
        for (key, version) in keys.into_iter().zip(versions) {
            self.told.insert(key, version);
        }
        self.metrics.history_records(recorded.history_records);
        for endpoint in recorded.endpoints {
            self.caller.call(endpoint);
        }
        Ok(Consumed::Stored)
    }
}
