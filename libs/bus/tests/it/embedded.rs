//! What is special to the embedded log.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bus::{Bus, EmbeddedBus, EmbeddedOptions, OutboxDb, Retention};
use store::position;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Notebook, SOON, producer_file, records};

const TOPIC: &str = "things";

fn quick(retention: Retention) -> EmbeddedOptions {
    EmbeddedOptions {
        backoff: (Duration::from_millis(1), Duration::from_millis(5)),
        batch_records: 10,
        retention,
        ..EmbeddedOptions::default()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    bus: Arc<EmbeddedBus>,
    stop: CancellationToken,
    readers: Vec<JoinHandle<()>>,
}

impl Bench {
    async fn new(retention: Retention) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, retention).await
    }

    async fn open(dir: tempfile::TempDir, retention: Retention) -> Self {
        let bus = Arc::new(EmbeddedBus::new(quick(retention)));
        let stop = CancellationToken::new();
        let file = producer_file(dir.path()).await;
        bus.attach(TOPIC, OutboxDb::Sqlite(file), stop.clone()).await.unwrap();
        Self { dir, bus, stop, readers: Vec::new() }
    }

    async fn reader(&mut self, group: &'static str) -> Arc<Notebook> {
        let notebook = Arc::new(Notebook::open(self.dir.path(), group).await);
        self.start(group, notebook.clone());
        notebook
    }

    fn start(&mut self, group: &'static str, notebook: Arc<Notebook>) {
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        self.readers
            .push(tokio::spawn(async move { bus.consume(TOPIC, group, notebook, stop).await.unwrap() }));
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        for reader in self.readers {
            tokio::time::timeout(SOON, reader).await.expect("reader stops").unwrap();
        }
        self.dir
    }

    async fn rows(&self) -> i64 {
        let file = producer_file(self.dir.path()).await;
        sqlx::query_scalar("SELECT count(*) FROM bus_log").fetch_one(&file.reader).await.unwrap()
    }

    async fn wait_for_rows(&self, wanted: i64) {
        let reached = async {
            while self.rows().await != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(SOON, reached).await.is_err() {
            panic!("{} rows are left, not {wanted}", self.rows().await);
        }
    }
}

