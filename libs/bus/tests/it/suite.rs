//! What every bus does, run on the embedded log, and on Kafka fed from PostgreSQL and from SQLite.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bus::{Bus, EmbeddedBus, KafkaBus, KafkaConfig, OutboxDb, Outgoing, Waker, outbox};
use sqlx::PgPool;
use store::{
    PostgresConfig, SqlitePools, open_postgres, position,
    testing::{fresh_schema, server},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Notebook, PRODUCER, SOON, producer_file, records, soon};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Embedded,
    KafkaPostgres,
    KafkaSqlite,
}

enum Outbox {
    Sqlite(SqlitePools),
    Postgres(PgPool),
}

/// One bus with one topic, its outbox, and any number of readers.
pub(crate) struct Mesh {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) topic: String,
    pub(crate) waker: Waker,
    outbox: Outbox,
    pub(crate) schema: String,
    pub(crate) stop: CancellationToken,
}

pub(crate) fn kafka(brokers: String) -> KafkaConfig {
    KafkaConfig { partitions: 3, session_timeout_ms: 6_000, batch_records: 100, ..KafkaConfig::new(brokers) }
}

impl Mesh {
    /// `None` when a server is missing.
    pub(crate) async fn start(kind: Kind) -> Option<Self> {
        let bus: Arc<dyn Bus> = match kind {
            Kind::Embedded => Arc::new(EmbeddedBus::default()),
            _ => Arc::new(KafkaBus::new(kafka(server("TEST_KAFKA_BROKERS")?)).unwrap()),
        };
        let (dir, schema) = (tempfile::tempdir().unwrap(), fresh_schema("bus"));
        let (outbox, db) = match kind {
            Kind::KafkaPostgres => {
                let config = PostgresConfig::new(server("TEST_POSTGRES_URL")?);
                let pool = open_postgres(&config, &schema, "producer", PRODUCER).await.unwrap();
                (Outbox::Postgres(pool.clone()), OutboxDb::Postgres(pool))
            }
            _ => {
                let file = producer_file(dir.path()).await;
                (Outbox::Sqlite(file.clone()), OutboxDb::Sqlite(file))
            }
        };
        let (topic, stop) = (fresh_schema("things"), CancellationToken::new());
        let waker = bus.attach(&topic, db, stop.clone()).await.unwrap();
        Some(Self { dir, bus, topic, waker, outbox, schema, stop })
    }

    pub(crate) async fn append(&self, records: &[Outgoing]) {
        self.transaction(records, true).await;
        self.waker.wake();
    }

    async fn transaction(&self, records: &[Outgoing], commit: bool) {
        match &self.outbox {
            Outbox::Sqlite(file) => {
                let mut transaction = file.begin().await.unwrap();
                outbox::append_sqlite(&mut transaction, &self.topic, records).await.unwrap();
                if commit {
                    transaction.commit().await.unwrap();
                }
            }
            Outbox::Postgres(pool) => {
                let mut transaction = pool.begin().await.unwrap();
                outbox::append_postgres(&mut transaction, &self.topic, records).await.unwrap();
                if commit {
                    transaction.commit().await.unwrap();
                }
            }
        }
    }

    /// Payload length and reason of the only buried record.
    pub(crate) async fn dead_rows(&self) -> (i32, String) {
        let Outbox::Postgres(pool) = &self.outbox else { panic!("not on PostgreSQL") };
        sqlx::query_as("SELECT octet_length(payload), reason FROM bus_dead").fetch_one(pool).await.unwrap()
    }

    pub(crate) async fn notebook(&self, name: &str) -> Arc<Notebook> {
        Arc::new(Notebook::open(self.dir.path(), name).await)
    }

