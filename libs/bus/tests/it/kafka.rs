//! What only a cluster does: members share partitions, relays share shards, dead letters.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use bus::{Bus, KafkaBus, OutboxDb, outbox};
use store::{
    PostgresConfig, open_postgres,
    testing::{fresh_schema, server},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{PRODUCER, records, soon},
    suite::{Kind, Mesh, kafka, read},
};

async fn partitions_of(mesh: &Mesh, group: &str) -> Vec<i32> {
    let notebook = mesh.notebook(group).await;
    sqlx::query_scalar("SELECT DISTINCT part FROM effect ORDER BY part")
        .fetch_all(&notebook.file.reader)
        .await
        .unwrap()
}

#[tokio::test]
async fn two_members_share_the_partitions_and_one_takes_over() {
    let Some(mesh) = Mesh::start(Kind::KafkaPostgres).await else { return };
    // One store for both, as two replicas of a service have it.
    let notebook = mesh.notebook("shared").await;
    let other: Arc<dyn Bus> = Arc::new(KafkaBus::new(kafka(server("TEST_KAFKA_BROKERS").unwrap())).unwrap());
    let (one, two) = (mesh.read("g", &notebook), read(&other, &mesh.topic, "g", &notebook));
    let mut sent = 0;
    for _ in 0..20 {
        mesh.append(&records(sent, 50)).await;
        sent += 50;
    }
    notebook.wait_for(sent).await;
    one.stop().await;
    mesh.append(&records(sent, 50)).await;
    sent += 50;
    notebook.wait_for(sent).await;
    let third = mesh.read("g", &notebook);
    two.kill();
    mesh.append(&records(sent, 50)).await;
    sent += 50;
    notebook.wait_for(sent).await;
    let mut seen = notebook.payloads().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..sent).collect::<Vec<_>>(), "each record once, through two rebalances");
    assert_eq!(partitions_of(&mesh, "shared").await, [0, 1, 2]);
    third.stop().await;
}

#[tokio::test]
async fn a_consumer_that_begins_anew_is_shown_what_came_last_before() {
    let Some(mesh) = Mesh::start(Kind::KafkaPostgres).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    // More than the queue of a partition takes.
    mesh.append(&records(0, 2000)).await;
    notebook.wait_for(2000).await;
    reading.stop().await;
    assert!(notebook.recalled().is_empty());
    notebook.recalls.store(300, Ordering::SeqCst);
    let stored = notebook.last_stored(300).await;
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(2000, 100)).await;
    notebook.wait_for(2100).await;
    let mut seen = notebook.payloads().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..2100).collect::<Vec<_>>(), "each is consumed once");
    // A partition without new records may not have come to its turn.
    soon(|| async { notebook.recalled().len() == stored.len() }).await;
    assert_eq!(notebook.recalled(), stored);
    assert_eq!(mesh.bus.counters().lost, 0);
    reading.stop().await;
}

#[tokio::test]
async fn a_slow_partition_holds_up_nobody_and_loses_nothing() {
    let Some(mesh) = Mesh::start(Kind::KafkaPostgres).await else { return };
    let notebook = mesh.notebook("one").await;
    notebook.slow_partition.store(0, Ordering::SeqCst);
    let reading = mesh.read("one", &notebook);
    for first in (0..5000).step_by(500) {
        mesh.append(&records(first, 500)).await;
    }
    let stored = |slow: bool| {
        let notebook = notebook.clone();
        async move {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM effect WHERE (part = 0) = ?")
                .bind(slow)
                .fetch_one(&notebook.file.reader)
                .await
                .unwrap();
            count
        }
    };
    soon(|| async { stored(false).await >= 2000 }).await;
    assert_eq!(stored(true).await, 0, "the slow partition has not got anywhere");
    notebook.slow_partition.store(i32::MAX, Ordering::SeqCst);
    notebook.wait_for(5000).await;
    let mut seen = notebook.payloads().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..5000).collect::<Vec<_>>());
    assert_eq!(mesh.bus.counters().lost, 0);
    reading.stop().await;
}

