use std::{
    cmp::Ordering as Order,
    ops::{Deref, DerefMut},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::watch, time::Instant};

use crate::{Migration, StoreError, checkpoint, migrate_sqlite};

/// Concurrent reads of one file. SQLite reads are short; more connections only cost memory.
const READERS: u32 = 4;
/// Of those, for what reads much at once.
const SCANNERS: u32 = 2;
/// Steps of SQLite's machine between two looks at the clock: a fraction of a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 20_000;
/// Statements that stay prepared: those for many rows come in as many sizes as a batch may have.
const PREPARED: usize = 400;
/// The same for those that read.
const PREPARED_TO_READ: usize = 128;
/// Bytes that SQLite takes in this process, for all files and connections: beyond it the pages that were used longest ago make
/// room. Without it any one connection that reads much may fill what the caches of all of them add up to. What a statement
/// needs, such as the rows that it sorts, it gets all the same.
const HEAP: &str = "50331648";
/// A writer in this process never waits for another; this covers tools that open the file beside it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a reader may wait for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for what may take long.
const SCANNER_TIMEOUT: Duration = Duration::from_secs(30);
/// Such a connection that nobody needs for so long is closed: its cache is memory.
const SCANNER_IDLE: Duration = Duration::from_secs(60);

/// One database file: one connection that writes, some that only read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqlitePools {
    /// Exactly one connection: whoever holds it is the writer.
    pub writer: SqlitePool,
    /// Read-only connections; each sees the last commit when its statement or transaction begins.
    pub reader: SqlitePool,
    /// As `reader`, for what may take long: what is quick never waits for it.
    scanner: SqlitePool,
    /// The connection of the checkpointer.
    own: SqlitePool,
    /// Tells the checkpointer that something is about to be written.
    commits: Arc<watch::Sender<()>>,
}

/// A connection that reads much. A statement that is still running when this is dropped, or when its time is over, ends by
/// itself.
#[derive(Debug)]
pub struct Scan {
    connection: PoolConnection<Sqlite>,
    dropped: Arc<AtomicBool>,
}

impl Deref for Scan {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Scan {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
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

    /// Waits for a connection whose statements may read until `until`; None: as long as it takes.
    pub async fn scan(&self, until: Option<Instant>) -> Result<Scan, StoreError> {
        let mut connection = self.scanner.acquire().await?;
        let dropped = Arc::new(AtomicBool::new(false));
        let seen = dropped.clone();
        // Takes the place of that of whoever had the connection before.
        connection.lock_handle().await?.set_progress_handler(STEPS_BETWEEN_LOOKS, move || {
            !seen.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until)
        });
        Ok(Scan { connection, dropped })
    }

    /// Ends all connections; the last one folds the WAL into the file.
    pub async fn close(&self) {
        self.scanner.close().await;
        self.reader.close().await;
        self.own.close().await;
        self.writer.close().await;
    }
}

/// An order of texts that statements of [`SqlitePools::scan`] can name: `ORDER BY x COLLATE name`. It must be a total one.
#[derive(Clone, Copy, Debug)]
pub struct Collation {
    pub name: &'static str,
    pub compare: fn(&str, &str) -> Order,
}

/// Opens (or makes) the file at `path` and brings `component`'s tables up to date.
pub async fn open_sqlite(
    path: &Path,
    component: &str,
    migrations: &[Migration],
) -> Result<SqlitePools, StoreError> {
    open(path, component, migrations, &[]).await.map_err(|error| error.in_file(path))
}

/// The same, with orders of its own.
pub async fn open_sqlite_with(
    path: &Path,
    component: &str,
    migrations: &[Migration],
    collations: &[Collation],
) -> Result<SqlitePools, StoreError> {
    open(path, component, migrations, collations).await.map_err(|error| error.in_file(path))
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

async fn open(
    path: &Path,
    component: &str,
    migrations: &[Migration],
    collations: &[Collation],
) -> Result<SqlitePools, StoreError> {
    let common = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(PREPARED)
        .pragma("cache_size", "-8192")
        .pragma("temp_store", "MEMORY")
        .pragma("soft_heap_limit", HEAP);
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
    let reading = common
        .clone()
        .read_only(true)
        .row_buffer_size(256)
        .statement_cache_capacity(PREPARED_TO_READ)
        .pragma("cache_size", "-4096");
    let readers = |connections, acquire_timeout, idle_timeout| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(0)
            .test_before_acquire(false)
            .idle_timeout(idle_timeout)
            .max_lifetime(None)
            .acquire_timeout(acquire_timeout)
    };
    let reader = readers(READERS, ACQUIRE_TIMEOUT, None).connect_with(reading.clone()).await?;
    let scanning =
        collations.iter().fold(reading, |options, order| options.collation(order.name, order.compare));
    let scanner = readers(SCANNERS, SCANNER_TIMEOUT, Some(SCANNER_IDLE)).connect_lazy_with(scanning);
    let own = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .test_before_acquire(false)
        .connect_lazy_with(common.pragma("wal_autocheckpoint", "0"));
    let (commits, seen) = watch::channel(());
    tokio::spawn(checkpoint::run(own.clone(), writer.clone(), seen));
    Ok(SqlitePools { writer, reader, scanner, own, commits: Arc::new(commits) })
}
