//! One partition: batches in order, each offered until it is taken.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{KafkaConfig, counters::Counters};
use crate::{Batch, Consumed, Consumer, Record, backoff::Backoff};

/// What a partition tells its reader.
#[derive(Debug)]
pub(super) enum Progress {
    /// Everything below this offset is stored.
    Stored { partition: i32, next: i64 },
    /// The queue has room again.
    Drained { partition: i32 },
    /// The stored position is not what was expected: all positions are to be read again.
    Moved,
}

pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) number: i32,
    /// As stored by the consumer.
    pub(super) position: Option<i64>,
    pub(super) consumer: Arc<dyn Consumer>,
    pub(super) records: mpsc::Receiver<Record>,
    pub(super) progress: mpsc::Sender<Progress>,
    pub(super) config: KafkaConfig,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
}

impl Partition {
    /// Works until it is stopped or the position has moved.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        while let Some(batch) = self.gather().await {
            match self.hand_over(&batch, &mut backoff).await {
                Some(Consumed::Stored) => {
                    self.position = Some(batch.next);
                    let stored = Progress::Stored { partition: self.number, next: batch.next };
                    if self.progress.send(stored).await.is_err() {
                        return;
                    }
                }
                Some(Consumed::Moved) => {
                    self.progress.send(Progress::Moved).await.ok();
                    return;
                }
                None => return,
            }
        }
    }

    /// The next records, at least one; `None` when stopped.
    async fn gather(&mut self) -> Option<Batch> {
        let first = self.first().await?;
        self.notice_gap(first.offset);
        let mut bytes = first.payload.len();
        let mut records = vec![first];
        while records.len() < self.config.batch_records
            && bytes < self.config.batch_bytes
            && let Ok(record) = self.records.try_recv()
        {
            bytes += record.payload.len();
            records.push(record);
        }
        self.tell_if_drained().await?;
        let next = records.last().map_or(0, |record| record.offset) + 1;
        Some(Batch {
            topic: self.topic.clone(),
            partition: self.number,
            expected: self.position,
            next,
            records,
        })
    }

    /// The first record at the position or after it; what is before it is shown to the consumer. `None` when stopped.
    async fn first(&mut self) -> Option<Record> {
        let mut known = Vec::new();
        loop {
            let record = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                record = self.records.recv() => record?,
            };
            if self.position.is_none_or(|position| record.offset >= position) {
                if !known.is_empty() {
                    self.consumer.recall(&known);
                }
                return Some(record);
            }
            known.push(record);
            if self.records.is_empty() || known.len() >= self.config.batch_records {
                self.consumer.recall(&known);
                known.clear();
                self.tell_if_drained().await?;
            }
        }
    }

    async fn tell_if_drained(&self) -> Option<()> {
        if self.records.is_empty() {
            self.progress.send(Progress::Drained { partition: self.number }).await.ok()?;
        }
        Some(())
    }

    /// Kafka deleted records before they were read: nothing can bring them back, but somebody must know.
    fn notice_gap(&self, first: i64) {
        let missing = self.position.map_or(0, |position| first - position);
        if missing > 0 {
            self.counters.lost(missing.unsigned_abs());
            tracing::error!(
                topic = self.topic,
                group = self.group,
                partition = self.number,
                missing,
                first,
                "records are missing: the topic's retention is shorter than the consumer was away"
            );
        }
    }

    /// Offers the batch until it is taken; `None` when stopped.
    async fn hand_over(&self, batch: &Batch, backoff: &mut Backoff) -> Option<Consumed> {
        loop {
            match self.consumer.consume(batch).await {
                Ok(consumed) => {
                    backoff.reset();
                    return Some(consumed);
                }
                Err(error) => {
                    tracing::warn!(
                        topic = self.topic, group = self.group, partition = self.number,
                        first = batch.records[0].offset, %error, "batch not taken, it comes again"
                    );
                    if !backoff.pause(&self.stop).await {
                        return None;
                    }
                }
            }
        }
    }
}