#[tokio::test]
async fn of_two_relays_on_one_outbox_one_works_and_the_other_takes_over() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let Some(brokers) = server("TEST_KAFKA_BROKERS") else { return };
    let pool =
        open_postgres(&PostgresConfig::new(url), &fresh_schema("relay"), "producer", PRODUCER).await.unwrap();
    let topic = fresh_schema("things");
    let relay = || async {
        let (bus, stop) = (KafkaBus::new(kafka(brokers.clone())).unwrap(), CancellationToken::new());
        let waker = bus.attach(&topic, OutboxDb::Postgres(pool.clone()), stop.clone()).await.unwrap();
        (bus, stop, waker)
    };
    let append = |first: usize| {
        let (pool, topic) = (&pool, &topic);
        async move {
            let mut transaction = pool.begin().await.unwrap();
            outbox::append_postgres(&mut transaction, topic, &records(first, 100)).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
    let left = || async {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM bus_log").fetch_one(&pool).await.unwrap()
    };
    let (one, stop_one, _) = relay().await;
    append(0).await;
    soon(|| async { left().await == 0 }).await;
    let (two, stop_two, _) = relay().await;
    append(100).await;
    soon(|| async { left().await == 0 }).await;
    soon(|| async { one.counters().published == 200 }).await;
    assert_eq!(two.counters().published, 0, "the first holds the lease of every shard");
    stop_one.cancel();
    // The first may have been reading when it was told to stop: it ends with what it has in hand.
    append(200).await;
    soon(|| async { one.counters().published + two.counters().published == 300 }).await;
    append(300).await;
    soon(|| async { left().await == 0 }).await;
    soon(|| async { one.counters().published + two.counters().published == 400 }).await;
    assert!(two.counters().published >= 100, "the second has taken over");
    stop_two.cancel();
}

#[tokio::test]
async fn a_relay_whose_connection_was_cut_goes_on() {
    let Some(mesh) = Mesh::start(Kind::KafkaPostgres).await else { return };
    let admin = sqlx::PgPool::connect(&server("TEST_POSTGRES_URL").unwrap()).await.unwrap();
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    mesh.append(&records(0, 100)).await;
    notebook.wait_for(100).await;
    // Of this mesh's connections, the one that holds the leases.
    let cut: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 \
         AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')",
    )
    .bind(format!("thingmesh-{}", mesh.schema))
    .fetch_one(&admin)
    .await
    .unwrap();
    assert!(cut == 1, "{cut} connections hold a lease");
    mesh.append(&records(100, 100)).await;
    notebook.wait_for(200).await;
    reading.stop().await;
}

#[tokio::test]
async fn a_record_that_can_never_be_published_becomes_a_dead_letter_and_holds_up_nothing() {
    let Some(mesh) = Mesh::start(Kind::KafkaPostgres).await else { return };
    let notebook = mesh.notebook("one").await;
    let reading = mesh.read("one", &notebook);
    let mut batch = records(0, 3);
    batch[1].payload = vec![b'x'; 5 << 20].into();
    mesh.append(&batch).await;
    mesh.append(&records(3, 3)).await;
    notebook.wait_for(5).await;
    let mut seen = notebook.payloads().await;
    seen.sort_unstable();
    assert_eq!(seen, [0, 2, 3, 4, 5]);
    assert_eq!(mesh.bus.counters().dead, 1);
    let buried: (i32, String) = mesh.dead_rows().await;
    assert_eq!(buried.0, 5 << 20);
    assert!(buried.1.contains("Message size too large"), "{}", buried.1);
    reading.stop().await;
}

#[tokio::test]
async fn a_cluster_that_is_away_is_reported_and_nothing_hangs() {
    if store::testing::too_long_for_quick() {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(kafka(format!("127.0.0.1:{port}"))).unwrap());
    let within = Duration::from_secs(8);
    assert!(tokio::time::timeout(within, bus.check()).await.expect("answers in time").is_err());
    assert!(
        tokio::time::timeout(within, bus.publish("t", records(0, 1)))
            .await
            .expect("answers in time")
            .is_err()
    );
    let dir = tempfile::tempdir().unwrap();
    let notebook = Arc::new(crate::fixture::Notebook::open(dir.path(), "one").await);
    let reading = read(&bus, "t", "g", &notebook);
    reading.stop().await;
}
