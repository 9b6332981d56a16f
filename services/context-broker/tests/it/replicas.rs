//! Two replicas over PostgreSQL and Kafka. The one test here that reads topic `context.changes` of the tests' Kafka: a
//! second one beside it would join the same consumer group.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bus::{Bus, KafkaBus, KafkaConfig};
use context_broker::{
    Config, Core, Deps, HistoryConfig, Started, start, subscription::SubscriptionId, update::Operation,
};
use ngsi::{
    EntityUpdate, UpdateAction,
    parse::{BodyFormat, attributes},
    subscription::Subscription,
};
use scope::{PathPattern, Scope, ServicePath, Tenant};
use serde_json::json;
use service_kit::{Readiness, RequestContext, SystemClock, metrics::Metrics};
use soft_state::MemorySoftState;
use store::{PostgresConfig, StoreConfig, testing};

use crate::{receiver::Receiver, started::DEADLINE};

const WRITES: i64 = 200;
const ENTITIES: i64 = 4;

async fn replica(brokers: &str, url: &str, schema: &str) -> Started {
    let config = Config {
        host: IpAddr::from([127, 0, 0, 1]),
        port: 0,
        grpc_port: 0,
        store: StoreConfig::Postgres(PostgresConfig::new(url)),
        postgres_schema: schema.to_owned(),
        history: HistoryConfig { enabled: true, hosts: vec!["quantumleap".to_owned()] },
        ..Config::default()
    };
    let kafka = KafkaConfig { brokers: brokers.to_owned(), ..KafkaConfig::default() };
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(kafka).unwrap());
    let deps = Deps {
        bus,
        soft_state: Arc::new(MemorySoftState::default()),
        clock: Arc::new(SystemClock),
        readiness: Readiness::new(),
        metrics: Metrics::new(),
    };
    start(config, deps).await.unwrap()
}

async fn subscribe(core: &Core, tenant: &Tenant, url: &str) -> SubscriptionId {
    let body = json!({
        "subject": {"entities": [{"idPattern": ".*"}]},
        "notification": {"http": {"url": url}, "attrsFormat": "keyValues"},
    });
    let subscription = Subscription::parse(body.to_string().as_bytes()).unwrap();
    core.create_subscription(tenant, &PathPattern::parse("/#").unwrap(), &subscription).await.unwrap()
}

async fn write(core: &Core, scope: &Scope, n: i64) {
    let body = json!({"n": {"value": n}}).to_string();
    let attributes = attributes(body.as_bytes(), BodyFormat::Normalized).unwrap();
    let update =
        EntityUpdate { id: format!("e{}", n % ENTITIES), entity_type: Some("T".to_owned()), attributes };
    let cause = RequestContext::background("test");
    let operation = Operation::new(UpdateAction::Append, update);
    core.apply(scope, vec![operation], &cause).await.remove(0).unwrap();
}

/// Every write came once, and those of one entity in order.
async fn got_all(receiver: &Receiver) {
    let mut next: Vec<i64> = (0..ENTITIES).collect();
    for _ in 0..WRITES {
        let n = receiver.next().await.body["data"][0]["n"].as_i64().unwrap();
        let expected = &mut next[usize::try_from(n % ENTITIES).unwrap()];
        assert_eq!(n, *expected);
        *expected += ENTITIES;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_share_the_work_and_tell_each_change_once_and_in_order() {
    let Some(brokers) = testing::server("TEST_KAFKA_BROKERS") else { return };
    let Some(url) = testing::server("TEST_POSTGRES_URL") else { return };
    let schema = testing::fresh_schema("replicas");
    let (a, b) = (replica(&brokers, &url, &schema).await, replica(&brokers, &url, &schema).await);
    let tenant = Tenant::from_header(Some(&schema)).unwrap();
    let scope = Scope::new(tenant.clone(), ServicePath::root());
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let mut subscriptions = vec![subscribe(&b.core, &tenant, "http://quantumleap:8668/v2/notify").await];
    for receiver in &receivers {
        subscriptions.push(subscribe(&a.core, &tenant, &receiver.url).await);
    }
    for n in 0..WRITES {
        write(if n % 2 == 0 { &a.core } else { &b.core }, &scope, n).await;
    }
    for receiver in &receivers {
        got_all(receiver).await;
    }
    let counted = async {
        for id in &subscriptions {
            while b.core.get_subscription(&tenant, id, false).await.unwrap().counters.times_sent
                < WRITES.unsigned_abs()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("every notification is counted");
    for id in &subscriptions {
        let counters = a.core.get_subscription(&tenant, id, false).await.unwrap().counters;
        assert_eq!((counters.times_sent, counters.fails), (WRITES.unsigned_abs(), 0));
    }
    assert!(a.running.stop(DEADLINE).await && b.running.stop(DEADLINE).await);
}
