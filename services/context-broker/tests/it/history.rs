//! Subscriptions to the mesh's own time series.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer};
use prost::Message;
use proto::v1::HistoryRecord;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::started::{Broker, DEADLINE};

/// Reads the topic from its start and forgets where it was.
struct Collector(mpsc::Sender<HistoryRecord>);

#[async_trait]
impl Consumer for Collector {
    async fn position(&self, _: &str, _: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(None)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        for record in &batch.records {
            self.0.send(HistoryRecord::decode(record.payload.clone()).unwrap()).await.unwrap();
        }
        Ok(Consumed::Stored)
    }
}

/// The first `count` records of the topic, and more if there are more.
#[allow(clippy::disallowed_methods, reason = "a reader of the test, ended with it")]
async fn records(broker: &Broker, count: usize) -> Vec<HistoryRecord> {
    let (sender, mut received) = mpsc::channel(100_000);
    let (bus, stop) = (broker.bus.clone(), CancellationToken::new());
    let reading = stop.clone();
    let reader =
        tokio::spawn(
            async move { bus.consume(bus::HISTORY, "test", Arc::new(Collector(sender)), reading).await },
        );
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(DEADLINE, received.recv()).await;
        found.push(next.expect("a record in time").unwrap());
    }
    stop.cancel();
    reader.await.unwrap().unwrap();
    while let Ok(more) = received.try_recv() {
        found.push(more);
    }
    found
}

fn subscription(attrs: Value) -> Value {
    json!({
        "subject": {"entities": [{"idPattern": ".*"}], "condition": {"attrs": []}},
        "notification": {"http": {"url": "http://quantumleap:8668/v2/notify"}, "attrs": attrs},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_into_the_history_once_with_all_that_any_subscription_selects() {
    let broker = Broker::start().await;
    let first = broker.subscribe(subscription(json!(["a"]))).await;
    let second = broker.subscribe(subscription(json!(["b", "dateModified"]))).await;
    broker.write("e", json!({"a": {"value": 1}, "b": {"value": 2}, "c": {"value": 3}})).await;
    let records = records(&broker, 1).await;
    assert_eq!(records.len(), 1);
    let attributes: Value = serde_json::from_slice(&records[0].attributes).unwrap();
    assert_eq!(attributes["a"]["value"], json!(1));
    assert_eq!(attributes["b"]["value"], json!(2));
    assert!(attributes["dateModified"]["value"].is_string());
    assert!(attributes.get("c").is_none());
    assert_eq!((records[0].tenant.as_str(), records[0].service_path.as_str()), ("factory", "/hall"));
    for id in [first, second] {
        let view = broker.subscription(&id).await;
        assert_eq!((view.counters.times_sent, view.counters.last_success_code), (1, Some(200)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_in_the_history_exactly_once_over_restarts() {
    const ROUNDS: i64 = 4;
    const WRITES: i64 = 50;
    let mut broker = Broker::start().await;
    let id = broker.subscribe(subscription(json!([]))).await;
    let mut versions = Vec::new();
    for round in 0..ROUNDS {
        for value in 0..WRITES {
            versions.push(broker.write("e", json!({"n": {"value": round * WRITES + value}})).await);
        }
        // Stopped wherever the notifier is.
        broker = broker.restart().await;
    }
    broker.until(&id, |view| view.counters.times_sent == u64::try_from(ROUNDS * WRITES).unwrap()).await;
    let found: Vec<i64> = records(&broker, versions.len()).await.iter().map(|one| one.version).collect();
    assert_eq!(found, versions);
}
