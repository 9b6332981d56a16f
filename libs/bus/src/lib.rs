//! The event bus: topics of keyed records, read by consumers that keep their own position.
//!
//! ```text
//! writer's transaction ──► outbox table ──► embedded: the table *is* the log, consumers read it by offset
//! writer's append      ──► journal      ──► embedded: the journal is the log
//!                                      └──► Kafka:    a leased relay publishes and deletes
//! consumer: position() ─► next batch ─► consume(batch): effects + new position in ONE conditional transaction
//! ```
//!
//! Invariants
//! - Records with one key keep their order. A record may come twice; none is lost once its transaction committed.
//! - A consumer owns its position. [`Consumer::consume`] stores effects and position together, and only if the stored
//!   position is still [`Batch::expected`]; so a process that lost its partition changes nothing.
//! - Every outgoing record belongs to a tenant.

mod backoff;
mod embedded;
mod journal;
mod kafka;
pub mod outbox;
mod record;
mod tail;
mod waker;

pub use embedded::{EmbeddedBus, EmbeddedOptions, Retention};
pub use journal::{AppendError, Appender, Appending, Entry, Journal};
pub use kafka::{KafkaBus, KafkaConfig, KafkaSink, SinkCluster, SinkLogin, SinkRecord, SinkTls};
pub use outbox::OutboxDb;
pub use record::{Batch, Header, Outgoing, Record, header};
pub use waker::Waker;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Topic of committed entity changes: [`proto::v1::ContextChange`](../thingmesh_proto), key tenant/path/id/type.
pub const CONTEXT_CHANGES: &str = "context.changes";
/// Topic of changes that go into the history.
pub const HISTORY: &str = "history";
/// Topic of measures that the broker could not take at once.
pub const MEASURES: &str = "measures";

/// Groups whose name begins with this are of the moment: the embedded log keeps nothing for them and forgets them.
pub const OF_THE_MOMENT: &str = "~";

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The log or the Kafka cluster cannot be reached: try again later.
    #[error("bus unavailable: {0}")]
    Unavailable(String),
    /// This record can never be published (too large, no such topic).
    #[error("record refused: {0}")]
    Refused(String),
}

/// What a consumer answers when it cannot take a batch now: the same batch comes again after a pause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConsumeError(pub String);

impl From<store::StoreError> for BusError {
    fn from(error: store::StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<store::StoreError> for ConsumeError {
    fn from(error: store::StoreError) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumed {
    /// Effects and position are stored.
    Stored,
    /// The stored position was not `batch.expected`: nothing was stored; read it again and go on from there.
    Moved,
}

/// A reader of a topic that keeps its position with its effects.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// Offset of the next record to read, as stored; `None` = nothing stored yet, start at the oldest record.
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError>;

    /// Stores the effects of `batch` and its `next` position in one transaction, if the position is still `expected`.
    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError>;

    /// How many records before its position the consumer wants to be shown again whenever it begins to read a partition, so
    /// that it knows, also after a crash, which records are known already when Kafka brings them a second time.
    fn recalls(&self) -> u32 {
        0
    }

    /// Records before the position: their effects are stored. They come in order, before the first batch. The embedded bus,
    /// in which no record comes twice, does not call it.
    fn recall(&self, _records: &[Record]) {}

    /// Nothing is there to be consumed: what was put off may be done now. The embedded bus calls it before the first batch
    /// and whenever nothing came for a while, Kafka does not.
    async fn idle(&self, _topic: &str, _partition: i32) -> Result<(), ConsumeError> {
        Ok(())
    }
}

/// What a bus has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounters {
    /// Records moved to Kafka or appended by [`Bus::publish`].
    pub published: u64,
    /// Records that Kafka can never take: on `<topic>.dead` or in the table `bus_dead`.
    pub dead: u64,
    /// Records that were deleted before a group had read them: retention was shorter than the group's absence.
    pub lost: u64,
    /// How often a relay had to start again.
    pub relay_failures: u64,
}

#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Tells the bus where the records of `topic` are written ([`outbox`]). Embedded: that table is the log. Kafka: a
    /// leased relay moves them to the topic until `stop`. After each commit the writer calls [`Waker::wake`].
    /// A topic has one outbox in an embedded bus, and one per database over Kafka.
    async fn attach(&self, topic: &str, outbox: OutboxDb, stop: CancellationToken)
    -> Result<Waker, BusError>;

    /// Publishes outside any transaction; durable when it returns. (State changes go through the outbox instead.)
    async fn publish(&self, topic: &str, records: Vec<Outgoing>) -> Result<(), BusError>;

    /// Reads `topic` as a member of `group` until `stop`; returns after the batch in hand. Failures inside are retried
    /// with backoff; it only returns early if the topic can never be read.
    async fn consume(
        &self,
        topic: &str,
        group: &str,
        consumer: Arc<dyn Consumer>,
        stop: CancellationToken,
    ) -> Result<(), BusError>;

    /// Records published but not yet consumed by `group`, over all partitions it knows of.
    async fn lag(&self, topic: &str, group: &str) -> Result<u64, BusError>;

    /// Whether the bus can be used now: for readiness.
    async fn check(&self) -> Result<(), BusError>;

    /// Whether [`Bus::attach`] takes [`OutboxDb::Journal`].
    fn reads_journals(&self) -> bool {
        false
    }

    /// For metrics.
    fn counters(&self) -> BusCounters {
        BusCounters::default()
    }
}
