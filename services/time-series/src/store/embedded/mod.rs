//! The embedded engine: one SQLite file (docs/decisions, "history engine").
//!
//! ```text
//! append ─► writer: one transaction ─► log row + new types, attributes, series + stream position
//!                        └─ then ─► heads in memory (encoded) ─► full, or over budget ─► chunks, log cut
//! query  ─► snapshot: heads + chunks of one epoch ─► merge in order of time, or sums from chunk stats
//! start  ─► catalogue, then the log replayed into heads
//! ```
//!
//! Invariants
//! - A row is in the log or in a chunk, never in both for a reader: `series.sealed_batch` says which.
//! - Rows of one instant keep their order of arrival: chunk ids grow with it, and a head is younger than any chunk.
//! - Only the writer changes the file and the catalogue; a reader that meets a change in between starts again.

mod aggregate;
mod answer;
mod block;
mod catalog;
mod chunk;
mod codec;
mod head;
mod live;
mod load;
mod log;
mod read;
mod remove;
mod rows;
mod schema;
mod seal;
mod sources;
mod stage;
mod stats;
mod writer;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use scope::{QueryScope, Tenant};
use serde::{Deserialize, Serialize};
use service_kit::Tasks;
use store::{StoreError, open_sqlite, position};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::{
    live::Shared,
    remove::Removal,
    writer::{Job, Reply, Writer},
};
use super::{Appended, HistoryStore, again};
use crate::{
    metrics::Metrics,
    query::{Deletion, EntitySummary, Query, Selection, TypeRows, Window, fold},
    row::{Position, Row},
};

/// How much the engine holds back before it seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Memory of heads, in bytes.
    pub head_bytes: usize,
    /// Size of the log, in bytes: what a restart replays.
    pub log_bytes: usize,
    /// Rows of one chunk.
    pub chunk_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { head_bytes: 64 << 20, log_bytes: 128 << 20, chunk_rows: CHUNK_ROWS }
    }
}

const CHUNK_ROWS: usize = 1024;

/// Jobs that wait for the writer; beyond it callers wait.
const QUEUE: usize = 1024;

pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// Gone once the store is closed: then the writer ends.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Cancelled when the writer has ended and the file is closed.
    ended: CancellationToken,
}

impl EmbeddedStore {
    /// Opens the file, replays its log and starts the writer.
    pub async fn open(
        file: &Path,
        options: Options,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, StoreError> {
        let pools = open_sqlite(file, schema::COMPONENT, schema::MIGRATIONS).await?;
        let mut connection = pools.writer.acquire().await?;
        let loaded = load::load(&mut connection).await;
        drop(connection);
        let (live, tail) = loaded.map_err(|error| match error {
            StoreError::Corrupt { reason, .. } => {
                StoreError::Corrupt { file: file.display().to_string(), reason }
            }
            other => other,
        })?;
        metrics.series.set(i64::try_from(live.catalog.series.len()).unwrap_or(i64::MAX));
        metrics.head_bytes.set(i64::try_from(live.head_bytes).unwrap_or(i64::MAX));
        let shared = Arc::new(Shared { live: RwLock::new(live), pools, file: file.to_owned(), metrics });
        let (sender, jobs) = mpsc::channel(QUEUE);
        let (full, stop, ended) = (BTreeSet::new(), tasks.stop_token(), CancellationToken::new());
        let writer = Writer { shared: shared.clone(), options, tail, full, jobs, stop };
        let end = ended.clone().drop_guard();
        let runtime = tokio::runtime::Handle::current();
        // Casting, encoding and compressing are CPU work: the writer has a thread of its own.
        let thread = tokio::task::spawn_blocking(move || {
            runtime.block_on(writer.run());
            drop(end);
        });
        tasks.spawn("time-series writer", thread);
        Ok(Arc::new(Self { shared, jobs: Mutex::new(Some(sender)), ended }))
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let stopping = || StoreError::Unavailable("the history is closing".into());
        let jobs = self.jobs.lock().clone().ok_or_else(stopping)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(job(reply)).await.map_err(|_| stopping())?;
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(again(&error)),
            Err(_) => Err(StoreError::Unavailable("the outcome of the write is not known".into())),
        }
    }

    /// Turns all heads into chunks.
    pub async fn seal(&self) -> Result<(), StoreError> {
        self.ask(|reply| Job::Seal { reply }).await
    }
}

#[async_trait]
impl HistoryStore for EmbeddedStore {
    async fn append(&self, rows: Vec<Row>, position: Option<Position>) -> Result<Appended, StoreError> {
        self.ask(|reply| Job::Append { rows, position, reply }).await
    }

    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut connection = self.shared.pools.reader.acquire().await?;
        position::load_sqlite(&mut connection, topic, partition).await
    }

    async fn query(&self, query: &Query) -> Result<Vec<TypeRows>, StoreError> {
        read::off_worker(read::query(self.shared.clone(), query.clone())).await
    }

    async fn entities(
        &self,
        selection: &Selection,
        window: Window,
    ) -> Result<Vec<EntitySummary>, StoreError> {
        read::off_worker(read::entities(self.shared.clone(), selection.clone(), window)).await
    }

    async fn types_of(&self, scope: &QueryScope, id: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.shared.live.read().catalog.types_of(scope, id))
    }

    async fn delete(&self, deletion: &Deletion) -> Result<u64, StoreError> {
        let removal = Removal::Rows(deletion.clone());
        self.ask(|reply| Job::Remove { removal, reply }).await
    }

    async fn drop_type(&self, tenant: &Tenant, entity_type: &str) -> Result<(), StoreError> {
        let removal = Removal::DropType { tenant: tenant.clone(), folded: fold(entity_type) };
        self.ask(|reply| Job::Remove { removal, reply }).await.map(drop)
    }

    async fn expire(
        &self,
        tenant: &Tenant,
        only: Option<&str>,
        keep: &[String],
        before_us: i64,
    ) -> Result<u64, StoreError> {
        let removal = Removal::Expired {
            tenant: tenant.clone(),
            only: only.map(fold),
            keep: keep.iter().map(|name| fold(name)).collect(),
            before_us,
        };
        self.ask(|reply| Job::Remove { removal, reply }).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        Ok(self.shared.live.read().catalog.tenants())
    }

    async fn check(&self) -> Result<(), StoreError> {
        let mut connection = self.shared.pools.reader.acquire().await?;
        sqlx::query("SELECT epoch FROM history_state").fetch_one(&mut *connection).await?;
        match *self.jobs.lock() {
            Some(ref jobs) if !jobs.is_closed() => Ok(()),
            _ => Err(StoreError::Unavailable("the writer has ended".into())),
        }
    }

    async fn close(&self) {
        drop(self.jobs.lock().take());
        self.ended.cancelled().await;
    }
}
