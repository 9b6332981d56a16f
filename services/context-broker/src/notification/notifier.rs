//! Consumes the changes: finds what they trigger, and stores what follows from a batch together with its position.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer, Record};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use proto::{v1::ContextChange, wire::read};
use scope::Tenant;
use service_kit::Clock;

use super::{
    delivery::Caller,
    immediate::Immediate,
    matching::{Matcher, Prepared},
    progress::Progress,
    store::{Intake, Match, NotificationStore},
};
use crate::{
    metrics::BrokerMetrics,
    subscription::{Registry, TenantIndex},
    tokens::{SealedToken, Tokens},
};

/// Entities whose last version is remembered, so that a change which the bus brings twice is told once.
const REMEMBERED: usize = 200_000;
/// Changes of a partition that are looked at again by who begins to read it, so that it remembers them too. A relay that
/// dies brings one batch a second time, while the others go on for as long as its lease lives.
const RECALLED: u32 = 10_000;

/// How what is to be delivered gets on its way.
pub(super) struct Ways {
    /// Kept until it is delivered; if not, tried once.
    pub(super) durable: bool,
    pub(super) caller: Caller,
    pub(super) immediate: Immediate,
    pub(super) tokens: Arc<Tokens>,
}

pub(crate) struct Notifier {
    registry: Arc<Registry>,
    store: Arc<dyn NotificationStore>,
    matcher: Arc<Matcher>,
    ways: Ways,
    clock: Arc<dyn Clock>,
    metrics: BrokerMetrics,
    /// Last version told, by the key of the entity.
    told: quick_cache::sync::Cache<Bytes, i64>,
    progress: Mutex<Progress>,
}

impl Notifier {
    pub(super) fn new(registry: Arc<Registry>, matcher: Matcher, ways: Ways) -> Self {
        Self {
            store: registry.deliveries.clone(),
            clock: registry.clock.clone(),
            metrics: registry.metrics.clone(),
            registry,
            matcher: Arc::new(matcher),
            ways,
            told: quick_cache::sync::Cache::new(REMEMBERED),
            progress: Mutex::default(),
        }
    }

    /// The records of a batch that may trigger something.
    async fn promising<'a>(&self, batch: &'a Batch) -> Result<(Vec<&'a Record>, Indexes), ConsumeError> {
        let mut heads = Vec::with_capacity(batch.records.len());
        let mut epochs: HashMap<&str, i64> = HashMap::new();
        for record in &batch.records {
            let Some(head) = Head::read(&record.payload) else {
                tracing::error!(
                    topic = batch.topic,
                    offset = record.offset,
                    "change not readable, passed over"
                );
                continue;
            };
            let epoch = epochs.entry(head.tenant).or_insert(head.subscription_epoch);
            *epoch = head.subscription_epoch.max(*epoch);
            heads.push((record, head));
        }
        let mut indexes: HashMap<String, (Tenant, Arc<TenantIndex>)> = HashMap::with_capacity(epochs.len());
        for (name, epoch) in epochs {
            let Ok(tenant) = Tenant::from_header(Some(name)) else { continue };
            let index = self.registry.index(&tenant, epoch).await?;
            indexes.insert(name.to_owned(), (tenant, index));
        }
        heads.retain(|(_, head)| {
            let index = indexes.get(head.tenant);
            index.is_some_and(|(_, index)| {
                index.has_candidates(head.entity_id, head.entity_type, head.touched.iter().copied())
            })
        });
        Ok((heads.into_iter().map(|(record, _)| record).collect(), indexes))
    }

    /// Those changes that were not told yet.
    fn decode(&self, batch: &Batch, records: Vec<&Record>) -> Vec<(Bytes, ContextChange)> {
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
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
        indexes: Indexes,
    ) -> Result<(Vec<ContextChange>, Vec<Match>), ConsumeError> {
        let tokens = self.tokens(&changes).await;
        let matcher = self.matcher.clone();
        let work = move || {
            let Prepared { changes, matches } = matcher.prepare(changes, &indexes, &tokens);
            (changes, matches)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ConsumeError(error.to_string()))
    }
}