    pub(crate) fn read(&self, group: &str, notebook: &Arc<Notebook>) -> Reading {
        read(&self.bus, &self.topic, group, notebook)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn read(bus: &Arc<dyn Bus>, topic: &str, group: &str, notebook: &Arc<Notebook>) -> Reading {
    let (bus, topic, notebook, stop) =
        (bus.clone(), topic.to_owned(), notebook.clone(), CancellationToken::new());
    let group = format!("{topic}-{group}");
    let token = stop.clone();
    let task = tokio::spawn(async move { bus.consume(&topic, &group, notebook, token).await.unwrap() });
    Reading { stop, task }
}

pub(crate) struct Reading {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reading {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("the reader stops").unwrap();
    }

    /// Ends it as a crash would: without a word to anybody.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

fn sorted(mut payloads: Vec<usize>) -> Vec<usize> {
    payloads.sort_unstable();
    payloads
}

async fn records_of_one_key_keep_their_order_and_come_once(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    for first in (0..1000).step_by(125) {
        mesh.append(&records(first, 125)).await;
    }
    notebook.wait_for(1000).await;
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (key, payload, tenant) in notebook.effects().await {
        assert_eq!(tenant, "factory");
        by_key.entry(key).or_default().push(payload);
    }
    for (key, payloads) in by_key {
        let first: usize = key.trim_start_matches("key").parse().unwrap();
        assert_eq!(payloads, (first..1000).step_by(5).collect::<Vec<_>>(), "{key}");
    }
    reading.stop().await;
}

async fn what_was_rolled_back_never_comes(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    mesh.transaction(&records(0, 10), false).await;
    mesh.append(&records(10, 10)).await;
    notebook.wait_for(10).await;
    assert_eq!(sorted(notebook.payloads().await), (10..20).collect::<Vec<_>>());
    reading.stop().await;
}

async fn a_batch_that_failed_comes_again(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    notebook.failures.store(5, Ordering::SeqCst);
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(0, 100)).await;
    notebook.wait_for(100).await;
    assert_eq!(sorted(notebook.payloads().await), (0..100).collect::<Vec<_>>());
    assert!(notebook.failures.load(Ordering::SeqCst) == 0);
    reading.stop().await;
}

async fn each_group_reads_everything(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let (one, two) = (mesh.notebook("one").await, mesh.notebook("two").await);
    mesh.append(&records(0, 50)).await;
    let readings = [mesh.read("one", &one), mesh.read("two", &two)];
    mesh.append(&records(50, 50)).await;
    for notebook in [&one, &two] {
        notebook.wait_for(100).await;
        assert_eq!(sorted(notebook.payloads().await), (0..100).collect::<Vec<_>>());
    }
    for reading in readings {
        reading.stop().await;
    }
}

async fn a_reader_goes_on_where_its_store_says(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(0, 50)).await;
    notebook.wait_for(50).await;
    reading.stop().await;
    mesh.append(&records(50, 50)).await;
    let reading = mesh.read("one", &notebook);
    notebook.wait_for(100).await;
    assert_eq!(sorted(notebook.payloads().await), (0..100).collect::<Vec<_>>());
    reading.stop().await;
    // The same group with an empty store: the store's word counts, not the group's.
    let empty = mesh.notebook("empty").await;
    let reading = mesh.read("one", &empty);
    empty.wait_for(100).await;
    assert_eq!(sorted(empty.payloads().await), (0..100).collect::<Vec<_>>());
    reading.stop().await;
}

async fn a_position_that_moved_is_taken_over(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(0, 60)).await;
    notebook.wait_for(60).await;
    // Somebody sets one partition back by two records: these, and what follows, are read again.
    let (partition, next): (i32, i64) =
        sqlx::query_as("SELECT part, next FROM consumer_position ORDER BY next DESC LIMIT 1")
            .fetch_one(&notebook.file.reader)
            .await
            .unwrap();
    let mut connection = notebook.file.writer.acquire().await.unwrap();
    let moved = position::advance_sqlite(&mut connection, &mesh.topic, partition, Some(next), next - 2).await;
    assert!(moved.unwrap());
    drop(connection);
    mesh.append(&records(60, 60)).await;
    soon(|| async {
        let seen = notebook.payloads().await;
        (60..120).all(|n| seen.contains(&n))
    })
    .await;
    notebook.wait_for(122).await;
    assert_eq!(notebook.payloads().await.len(), 122, "two records were read again");
    reading.stop().await;
}

async fn the_lag_counts_what_a_group_has_not_read(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let group = format!("{}-one", mesh.topic);
    mesh.append(&records(0, 40)).await;
    soon(|| async { mesh.bus.lag(&mesh.topic, &group).await.is_ok_and(|lag| lag == 40) }).await;
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    notebook.wait_for(40).await;
    soon(|| async { mesh.bus.lag(&mesh.topic, &group).await.is_ok_and(|lag| lag == 0) }).await;
    reading.stop().await;
}

async fn records_published_outside_a_transaction_come_too(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    mesh.bus.publish(&mesh.topic, records(0, 20)).await.unwrap();
    notebook.wait_for(20).await;
    assert_eq!(sorted(notebook.payloads().await), (0..20).collect::<Vec<_>>());
    assert!(mesh.bus.check().await.is_ok());
    reading.stop().await;
}

async fn large_records_come_whole(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    let mut large = records(0, 6);
    for (n, record) in large.iter_mut().enumerate() {
        record.payload = vec![b'0' + n as u8; 1 << 20].into();
    }
    mesh.append(&large).await;
    notebook.wait_for(6).await;
    let longest: i64 = sqlx::query_scalar("SELECT min(length(payload)) FROM effect")
        .fetch_one(&notebook.file.reader)
        .await
        .unwrap();
    assert_eq!(longest, 1 << 20);
    reading.stop().await;
}

async fn a_reader_that_cannot_store_stops_at_once(kind: Kind) {
    let Some(mesh) = Mesh::start(kind).await else { return };
    let notebook = mesh.notebook("one").await;
    notebook.failures.store(u32::MAX, Ordering::SeqCst);
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(0, 10)).await;
    soon(|| async { notebook.calls.load(Ordering::SeqCst) > 0 }).await;
    tokio::time::timeout(Duration::from_secs(5), reading.stop()).await.expect("the reader stops");
    assert!(notebook.payloads().await.is_empty());
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod embedded { $(#[tokio::test] async fn $case() { super::$case(super::Kind::Embedded).await })* }
        mod kafka_postgres { $(#[tokio::test] async fn $case() { super::$case(super::Kind::KafkaPostgres).await })* }
        mod kafka_sqlite { $(#[tokio::test] async fn $case() { super::$case(super::Kind::KafkaSqlite).await })* }
    };
}

suite!(
    records_of_one_key_keep_their_order_and_come_once,
    what_was_rolled_back_never_comes,
    a_batch_that_failed_comes_again,
    each_group_reads_everything,
    a_reader_goes_on_where_its_store_says,
    a_position_that_moved_is_taken_over,
    the_lag_counts_what_a_group_has_not_read,
    records_published_outside_a_transaction_come_too,
    large_records_come_whole,
    a_reader_that_cannot_store_stops_at_once,
);
