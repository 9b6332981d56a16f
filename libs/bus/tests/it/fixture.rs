//! A consumer that stores what it reads, and a producer's file.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer, Outgoing, Record, outbox};
use scope::Tenant;
use sqlx::Row;
use store::{Migration, SqlitePools, StoreError, open_sqlite, position};

/// Longest wait for something that should happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const PRODUCER: &[Migration] = &[Migration {
    version: 1,
    name: "outbox",
    sqlite: &[outbox::SQLITE_SCHEMA],
    postgres: &[outbox::POSTGRES_SCHEMA],
}];

const CONSUMER: &[Migration] = &[Migration {
    version: 1,
    name: "effects",
    sqlite: &[
        position::SQLITE_SCHEMA,
        "CREATE TABLE effect (n INTEGER PRIMARY KEY, part INTEGER, at INTEGER, key TEXT, payload TEXT, tenant TEXT)",
    ],
    postgres: &[],
}];

pub(crate) async fn producer_file(dir: &Path) -> SqlitePools {
    open_sqlite(&dir.join("producer.db"), "producer", PRODUCER).await.unwrap()
}

/// `count` records whose payloads are numbered from `first` on, spread over five keys.
pub(crate) fn records(first: usize, count: usize) -> Vec<Outgoing> {
    let tenant = Tenant::canonical("factory").unwrap();
    (first..first + count)
        .map(|n| Outgoing {
            tenant: tenant.clone(),
            key: format!("key{}", n % 5).into_bytes().into(),
            payload: n.to_string().into_bytes().into(),
            headers: vec![("fiware-correlator".into(), format!("c{n}").into())],
        })
        .collect()
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn soon<F: Future<Output = bool>>(condition: impl Fn() -> F) -> impl Future<Output = ()> {
    wait_until(condition, std::panic::Location::caller())
}

async fn wait_until<F: Future<Output = bool>>(condition: impl Fn() -> F, asked: &std::panic::Location<'_>) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(SOON, reached).await.is_ok();
    assert!(in_time, "the condition at {asked} does not hold within {SOON:?}");
}

/// Keeps effects and position in a SQLite file of its own.
pub(crate) struct Notebook {
    pub(crate) file: SqlitePools,
    /// How many of the next calls fail.
    pub(crate) failures: AtomicU32,
    pub(crate) calls: AtomicU32,
    /// A partition whose batches are not taken.
    pub(crate) slow_partition: AtomicI32,
    /// How many stored records it wants to see again.
    pub(crate) recalls: AtomicU32,
    recalled: Mutex<Vec<usize>>,
}

impl Notebook {
    pub(crate) async fn open(dir: &Path, name: &str) -> Self {
        let file = open_sqlite(&dir.join(format!("{name}.db")), "consumer", CONSUMER).await.unwrap();
        Self {
            file,
            failures: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            slow_partition: AtomicI32::new(i32::MAX),
            recalls: AtomicU32::new(0),
            recalled: Mutex::default(),
        }
    }

    /// Payloads that came again, sorted.
    pub(crate) fn recalled(&self) -> Vec<usize> {
        let mut recalled = self.recalled.lock().unwrap().clone();
        recalled.sort_unstable();
        recalled
    }

    /// Payloads of the last records of each partition, sorted.
    pub(crate) async fn last_stored(&self, of_each: i64) -> Vec<usize> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT payload FROM effect AS e WHERE at >= (SELECT max(at) + 1 - ? FROM effect WHERE part = e.part)",
        )
        .bind(of_each)
        .fetch_all(&self.file.reader)
        .await
        .unwrap();
        let mut payloads: Vec<usize> = rows.iter().map(|payload| payload.parse().unwrap()).collect();
        payloads.sort_unstable();
        payloads
    }

    /// Payloads in the order in which they were stored.
    pub(crate) async fn payloads(&self) -> Vec<usize> {
        let rows =
            sqlx::query("SELECT payload FROM effect ORDER BY n").fetch_all(&self.file.reader).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0).parse().unwrap()).collect()
    }

    /// Key, payload and tenant of each effect, in the order in which they were stored.
    pub(crate) async fn effects(&self) -> Vec<(String, usize, String)> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT key, payload, tenant FROM effect ORDER BY n")
                .fetch_all(&self.file.reader)
                .await
                .unwrap();
        rows.into_iter().map(|(key, payload, tenant)| (key, payload.parse().unwrap(), tenant)).collect()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        let stored = async {
            while self.count().await < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(SOON, stored).await.is_err() {
            panic!("only {} of {count} records after {SOON:?}", self.count().await);
        }
    }

    async fn count(&self) -> usize {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM effect").fetch_one(&self.file.reader).await.unwrap();
        usize::try_from(count).unwrap()
    }

    async fn store(&self, batch: &Batch) -> Result<Consumed, StoreError> {
        let mut transaction = self.file.begin().await?;
        let moved = position::advance_sqlite(
            &mut transaction,
            &batch.topic,
            batch.partition,
            batch.expected,
            batch.next,
        );
        if !moved.await? {
            return Ok(Consumed::Moved);
        }
        for record in &batch.records {
            sqlx::query("INSERT INTO effect (part, at, key, payload, tenant) VALUES (?, ?, ?, ?, ?)")
                .bind(batch.partition)
                .bind(record.offset)
                .bind(std::str::from_utf8(&record.key).unwrap())
                .bind(std::str::from_utf8(&record.payload).unwrap())
                .bind(record.header(bus::header::TENANT))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(Consumed::Stored)
    }
}

#[async_trait]
impl Consumer for Notebook {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        let mut reader = self.file.reader.acquire().await.map_err(StoreError::from)?;
        Ok(position::load_sqlite(&mut reader, topic, partition).await?)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fail.is_ok() || self.slow_partition.load(Ordering::SeqCst) == batch.partition {
            return Err(ConsumeError("told to fail".into()));
        }
        Ok(self.store(batch).await?)
    }

    fn recalls(&self) -> u32 {
        self.recalls.load(Ordering::SeqCst)
    }

    fn recall(&self, records: &[Record]) {
        let payloads =
            records.iter().map(|record| std::str::from_utf8(&record.payload).unwrap().parse().unwrap());
        self.recalled.lock().unwrap().extend(payloads.collect::<Vec<usize>>());
    }
}
