//! The bus of many processes: Kafka topics, filled from the outboxes by leased relays.
//!
//! ```text
//! outbox rows ─► relay (advisory locks: one process per shard) ─► topic ─► reader ─► one task per partition
//!                 publish in order, wait for all replicas, delete       position() gives the start, never the group
//! ```
//!
//! Kafka may be away at any time: relays and readers wait and go on; nothing here ends the process.

mod client;
mod config;
mod counters;
mod group;
mod lag;
mod partition;
mod reader;
mod relay;
mod sink;
mod source;
mod topics;

pub use config::KafkaConfig;
pub use sink::{KafkaSink, SinkCluster, SinkLogin, SinkRecord, SinkTls};

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::producer::Producer as _;
use tokio::sync::OnceCell;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Bus, BusCounters, BusError, Consumer, OutboxDb, Outgoing, Waker, backoff::Backoff};
use client::Producer;
use counters::Counters;

/// How long [`Bus::publish`] tries.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);

pub struct KafkaBus {
    config: KafkaConfig,
    topics: Arc<topics::Topics>,
    /// For records outside any transaction; made when first used.
    producer: OnceCell<Producer>,
    lag: lag::Watchers,
    counters: Arc<Counters>,
    tasks: TaskTracker,
}

impl KafkaBus {
    /// Reads the settings; connects later, and again whenever it has to.
    pub fn new(config: KafkaConfig) -> Result<Self, BusError> {
        Ok(Self {
            topics: Arc::new(topics::Topics::new(&config)?),
            lag: lag::Watchers::new(config.clone()),
            producer: OnceCell::new(),
            counters: Arc::default(),
            tasks: TaskTracker::new(),
            config,
        })
    }

    async fn producer(&self) -> Result<&Producer, BusError> {
        self.producer.get_or_try_init(|| async { client::producer(&self.config, Some(PUBLISH_WITHIN)) }).await
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn attach(
        &self,
        topic: &str,
        outbox: OutboxDb,
        stop: CancellationToken,
    ) -> Result<Waker, BusError> {
        let waker = Waker::new();
        let relay = relay::Relay {
            topic: topic.to_owned(),
            outbox,
            config: self.config.clone(),
            topics: self.topics.clone(),
            counters: self.counters.clone(),
            wake: waker.subscribe(),
            stop,
        };
        self.tasks.spawn(relay.run());
        Ok(waker)
    }

    async fn publish(&self, topic: &str, records: Vec<Outgoing>) -> Result<(), BusError> {
        self.topics.ensure(topic).await?;
        let producer = self.producer().await?;
        let headers: Vec<_> = records.iter().map(Outgoing::all_headers).collect();
        let sends = records.iter().zip(&headers).map(|(record, headers)| {
            let outgoing = client::outgoing(topic, &record.key, &record.payload, headers, None);
            producer.send(outgoing, PUBLISH_WITHIN)
        });
        let sent = tokio::time::timeout(PUBLISH_WITHIN * 2, futures::future::try_join_all(sends)).await;
        match sent {
            Ok(Ok(_)) => {
                self.counters.published(records.len());
                Ok(())
            }
            Ok(Err((error, _))) if client::is_refused(&error) => Err(BusError::Refused(error.to_string())),
            Ok(Err((error, _))) => Err(client::unavailable(error)),
            Err(_) => Err(BusError::Unavailable("Kafka did not confirm in time".into())),
        }
    }

    async fn consume(
        &self,
        topic: &str,
        group: &str,
        consumer: Arc<dyn Consumer>,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            if let Err(error) = self.topics.ensure(topic).await {
                tracing::warn!(topic, group, %error, "topic cannot be read yet");
            } else {
                let reader = reader::Reader::join(
                    &self.config,
                    topic,
                    group,
                    consumer.clone(),
                    self.counters.clone(),
                )?;
                return reader.run(&stop).await;
            }
            if !backoff.pause(&stop).await {
                return Ok(());
            }
        }
    }

    async fn lag(&self, topic: &str, group: &str) -> Result<u64, BusError> {
        self.lag.of(topic, group).await
    }

    async fn check(&self) -> Result<(), BusError> {
        let producer = self.producer().await?.clone();
        let asked = tokio::task::spawn_blocking(move || client::metadata(producer.client(), None)).await;
        match asked {
            Ok(answer) => answer.map(drop).map_err(client::unavailable),
            Err(_) => Err(BusError::Unavailable("the question after metadata panicked".into())),
        }
    }

    fn counters(&self) -> BusCounters {
        self.counters.read()
    }
}
