use std::{collections::BTreeMap, time::Duration};

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// How to reach Kafka and how topics are made.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port,host:port`.
    pub brokers: String,
    /// Partitions of a topic that this program makes. More let more replicas consume; a later change moves keys.
    pub partitions: i32,
    /// Copies of each partition. With 3 or more, two must have a record before it counts as written.
    pub replication: i32,
    /// How long a topic keeps records, milliseconds. A consumer that is away for longer loses some, loudly.
    pub retention_ms: i64,
    /// Largest record, bytes. Above the entity limit of the broker; what is larger still becomes a dead letter.
    pub max_message_bytes: usize,
    /// Records in one batch, at most: of a consumer, and of the relay.
    pub batch_records: usize,
    /// Bytes in one batch, about.
    pub batch_bytes: usize,
    /// After how long without a sign of life a replica's partitions go to the others, milliseconds.
    pub session_timeout_ms: u32,
    /// How often the relay looks for rows that another process wrote, milliseconds.
    pub relay_poll_ms: u64,
    /// Further librdkafka properties, for instance `security.protocol`. May hold secrets: never logged.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            partitions: 12,
            replication: 1,
            retention_ms: 7 * 86_400_000,
            max_message_bytes: 4 << 20,
            batch_records: 500,
            batch_bytes: 4 << 20,
            session_timeout_ms: 10_000,
            relay_poll_ms: 20,
            properties: BTreeMap::new(),
        }
    }
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

impl KafkaConfig {
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// What every client has. Our own settings come after the user's, so that none of them can weaken a guarantee.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "thingmesh")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set("log.connection.close", "false");
        config
    }

    /// A producer whose answer means: written by all in-sync replicas, once, in order. `give_up_after` is how long a
    /// record may wait; `None` waits for ever, because a record given up would be overtaken by the next of its key.
    pub(super) fn producer(&self, give_up_after: Option<Duration>) -> ClientConfig {
        let mut config = self.client();
        let timeout_ms = give_up_after.map_or(0, |timeout| timeout.as_millis());
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", timeout_ms.to_string())
            .set("message.max.bytes", self.max_message_bytes.to_string())
            .set("compression.type", "lz4")
            .set("linger.ms", "1")
            .set("partitioner", "murmur2_random");
        config
    }

    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "roundrobin")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 4).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.message.max.bytes", self.max_message_bytes.to_string())
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.wait.max.ms", "100");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_as_written_when_all_replicas_have_it() {
        let mut kafka = KafkaConfig::new("a:1");
        kafka.properties.insert("acks".into(), "0".into());
        kafka.properties.insert("enable.idempotence".into(), "false".into());
        let producer = kafka.producer(None);
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
        assert_eq!(producer.get("message.timeout.ms"), Some("0"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut kafka = KafkaConfig::new("a:1");
        kafka.properties.insert("sasl.password".into(), "hush".into());
        assert!(!format!("{kafka:?}").contains("hush"));
        assert_eq!(kafka.client().get("sasl.password"), Some("hush"));
    }
}
