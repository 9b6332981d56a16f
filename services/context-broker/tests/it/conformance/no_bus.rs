//! A bus for brokers whose events nobody reads: an embedded one knows SQLite only, and Kafka is not what is tested.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Bus, BusError, Consumer, EmbeddedBus, OutboxDb, Outgoing, Waker};
use tokio_util::sync::CancellationToken;

/// Wakes an outbox of its own, which stays empty.
pub(crate) struct NoBus {
    bus: EmbeddedBus,
    dir: tempfile::TempDir,
}

impl NoBus {
    pub(crate) fn new() -> Self {
        Self { bus: EmbeddedBus::default(), dir: tempfile::tempdir().unwrap() }
    }
}

#[async_trait]
impl Bus for NoBus {
    async fn attach(&self, topic: &str, _: OutboxDb, stop: CancellationToken) -> Result<Waker, BusError> {
        const EMPTY: &[store::Migration] = &[store::Migration {
            version: 1,
            name: "outbox",
            sqlite: &[bus::outbox::SQLITE_SCHEMA],
            postgres: &[],
        }];
        let file = self.dir.path().join(format!("{topic}.db"));
        let pools = store::open_sqlite(&file, "no_bus", EMPTY).await.unwrap();
        self.bus.attach(topic, OutboxDb::Sqlite(pools), stop).await
    }

    async fn publish(&self, _: &str, _: Vec<Outgoing>) -> Result<(), BusError> {
        Ok(())
    }

    async fn consume(
        &self,
        _: &str,
        _: &str,
        _: Arc<dyn Consumer>,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        stop.cancelled().await;
        Ok(())
    }

    async fn lag(&self, _: &str, _: &str) -> Result<u64, BusError> {
        Ok(0)
    }

    async fn check(&self) -> Result<(), BusError> {
        Ok(())
    }
}
