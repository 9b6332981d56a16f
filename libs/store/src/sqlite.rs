use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::{Migration, StoreError, checkpoint, migrate_sqlite};

/// Concurrent reads of one file. SQLite reads are short; more connections only cost memory.
const READERS: u32 = 4;
/// Statements that stay prepared: those for many rows come in as many sizes as a batch may have.
const PREPARED: usize = 400;
/// A writer in this process never waits for another; this covers tools that open the file beside it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reader may wait for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// One database file: one connection that writes, some that only read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqlitePools {
    /// Exactly one connection: whoever holds it is the writer.
    pub writer: SqlitePool,
    /// Read-only connections; each sees the last commit when its statement or transaction begins.
    pub reader: SqlitePool,
    /// The connection of the checkpointer.
    own: SqlitePool,
    /// Tells the checkpointer that something is about to be written.
    commits: Arc<watch::Sender<()>>,
}

impl SqlitePools {
    /// Waits for the writer: until it is given back, nobody else writes.
    pub async fn hold(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.commits.send_replace(());
        Ok(self.writer.acquire().await?)
    }

    /// Waits for the writer and begins a transaction that has the write lock from its start.
    pub async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.commits.send_replace(());
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Ends all connections; the last one folds the WAL into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.own.close().await;
        self.writer.close().await;
    }
}

/// Opens (or makes) the file at `path` and brings `component`'s tables up to date.
pub async fn open_sqlite(
    path: &Path,
    component: &str,
    migrations: &[Migration],
) -> Result<SqlitePools, StoreError> {
    open(path, component, migrations).await.map_err(|error| error.in_file(path))
}

/// After a full disk or an I/O error SQLite has ended the transaction by itself; sqlx's own ROLLBACK then fails and it
/// counts a transaction for ever. Such a connection is replaced. (The ping waits for the rollback.)
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn open(path: &Path, component: &str, migrations: &[Migration]) -> Result<SqlitePools, StoreError> {
    let common = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(PREPARED)
        .pragma("cache_size", "-8192")
        .pragma("temp_store", "MEMORY");
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        // The writer is handed from batch to batch; whoever waits longer than this meets a disk that hangs.
        .acquire_timeout(Duration::from_secs(30))
        .after_release(|connection, _| Box::pin(is_clean(connection)))
        .connect_with(
            common
                .clone()
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("wal_autocheckpoint", checkpoint::AT_LAST)
                .pragma("journal_size_limit", "67108864"),
        )
        .await?;
    migrate_sqlite(&mut *writer.acquire().await?, component, migrations).await?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(0)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(common.clone().read_only(true).row_buffer_size(256))
        .await?;
    let own = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .test_before_acquire(false)
        .connect_lazy_with(common.pragma("wal_autocheckpoint", "0"));
    let (commits, seen) = watch::channel(());
    tokio::spawn(checkpoint::run(own.clone(), writer.clone(), seen));
    Ok(SqlitePools { writer, reader, own, commits: Arc::new(commits) })
}
