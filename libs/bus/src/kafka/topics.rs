use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    KafkaConfig,
    client::{ANSWER_WITHIN, Logged, unavailable, unusable},
};
use crate::BusError;

/// Makes topics that are missing.
pub(super) struct Topics {
    config: KafkaConfig,
    admin: Arc<AdminClient<Logged>>,
    known: Mutex<HashSet<String>>,
}

impl Topics {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, BusError> {
        let admin: AdminClient<Logged> = config.client().create_with_context(Logged).map_err(unusable)?;
        Ok(Self { config: config.clone(), admin: Arc::new(admin), known: Mutex::default() })
    }

    /// Makes `topic` unless it exists. Its settings are only used when it is made.
    pub(super) async fn ensure(&self, topic: &str) -> Result<(), BusError> {
        if self.known.lock().contains(topic) {
            return Ok(());
        }
        let config = &self.config;
        let (retention, size) = (config.retention_ms.to_string(), config.max_message_bytes.to_string());
        let in_sync = if config.replication >= 3 { "2" } else { "1" };
        let wanted = NewTopic::new(topic, config.partitions, TopicReplication::Fixed(config.replication))
            .set("retention.ms", &retention)
            .set("max.message.bytes", &size)
            .set("min.insync.replicas", in_sync)
            .set("cleanup.policy", "delete");
        let options =
            AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN));
        let made = match self.admin.create_topics([&wanted], &options).await {
            Ok(made) => made,
            Err(error) => {
                // Some clusters do not let clients make topics.
                return if self.exists(topic).await { Ok(()) } else { Err(unavailable(error)) };
            }
        };
        match made.into_iter().next() {
            Some(Ok(_)) => tracing::info!(topic, partitions = config.partitions, "topic made"),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
            // Whoever may not make topics may still use those that exist.
            Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => {}
            Some(Err((_, code))) => return Err(BusError::Unavailable(format!("topic {topic}: {code}"))),
            None => return Err(BusError::Unavailable(format!("topic {topic}: no answer"))),
        }
        self.known.lock().insert(topic.to_owned());
        Ok(())
    }

    /// Looks through all topics: a question after one by name would make it on some clusters.
    async fn exists(&self, topic: &str) -> bool {
        let (admin, topic) = (self.admin.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, ANSWER_WITHIN)?;
            Ok::<_, KafkaError>(metadata.topics().iter().any(|found| found.name() == topic))
        });
        matches!(asked.await, Ok(Ok(true)))
    }

    /// The topic may have been deleted: looks again next time.
    pub(super) fn forget(&self, topic: &str) {
        self.known.lock().remove(topic);
    }
}
