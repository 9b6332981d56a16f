//! From the outbox to the topic, in order, for as long as it takes.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryFuture, Producer as _},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Counters, KafkaConfig,
    client::{self, Producer},
    source::Source,
    topics::Topics,
};
use crate::{BusError, OutboxDb, Record, backoff::Backoff};

/// How long a send may go on after the stop: the rows are safe in the outbox.
const AFTER_STOP: Duration = Duration::from_millis(500);
/// How long a relay without any shard waits before it looks again.
const WITHOUT_LEASE: Duration = Duration::from_secs(1);

const DEAD_LETTER_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Relay {
    pub(super) topic: String,
    pub(super) outbox: OutboxDb,
    pub(super) config: KafkaConfig,
    pub(super) topics: Arc<Topics>,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: watch::Receiver<u64>,
    pub(super) stop: CancellationToken,
}

impl Relay {
    /// Relays until stopped. Whatever goes wrong (Kafka or the database away, a panic) is tried again after a pause:
    /// a new session reads the rows that are still there.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !self.stop.is_cancelled() {
            match AssertUnwindSafe(self.session(&mut backoff)).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::warn!(topic = self.topic, %error, "relay starts again"),
                Err(_) => tracing::error!(topic = self.topic, "relay panicked and starts again"),
            }
            self.counters.relay_failed();
            if !backoff.pause(&self.stop).await {
                return;
            }
        }
    }

    /// One connection, one producer. Returns when stopped.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), BusError> {
        self.topics.ensure(&self.topic).await?;
        let mut source = Source::open(&self.outbox).await?;
        let producer = client::producer(&self.config, None)?;
        let relayed = self.relay(&mut source, &producer, backoff).await;
        client::drop_aside(producer);
        relayed
    }

    async fn relay(
        &mut self,
        source: &mut Source,
        producer: &Producer,
        backoff: &mut Backoff,
    ) -> Result<(), BusError> {
        let (max_records, max_bytes) = (self.config.batch_records, self.config.batch_bytes);
        while !self.stop.is_cancelled() {
            self.wake.mark_unchanged();
            let rows = source.read(&self.topic, max_records, max_bytes).await?;
            if rows.is_empty() {
                if !self.wait(source.holds_lease()).await {
                    return Ok(());
                }
                continue;
            }
            let Some(refused) = self.publish(producer, &rows).await? else { return Ok(()) };
            for (row, reason) in refused {
                self.dead_letter(source, producer, row, &reason).await?;
            }
            source.remove(&self.topic, &rows).await?;
            self.counters.published(rows.len());
            backoff.reset();
        }
        Ok(())
    }

    /// Waits for news; false when stopped.
    async fn wait(&mut self, holds_lease: bool) -> bool {
        let pause =
            if holds_lease { Duration::from_millis(self.config.relay_poll_ms) } else { WITHOUT_LEASE };
        tokio::select! {
            _ = self.wake.changed(), if holds_lease => true,
            () = tokio::time::sleep(pause) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// Sends all rows, then waits for all answers: those that are refused for good, or `None` when stopped. Any other
    /// failure ends the session, and all rows are sent again: in order, some twice.
    async fn publish<'a>(
        &self,
        producer: &Producer,
        rows: &'a [Record],
    ) -> Result<Option<Vec<(&'a Record, String)>>, BusError> {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(AFTER_STOP).await;
        };
        let sent = async {
            let mut waiting = Vec::with_capacity(rows.len());
            let mut refused = Vec::new();
            for row in rows {
                match self.enqueue(producer, row).await {
                    Ok(answer) => waiting.push((row, answer)),
                    Err(error) if client::is_refused(&error) => refused.push((row, error.to_string())),
                    Err(error) => return Err(self.failed(producer, error)),
                }
            }
            for (row, answer) in waiting {
                match answer.await {
                    Ok(Ok(_)) => {}
                    Ok(Err((error, _))) if client::is_refused(&error) => {
                        refused.push((row, error.to_string()))
                    }
                    Ok(Err((error, _))) => return Err(self.failed(producer, error)),
                    Err(_) => return Err(BusError::Unavailable("the producer ended".into())),
                }
            }
            Ok(refused)
        };
        tokio::select! {
            sent = sent => sent.map(Some),
            () = stopped => Ok(None),
        }
    }

    async fn enqueue(&self, producer: &Producer, row: &Record) -> Result<DeliveryFuture, KafkaError> {
        let mut record =
            client::outgoing(&self.topic, &row.key, &row.payload, &row.headers, Some(row.time_us));
        loop {
            match producer.send_result(record) {
                Ok(answer) => return Ok(answer),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn failed(&self, producer: &Producer, error: KafkaError) -> BusError {
        self.topics.forget(&self.topic);
        match producer.client().fatal_error() {
            Some((code, text)) => BusError::Unavailable(format!("producer failed for good ({code}): {text}")),
            None => client::unavailable(error),
        }
    }

    /// Puts a refused record where a person can find it: on the topic `<topic>.dead`, else in the table `bus_dead`.
    async fn dead_letter(
        &self,
        source: &mut Source,
        producer: &Producer,
        row: &Record,
        reason: &str,
    ) -> Result<(), BusError> {
        let topic = format!("{}.dead", self.topic);
        tracing::error!(
            topic = self.topic,
            seq = row.offset,
            bytes = row.payload.len(),
            reason,
            "record can never be published"
        );
        self.counters.dead_letter();
        let mut headers = row.headers.to_vec();
        headers.push(("dead-reason".into(), reason.into()));
        self.topics.ensure(&topic).await?;
        let record = client::outgoing(&topic, &row.key, &row.payload, &headers, Some(row.time_us));
        match tokio::time::timeout(DEAD_LETTER_WITHIN, producer.send(record, DEAD_LETTER_WITHIN)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) if client::is_refused(&error) => {
                Ok(source.bury(&self.topic, row, reason).await?)
            }
            Ok(Err((error, _))) => Err(self.failed(producer, error)),
            Err(_) => Err(BusError::Unavailable(format!("topic {topic} does not answer"))),
        }
    }
}
