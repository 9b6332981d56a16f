//! Faults of a cluster, on librdkafka's own mock: no server is needed.

use std::{sync::Arc, time::Duration};

use bus::{Bus, KafkaBus, KafkaConfig, OutboxDb, outbox};
use rdkafka::mocking::MockCluster;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{Notebook, producer_file, records, soon},
    suite::read,
};

#[tokio::test]
async fn the_relay_catches_up_after_the_cluster_was_away() {
    if store::testing::too_long_for_quick() {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("things", 2, 1).unwrap();
    let config = KafkaConfig { partitions: 2, ..KafkaConfig::new(cluster.bootstrap_servers()) };
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(config).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (file, stop) = (producer_file(dir.path()).await, CancellationToken::new());
    let waker = bus.attach("things", OutboxDb::Sqlite(file.clone()), stop.clone()).await.unwrap();
    let append = |first: usize| {
        let (file, waker) = (&file, &waker);
        async move {
            let mut transaction = file.begin().await.unwrap();
            outbox::append_sqlite(&mut transaction, "things", &records(first, 50)).await.unwrap();
            transaction.commit().await.unwrap();
            waker.wake();
        }
    };
    let notebook = Arc::new(Notebook::open(dir.path(), "one").await);
    let reading = read(&bus, "things", "g", &notebook);
    append(0).await;
    notebook.wait_for(50).await;

    cluster.broker_down(1).unwrap();
    append(50).await;
    append(100).await;
    soon(|| async { bus.check().await.is_err() }).await;
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM bus_log").fetch_one(&file.reader).await.unwrap();
    assert_eq!(waiting, 100, "nothing left the outbox");
    cluster.broker_up(1).unwrap();

    notebook.wait_for(150).await;
    let mut seen = notebook.payloads().await;
    seen.sort_unstable();
    assert_eq!(seen, (0..150).collect::<Vec<_>>(), "an idempotent producer repeats nothing");
    soon(|| async { bus.check().await.is_ok() }).await;
    tokio::time::timeout(Duration::from_secs(15), reading.stop()).await.expect("stops");
    stop.cancel();
}
