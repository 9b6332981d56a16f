//! Several replicas on one PostgreSQL.

use serde_json::json;
use time_series::{
    query::{Attributes, Query, Selection, Window},
    row::{Position, Row},
    store::{Appended, HistoryStore},
};

use crate::{
    model::{attribute, row, tree},
    stores::Engine,
};

fn change(version: i64, value: serde_json::Value) -> Row {
    let attributes = vec![attribute("n", if value.is_string() { "Text" } else { "Integer" }, value)];
    Row { attributes, version: Some(version), ..row("t", "/", "Pump", "pump:1", version * 1_000) }
}

async fn values(store: &dyn HistoryStore) -> Vec<time_series::cell::Cell> {
    let query = Query {
        selection: Selection::all(tree("t", "/")),
        attributes: Attributes::All,
        window: Window { limit: 10_000, offset: 0, last_n: None },
        aggregation: None,
    };
    let found = store.query(&query).await.unwrap();
    found.into_iter().flat_map(|rows| rows.entities).flat_map(|entity| entity.columns).flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_read_one_partition_store_each_change_once() {
    let Some(engine) = Engine::postgres() else { return };
    let stores = [engine.open().await, engine.open().await];
    let mut replicas = tokio::task::JoinSet::new();
    for store in stores.clone() {
        // Each believes that the partition is its own, as a zombie does after a rebalance.
        replicas.spawn(async move {
            let mut stored = 0;
            loop {
                let expected = store.position("history", 0).await.unwrap();
                let next = expected.unwrap_or(0) + 10;
                if next > 200 {
                    return stored;
                }
                let rows = (next - 10..next).map(|version| change(version, json!(version))).collect();
                let position = Position { topic: "history".into(), partition: 0, expected, next };
                if let Appended::Stored { rows, .. } = store.append(rows, Some(position)).await.unwrap() {
                    stored += rows;
                }
            }
        });
    }
    let mut stored = 0;
    while let Some(replica) = replicas.join_next().await {
        stored += replica.unwrap();
    }
    assert_eq!(stored, 200);
    let expected: Vec<_> = (0..200).map(time_series::cell::Cell::Int).collect();
    assert_eq!(values(&*stores[0]).await, expected);
}

#[tokio::test]
async fn a_type_dropped_through_one_replica_is_new_to_the_other() {
    let Some(engine) = Engine::postgres() else { return };
    let (one, other) = (engine.open().await, engine.open().await);
    one.append(vec![change(1, json!(1))], None).await.unwrap();
    other.append(vec![change(2, json!(2))], None).await.unwrap();
    one.drop_type(&tree("t", "/").tenant, "Pump").await.unwrap();
    other.append(vec![change(3, json!("text now"))], None).await.unwrap();
    assert_eq!(values(&*one).await, [time_series::cell::Cell::Text("text now".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_meet_new_names_at_the_same_time_agree_on_them() {
    let Some(engine) = Engine::postgres() else { return };
    let mut writers = tokio::task::JoinSet::new();
    for replica in 0..3_i64 {
        let store = engine.open().await;
        writers.spawn(async move {
            for n in 0..30_i64 {
                // In different orders, so that transactions would wait for each other crosswise.
                let order: Vec<i64> =
                    if replica % 2 == 0 { (0..5).collect() } else { (0..5).rev().collect() };
                let rows = order
                    .into_iter()
                    .map(|k| Row {
                        attributes: vec![attribute(&format!("a{}", n * k % 7), "Integer", json!(n))],
                        ..row("t", "/", &format!("T{}", (n + k) % 4), &format!("e{k}"), replica * 100 + n)
                    })
                    .collect();
                store.append(rows, None).await.unwrap();
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let store = engine.open().await;
    let query = Query {
        selection: Selection::all(tree("t", "/")),
        attributes: Attributes::All,
        window: Window { limit: 10_000, offset: 0, last_n: None },
        aggregation: None,
    };
    let found = store.query(&query).await.unwrap();
    let rows: usize = found.iter().flat_map(|rows| &rows.entities).map(|entity| entity.times.len()).sum();
    assert_eq!((found.len(), rows), (4, 3 * 30 * 5));
}
