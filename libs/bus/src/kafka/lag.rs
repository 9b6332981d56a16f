use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::{
    KafkaConfig,
    client::{self, ANSWER_WITHIN},
};
use crate::BusError;

/// Groups whose lag is asked for, at most; a client is kept for each.
const MAX_GROUPS: usize = 64;

/// Clients that only ask how far a group is.
pub(super) struct Watchers {
    config: KafkaConfig,
    by_group: Mutex<BTreeMap<String, Arc<BaseConsumer>>>,
}

impl Watchers {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self { config, by_group: Mutex::default() }
    }

    /// Records of `topic` beyond what `group` has committed, over all partitions.
    pub(super) async fn of(&self, topic: &str, group: &str) -> Result<u64, BusError> {
        let watcher = self.watcher(group)?;
        let topic = topic.to_owned();
        tokio::task::spawn_blocking(move || lag(&watcher, &topic))
            .await
            .map_err(|_| BusError::Unavailable("the question after the lag panicked".into()))?
            .map_err(client::unavailable)
    }

    fn watcher(&self, group: &str) -> Result<Arc<BaseConsumer>, BusError> {
        let mut watchers = self.by_group.lock();
        if let Some(watcher) = watchers.get(group) {
            return Ok(watcher.clone());
        }
        if watchers.len() >= MAX_GROUPS {
            return Err(BusError::Refused("the lag of too many groups is asked for".into()));
        }
        let watcher: BaseConsumer = self.config.consumer(group).create().map_err(client::unusable)?;
        let watcher = Arc::new(watcher);
        watchers.insert(group.to_owned(), watcher.clone());
        Ok(watcher)
    }
}

fn lag(watcher: &BaseConsumer, topic: &str) -> Result<u64, KafkaError> {
    let mut partitions = TopicPartitionList::new();
    for partition in client::metadata(watcher.client(), Some(topic))? {
        partitions.add_partition(topic, partition);
    }
    let committed = watcher.committed_offsets(partitions, ANSWER_WITHIN)?;
    let mut total = 0;
    for element in committed.elements() {
        let (low, high) = watcher.fetch_watermarks(topic, element.partition(), ANSWER_WITHIN)?;
        let next = match element.offset() {
            Offset::Offset(next) => next.max(low),
            _ => low,
        };
        total += u64::try_from(high - next).unwrap_or(0);
    }
    Ok(total)
}
