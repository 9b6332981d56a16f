//! Two replicas over one PostgreSQL and one Kafka.

use std::{sync::Arc, time::Duration};

use bus::{KafkaBus, KafkaConfig};
use device_agent::Config;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::{PostgresConfig, StoreConfig, testing};

use crate::{
    broker::BrokerServer,
    harness::{Agent, config},
};

const T: (&str, &str) = ("t", "/");

/// A database of its own, so that tests of other services may use the same server.
async fn database(server: &str) -> String {
    let name = testing::fresh_schema("agent_replicas");
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let mut url = url::Url::parse(server).unwrap();
    url.set_path(&name);
    url.to_string()
}

async fn replica(database: &str, kafka: &str, broker: &BrokerServer) -> Agent {
    let mut config = Config { store: StoreConfig::Postgres(PostgresConfig::new(database)), ..config() };
    config.broker.deadline_ms = 500;
    config.cache.shared_ttl_ms = 200;
    let bus =
        KafkaBus::new(KafkaConfig { partitions: 2, session_timeout_ms: 6_000, ..KafkaConfig::new(kafka) })
            .unwrap();
    Agent::start_on(Arc::new(bus), Arc::new(tempfile::TempDir::new().unwrap()), config, broker.neighbour())
        .await
}

async fn servers() -> Option<(String, String)> {
    let (postgres, kafka) = (testing::server("TEST_POSTGRES_URL")?, testing::server("TEST_KAFKA_BROKERS")?);
    Some((database(&postgres).await, kafka))
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_device_that_talks_to_both_replicas_keeps_its_order_over_a_dead_broker() {
    let Some((database, kafka)) = servers().await else { return };
    let mut server = BrokerServer::start().await;
    let replicas = [replica(&database, &kafka, &server).await, replica(&database, &kafka, &server).await];
    replicas[0].group(T, "k", json!({})).await;
    // Unique among runs against the same Kafka, where records of earlier runs may lie.
    let device = testing::fresh_schema("device");
    let send = async |n: u32| {
        let answer = replicas[n as usize % 2].measure("k", &device, &format!("n|{n}")).await;
        assert_eq!(answer.status, 200, "{n}: {}", answer.text);
    };
    for n in 0..4 {
        send(n).await;
    }
    server.kill().await;
    for n in 4..24 {
        send(n).await;
    }
    server.bring_back().await;
    for n in 24..30 {
        send(n).await;
    }
    let entity = format!("Room:{device}");
    eventually("all applied", async || server.broker.history("t", "/", &entity, "n").len() >= 30).await;
    let expected: Vec<Value> = (0..30).map(Value::from).collect();
    assert_eq!(server.broker.history("t", "/", &entity, "n"), expected);
}

#[tokio::test]
async fn a_device_provisioned_at_one_replica_is_not_made_again_by_a_measure_at_the_other() {
    let Some((database, kafka)) = servers().await else { return };
    let server = BrokerServer::start().await;
    let (one, other) = (replica(&database, &kafka, &server).await, replica(&database, &kafka, &server).await);
    one.group(T, "k", json!({})).await;
    eventually("the group is seen", async || other.measure("k", "d", "rubbish").await.status == 400).await;
    // The other replica remembers for a while that there is no such device.
    one.device(T, json!({"device_id": "d", "entity_name": "E"})).await;
    assert_eq!(other.measure("k", "d", "a|1").await.status, 200);
    assert_eq!(server.broker.value("t", "/", "E", "a"), Some(json!(1)));
    let list = one.north("GET", "/iot/devices", T, Value::Null).await.json();
    assert_eq!((&list["count"], &list["devices"][0]["apikey"]), (&json!(1), &json!("k")));
}

#[tokio::test]
async fn a_change_made_at_one_replica_is_seen_by_the_other_within_the_time_to_live() {
    let Some((database, kafka)) = servers().await else { return };
    let server = BrokerServer::start().await;
    let (one, other) = (replica(&database, &kafka, &server).await, replica(&database, &kafka, &server).await);
    assert_eq!(other.measure("k", "d", "a|1").await.status, 404);
    one.group(T, "k", json!({"timestamp": false})).await;
    eventually("the group is seen", async || other.measure("k", "d", "a|1").await.status == 200).await;
    let change = json!({"attributes": [{"object_id": "a", "name": "renamed", "type": "Number"}]});
    assert_eq!(one.north("PUT", "/iot/devices/d", T, change).await.status, 204);
    eventually("the change is seen", async || {
        other.measure("k", "d", "a|2").await;
        server.broker.value("t", "/", "Room:d", "renamed") == Some(json!(2))
    })
    .await;
    assert_eq!(
        one.north("DELETE", "/iot/services?resource=/iot/d&apikey=k", T, Value::Null).await.status,
        204
    );
    eventually("the end is seen", async || other.measure("k", "d", "a|1").await.status == 404).await;
}
