use tokio_util::sync::CancellationToken;

use super::{EmbeddedOptions, Log};
use crate::{Batch, Consumed, Consumer, Record, backoff::Backoff, tail::Seen};

/// The embedded log has one partition.
const PARTITION: i32 = 0;

/// Where the next records are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// In memory, and in the file only when that does not know.
    Tail,
    /// At the beginning, and now and then: another program may have written to the file.
    File,
}

/// One group's way through a log.
pub(super) struct Reader<'a> {
    log: &'a Log,
    group: &'a str,
    consumer: &'a dyn Consumer,
    options: &'a EmbeddedOptions,
    stop: &'a CancellationToken,
    backoff: Backoff,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        log: &'a Log,
        group: &'a str,
        consumer: &'a dyn Consumer,
        options: &'a EmbeddedOptions,
        stop: &'a CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(options.backoff.0, options.backoff.1);
        Self { log, group, consumer, options, stop, backoff }
    }

    /// Reads until stopped.
    pub(super) async fn run(mut self) {
        let mut wake = self.log.waker.subscribe();
        while let Some(mut position) = self.load_position().await {
            self.rest().await;
            let mut from = self.start_of(position).await;
            let mut look = Look::File;
            loop {
                if self.stop.is_cancelled() {
                    return;
                }
                wake.mark_unchanged();
                let Some(records) = self.read(from, std::mem::replace(&mut look, Look::Tail)).await else {
                    return;
                };
                let Some(last) = records.last() else {
                    tokio::select! {
                        _ = wake.changed() => {}
                        () = tokio::time::sleep(self.options.poll) => {
                            look = Look::File;
                            self.rest().await;
                        }
                        () = self.stop.cancelled() => return,
                    }
                    continue;
                };
                let next = last.offset + 1;
                let batch = Batch {
                    topic: self.log.topic.clone(),
                    partition: PARTITION,
                    expected: position,
                    next,
                    records,
                };
                match self.hand_over(&batch).await {
                    Some(Consumed::Stored) => {
                        position = Some(next);
                        from = next;
                        self.log.groups.lock().moved(self.group, next);
                    }
                    Some(Consumed::Moved) => break,
                    None => return,
                }
            }
        }
    }

    /// The stored position, asked for until it is answered; `None` when stopped.
    async fn load_position(&mut self) -> Option<Option<i64>> {
        loop {
            match self.consumer.position(&self.log.topic, PARTITION).await {
                Ok(position) => {
                    self.backoff.reset();
                    self.log.groups.lock().moved(self.group, position.unwrap_or(0));
                    return Some(position);
                }
                Err(error) => {
                    tracing::warn!(topic = self.log.topic, group = self.group, %error, "no position yet");
                    if !self.backoff.pause(self.stop).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Where to read from. A position beyond the log means that the producer's file was replaced (an old backup): then
    /// everything in it is read, and the consumer's idempotence sorts out what it had.
    async fn start_of(&self, position: Option<i64>) -> i64 {
        let Some(position) = position else { return 0 };
        match self.log.source.next().await {
            Ok(next) if position > next => {
                tracing::error!(
                    topic = self.log.topic,
                    group = self.group,
                    position,
                    end = next,
                    "position lies beyond the log, which was replaced: reading it from its start"
                );
                0
            }
            _ => position,
        }
    }

    /// The next records, asked for until the log answers; `None` when stopped.
    async fn read(&mut self, from: i64, look: Look) -> Option<Vec<Record>> {
        let options = self.options;
        if look == Look::Tail {
            match self.log.waker.read(from, options.batch_records, options.batch_bytes) {
                Seen::Records(records) => return Some(records),
                Seen::End => return Some(Vec::new()),
                Seen::Unknown => {}
            }
        }
        loop {
            let read =
                self.log.source.read(&self.log.topic, from, options.batch_records, options.batch_bytes);
            match read.await {
                Ok(records) => return Some(records),
                Err(error) => {
                    tracing::warn!(topic = self.log.topic, group = self.group, %error, "log cannot be read");
                    if !self.backoff.pause(self.stop).await {
                        return None;
                    }
                }
            }
        }
    }

    async fn rest(&self) {
        if let Err(error) = self.consumer.idle(&self.log.topic, PARTITION).await {
            tracing::debug!(topic = self.log.topic, group = self.group, %error, "rest of the work put off again");
        }
    }

    /// Offers the batch until it is taken; `None` when stopped.
    async fn hand_over(&mut self, batch: &Batch) -> Option<Consumed> {
        loop {
            match self.consumer.consume(batch).await {
                Ok(consumed) => {
                    self.backoff.reset();
                    return Some(consumed);
                }
                Err(error) => {
                    tracing::warn!(
                        topic = self.log.topic, group = self.group, first = batch.records[0].offset, %error,
                        "batch not taken, it comes again"
                    );
                    if !self.backoff.pause(self.stop).await {
                        return None;
                    }
                }
            }
        }
    }
}