#[tokio::test]
async fn two_groups_each_read_everything_in_order() {
    let mut bench = Bench::new(Retention::default()).await;
    let (one, two) = (bench.reader("one").await, bench.reader("two").await);
    for first in (0..300).step_by(100) {
        bench.bus.publish(TOPIC, records(first, 100)).await.unwrap();
    }
    one.wait_for(300).await;
    two.wait_for(300).await;
    let expected: Vec<usize> = (0..300).collect();
    assert_eq!(one.payloads().await, expected);
    assert_eq!(two.payloads().await, expected);
    assert_eq!(bench.bus.lag(TOPIC, "one").await.unwrap(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn a_batch_that_failed_comes_again_and_nothing_is_doubled() {
    let mut bench = Bench::new(Retention::default()).await;
    let notebook = Arc::new(Notebook::open(bench.dir.path(), "one").await);
    notebook.failures.store(3, Ordering::SeqCst);
    bench.start("one", notebook.clone());
    bench.bus.publish(TOPIC, records(0, 25)).await.unwrap();
    notebook.wait_for(25).await;
    assert_eq!(notebook.payloads().await, (0..25).collect::<Vec<_>>());
    assert_eq!(
        notebook.calls.load(Ordering::SeqCst),
        3 + 3,
        "three failures, then three batches of at most ten"
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_reader_goes_on_after_a_restart_where_it_stopped() {
    let mut bench = Bench::new(Retention::default()).await;
    let notebook = bench.reader("one").await;
    bench.bus.publish(TOPIC, records(0, 30)).await.unwrap();
    notebook.wait_for(30).await;
    let dir = bench.stop().await;

    let mut bench = Bench::open(dir, Retention::default()).await;
    bench.bus.publish(TOPIC, records(30, 30)).await.unwrap();
    assert_eq!(bench.bus.lag(TOPIC, "new").await.unwrap(), 60);
    let notebook = bench.reader("one").await;
    notebook.wait_for(60).await;
    assert_eq!(notebook.payloads().await, (0..60).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn a_position_that_moved_under_the_reader_is_taken_over() {
    let mut bench = Bench::new(Retention::default()).await;
    let notebook = bench.reader("one").await;
    bench.bus.publish(TOPIC, records(0, 10)).await.unwrap();
    notebook.wait_for(10).await;
    // Another process was faster: it stored the effects of records 10 to 19.
    let mut transaction = notebook.file.begin().await.unwrap();
    assert!(position::advance_sqlite(&mut transaction, TOPIC, 0, Some(11), 21).await.unwrap());
    transaction.commit().await.unwrap();
    bench.bus.publish(TOPIC, records(10, 20)).await.unwrap();
    notebook.wait_for(20).await;
    assert_eq!(notebook.payloads().await, (0..10).chain(20..30).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn read_records_are_deleted_when_their_time_is_over_and_unread_ones_wait() {
    let short = Retention { keep_ms: 0, every_ms: 10, ..Retention::default() };
    let mut bench = Bench::new(short).await;
    let quick = bench.reader("quick").await;
    let slow = Arc::new(Notebook::open(bench.dir.path(), "slow").await);
    slow.failures.store(u32::MAX, Ordering::SeqCst);
    bench.start("slow", slow.clone());
    bench.bus.publish(TOPIC, records(0, 50)).await.unwrap();
    quick.wait_for(50).await;
    assert_eq!(bench.rows().await, 50, "the slow group has read nothing");
    slow.failures.store(0, Ordering::SeqCst);
    slow.wait_for(50).await;
    bench.wait_for_rows(0).await;
    // Offsets go on after the log was emptied.
    bench.bus.publish(TOPIC, records(50, 10)).await.unwrap();
    slow.wait_for(60).await;
    assert_eq!(slow.payloads().await, (0..60).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn records_wait_for_a_group_that_was_known_before_the_restart() {
    let short = Retention { keep_ms: 0, every_ms: 10, ..Retention::default() };
    let mut bench = Bench::new(short.clone()).await;
    let (one, two) = (bench.reader("one").await, bench.reader("two").await);
    bench.bus.publish(TOPIC, records(0, 10)).await.unwrap();
    one.wait_for(10).await;
    two.wait_for(10).await;
    bench.wait_for_rows(0).await;
    let dir = bench.stop().await;

    let mut bench = Bench::open(dir, short).await;
    let one = bench.reader("one").await;
    bench.bus.publish(TOPIC, records(10, 10)).await.unwrap();
    one.wait_for(20).await;
    let two = bench.reader("two").await;
    two.wait_for(20).await;
    assert_eq!(two.payloads().await, (0..20).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test]
async fn beyond_the_hard_limit_the_oldest_records_go_and_are_counted() {
    let tiny = Retention { hard_bytes: 4_000, every_ms: 10, ..Retention::default() };
    let mut bench = Bench::new(tiny).await;
    let stuck = Arc::new(Notebook::open(bench.dir.path(), "stuck").await);
    stuck.failures.store(u32::MAX, Ordering::SeqCst);
    bench.start("stuck", stuck);
    bench.bus.publish(TOPIC, records(0, 500)).await.unwrap();
    let bounded = async {
        while bench.bus.counters().lost == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, bounded).await.expect("the oldest records go");
    let left = bench.rows().await;
    assert!((10..100).contains(&left), "{left} rows are left");
    bench.stop().await;
}

#[tokio::test]
async fn another_topic_in_the_same_file_does_not_push_unread_records_out() {
    if store::testing::too_long_for_quick() {
        return;
    }
    let tiny =
        Retention { hard_bytes: 100_000, soft_bytes: 0, keep_ms: 0, every_ms: 5, ..Retention::default() };
    let mut bench = Bench::new(tiny).await;
    let stuck = Arc::new(Notebook::open(bench.dir.path(), "stuck").await);
    stuck.failures.store(u32::MAX, Ordering::SeqCst);
    bench.start("stuck", stuck.clone());
    bench.bus.publish(TOPIC, records(0, 10)).await.unwrap();
    let file = producer_file(bench.dir.path()).await;
    bench.bus.attach("busy", OutboxDb::Sqlite(file), bench.stop.clone()).await.unwrap();
    let busy = Arc::new(Notebook::open(bench.dir.path(), "busy").await);
    let (bus, stop, reader) = (bench.bus.clone(), bench.stop.clone(), busy.clone());
    bench.readers.push(tokio::spawn(async move { bus.consume("busy", "busy", reader, stop).await.unwrap() }));
    for first in (0..3000).step_by(200) {
        bench.bus.publish("busy", records(first, 200)).await.unwrap();
        busy.wait_for(first + 200).await;
    }
    bench.wait_for_rows(10).await;
    assert_eq!(bench.bus.counters().lost, 0);
    stuck.failures.store(0, Ordering::SeqCst);
    stuck.wait_for(10).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_log_that_was_replaced_is_read_from_its_start() {
    let mut bench = Bench::new(Retention::default()).await;
    let notebook = bench.reader("one").await;
    bench.bus.publish(TOPIC, records(0, 30)).await.unwrap();
    notebook.wait_for(30).await;
    let dir = bench.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(dir.path().join(format!("producer.db{suffix}"))).ok();
    }
    let mut bench = Bench::open(dir, Retention::default()).await;
    let notebook = bench.reader("one").await;
    bench.bus.publish(TOPIC, records(30, 5)).await.unwrap();
    notebook.wait_for(35).await;
    assert_eq!(notebook.payloads().await, (0..35).collect::<Vec<_>>());
    bench.stop().await;
}
