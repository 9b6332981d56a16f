//! The bus of one process: the outbox table in the producer's SQLite file is the log, or the producer's journal.
//!
//! Consumers read by offset on read-only connections and wait on the writer's [`Waker`]; a slow poll stands behind it.

mod reader;
mod retention;
mod source;

pub use retention::Retention;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Bus, BusCounters, BusError, Consumer, OutboxDb, Outgoing, Waker, outbox};
use retention::Groups;
use source::Source;

#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Records in one batch, at most.
    pub batch_records: usize,
    /// Bytes of keys and payloads in one batch, about (one record more than this may come).
    pub batch_bytes: usize,
    /// How often a consumer looks without being woken.
    pub poll: Duration,
    /// First and longest pause after a failure of a consumer or of the log.
    pub backoff: (Duration, Duration),
    pub retention: Retention,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            batch_records: 500,
            batch_bytes: 4 * 1024 * 1024,
            poll: Duration::from_secs(1),
            backoff: (Duration::from_millis(20), Duration::from_secs(5)),
            retention: Retention::default(),
        }
    }
}

/// One topic's log and who reads it.
struct Log {
    topic: String,
    source: Source,
    waker: Waker,
    groups: Mutex<Groups>,
}

pub struct EmbeddedBus {
    options: EmbeddedOptions,
    logs: watch::Sender<HashMap<String, Arc<Log>>>,
    tasks: TaskTracker,
    /// Records deleted before every group had read them.
    lost: Arc<AtomicU64>,
}

impl EmbeddedBus {
    pub fn new(options: EmbeddedOptions) -> Self {
        Self { options, logs: watch::Sender::default(), tasks: TaskTracker::new(), lost: Arc::default() }
    }

    fn log(&self, topic: &str) -> Option<Arc<Log>> {
        self.logs.borrow().get(topic).cloned()
    }

    /// Waits until `topic` is attached; `None` when `stop` came first.
    async fn attached(&self, topic: &str, stop: &CancellationToken) -> Option<Arc<Log>> {
        let mut logs = self.logs.subscribe();
        tokio::select! {
            found = logs.wait_for(|logs| logs.contains_key(topic)) => {
                found.ok().and_then(|logs| logs.get(topic).cloned())
            }
            () = stop.cancelled() => None,
        }
    }
}

impl Default for EmbeddedBus {
    fn default() -> Self {
        Self::new(EmbeddedOptions::default())
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn attach(
        &self,
        topic: &str,
        outbox: OutboxDb,
        stop: CancellationToken,
    ) -> Result<Waker, BusError> {
        let source = Source::of(outbox)?;
        let groups = Groups::load(source.pools(), topic).await?;
        let waker = Waker::new();
        let log =
            Arc::new(Log { topic: topic.to_owned(), source, waker: waker.clone(), groups: groups.into() });
        self.logs.send_modify(|logs| {
            logs.insert(topic.to_owned(), log.clone());
        });
        let retention = self.options.retention.clone();
        let lost = self.lost.clone();
        self.tasks.spawn(async move { retention::sweep(&log, &retention, &lost, &stop).await });
        Ok(waker)
    }

    async fn publish(&self, topic: &str, records: Vec<Outgoing>) -> Result<(), BusError> {
        let log = self
            .log(topic)
            .ok_or_else(|| BusError::Unavailable(format!("nobody has opened the log of topic {topic}")))?;
        let Source::Table(pools) = &log.source else {
            return Err(BusError::Refused(format!("only its owner appends to the journal of topic {topic}")));
        };
        let mut transaction = pools.begin().await?;
        outbox::append_sqlite(&mut transaction, topic, &records).await?;
        transaction.commit().await.map_err(store::StoreError::from)?;
        log.waker.wake();
        Ok(())
    }

    async fn consume(
        &self,
        topic: &str,
        group: &str,
        consumer: Arc<dyn Consumer>,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        let Some(log) = self.attached(topic, &stop).await else { return Ok(()) };
        reader::Reader::new(&log, group, &*consumer, &self.options, &stop).run().await;
        Ok(())
    }

    async fn lag(&self, topic: &str, group: &str) -> Result<u64, BusError> {
        let Some(log) = self.log(topic) else { return Ok(0) };
        let from = log.groups.lock().position(group).unwrap_or(0);
        Ok(log.source.count_from(topic, from).await?)
    }

    async fn check(&self) -> Result<(), BusError> {
        let logs: Vec<_> = self.logs.borrow().values().cloned().collect();
        for log in logs {
            log.source.next().await?;
        }
        Ok(())
    }

    fn reads_journals(&self) -> bool {
        true
    }

    fn counters(&self) -> BusCounters {
        BusCounters { lost: self.lost.load(Relaxed), ..BusCounters::default() }
    }
}
