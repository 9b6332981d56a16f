//! Where the records of a log are: a table of the producer's file, or a journal beside it.

use store::{SqlitePools, StoreError};

use crate::{BusError, Journal, OutboxDb, Record, outbox};

#[derive(Clone)]
pub(super) enum Source {
    Table(SqlitePools),
    /// The file keeps the groups that read it.
    Journal(Journal, SqlitePools),
}

impl Source {
    pub(super) fn of(outbox: OutboxDb) -> Result<Self, BusError> {
        match outbox {
            OutboxDb::Sqlite(pools) => Ok(Self::Table(pools)),
            OutboxDb::Journal(journal, pools) => Ok(Self::Journal(journal, pools)),
            // Sequence numbers of PostgreSQL become visible out of order, so they cannot serve as offsets.
            OutboxDb::Postgres(_) => Err(BusError::Refused(
                "the embedded bus reads logs of its own process only; use Kafka".into(),
            )),
        }
    }

    /// The producer's file.
    pub(super) fn pools(&self) -> &SqlitePools {
        match self {
            Self::Table(pools) | Self::Journal(_, pools) => pools,
        }
    }

    /// Records of `topic` from offset `from` on: at most `max_records`, and no more after `max_bytes`.
    pub(super) async fn read(
        &self,
        topic: &str,
        from: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, StoreError> {
        match self {
            Self::Table(pools) => outbox::read_from(&pools.reader, topic, from, max_records, max_bytes).await,
            Self::Journal(journal, _) => {
                let journal = journal.clone();
                let entries = aside(move || journal.read(from, max_records, max_bytes)).await?;
                Ok(entries.into_iter().map(crate::journal::Entry::into_record).collect())
            }
        }
    }

    /// Offset of the next record.
    pub(super) async fn next(&self) -> Result<i64, StoreError> {
        match self {
            Self::Table(pools) => Ok(outbox::bounds(&pools.reader).await?.next),
            Self::Journal(journal, _) => Ok(journal.next()),
        }
    }

    /// Records of `topic` from offset `from` on.
    pub(super) async fn count_from(&self, topic: &str, from: i64) -> Result<u64, StoreError> {
        match self {
            Self::Table(pools) => outbox::count_from(&pools.reader, topic, from).await,
            Self::Journal(journal, _) => {
                Ok(u64::try_from(journal.next() - from.max(journal.first())).unwrap_or(0))
            }
        }
    }
}

/// Off the runtime's workers.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Internal(error.to_string()))?
}