/// The subscriptions of the tenants in a batch.
type Indexes = HashMap<String, (Tenant, Arc<TenantIndex>)>;

/// What says whether a [`ContextChange`] was told.
#[derive(Clone, PartialEq, prost::Message)]
struct Version {
    #[prost(int64, tag = "6")]
    version: i64,
}

/// What of a [`ContextChange`] the index asks about; the rest, entity included, is passed over unread.
#[derive(Default)]
struct Head<'a> {
    tenant: &'a str,
    entity_id: &'a str,
    entity_type: &'a str,
    subscription_epoch: i64,
    /// Attributes that were updated or removed.
    touched: Vec<&'a str>,
}

impl<'a> Head<'a> {
    /// `None`: the bytes are no change.
    fn read(change: &'a [u8]) -> Option<Self> {
        let mut head = Self::default();
        read(change, |field, value| {
            match field {
                1 => head.tenant = value.text()?,
                3 => head.entity_id = value.text()?,
                4 => head.entity_type = value.text()?,
                8 => head.subscription_epoch = value.int()?,
                11 | 13 => head.touched.push(value.text()?),
                _ => {}
            }
            Some(())
        })?;
        Some(head)
    }
}

impl Notifier {
    /// The tokens that the changes name, by reference.
    async fn tokens(&self, changes: &[ContextChange]) -> HashMap<String, SealedToken> {
        let named: HashMap<&str, &str> = changes
            .iter()
            .filter(|change| !change.token_ref.is_empty())
            .map(|change| (change.token_ref.as_str(), change.tenant.as_str()))
            .collect();
        let found = named.into_iter().map(|(reference, tenant)| async move {
            let tenant = Tenant::from_header(Some(tenant)).ok()?;
            Some((reference.to_owned(), self.ways.tokens.find(&tenant, reference).await?))
        });
        futures::future::join_all(found).await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl Consumer for Notifier {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        self.progress.lock().settled(topic, partition);
        Ok(self.store.position(topic, partition).await?)
    }

    fn recalls(&self) -> u32 {
        RECALLED
    }

    fn recall(&self, records: &[Record]) {
        for record in records {
            if let Ok(Version { version }) = Version::decode(record.payload.clone())
                && self.told.get(&record.key).is_none_or(|told| told < version)
            {
                self.told.insert(record.key.clone(), version);
            }
        }
    }

    async fn idle(&self, topic: &str, partition: i32) -> Result<(), ConsumeError> {
        let waiting = self.progress.lock().rest(topic, partition);
        let Some((expected, next)) = waiting else { return Ok(()) };
        let now_us = self.clock.now_us();
        let (matches, changes) = (Vec::new(), [].as_slice());
        // Should it have moved meanwhile, the next batch will show it.
        self.store
            .record(Intake { topic, partition, expected, next, matches, changes, now_us, durable: true })
            .await?;
        self.progress.lock().settled(topic, partition);
        Ok(())
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        let (records, indexes) = self.promising(batch).await?;
        let (keys, changes): (Vec<_>, Vec<_>) = self.decode(batch, records).into_iter().unzip();
        if changes.is_empty() && self.progress.lock().may_wait(batch) {
            return Ok(Consumed::Stored);
        }
        let versions: Vec<i64> = changes.iter().map(|change| change.version).collect();
        let (changes, matches) = self.matches(changes, indexes).await?;
        let expected = self.progress.lock().stored(batch);
        let intake = Intake {
            topic: &batch.topic,
            partition: batch.partition,
            expected,
            next: batch.next,
            matches,
            changes: &changes,
            now_us: self.clock.now_us(),
            durable: self.ways.durable,
        };
        let recorded = self.store.record(intake).await?;
        self.progress.lock().settled(&batch.topic, batch.partition);
        let Some(recorded) = recorded else { return Ok(Consumed::Moved) };
        for (key, version) in keys.into_iter().zip(versions) {
            self.told.insert(key, version);
        }
        self.metrics.history_records(recorded.history_records);
        for endpoint in recorded.endpoints {
            self.ways.caller.call(endpoint);
        }
        self.ways.immediate.send(recorded.immediate).await;
        Ok(Consumed::Stored)
    }
}
