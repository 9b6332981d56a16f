//! Decision 13 with the real broker: measures sent while it is dead are kept, and applied once and in order.

#![allow(clippy::unwrap_used, reason = "a test binary")]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Batch, Bus, CONTEXT_CHANGES, ConsumeError, Consumed, Consumer, EmbeddedBus};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;
use proto::v1::ContextChange;
use serde_json::{Value, json};
use service_kit::{Readiness, Running, SystemClock, grpc, metrics::Metrics};
use soft_state::MemorySoftState;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A broker in a runtime of its own, whose end ends everything it does.
struct Broker {
    runtime: Runtime,
    bus: Arc<EmbeddedBus>,
    grpc: SocketAddr,
}

impl Broker {
    async fn start(data_dir: &Path, grpc_port: u16) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bus = Arc::new(EmbeddedBus::default());
        let deps = context_broker::Deps {
            bus: bus.clone(),
            soft_state: Arc::new(MemorySoftState::default()),
            clock: Arc::new(SystemClock),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
        };
        let config = context_broker::Config {
            port: 0,
            grpc_port,
            data_dir: data_dir.to_owned(),
            ..context_broker::Config::default()
        };
        let start = move || {
            let started = runtime.block_on(context_broker::start(config, deps)).unwrap();
            (runtime, started)
        };
        let (runtime, started) = tokio::task::spawn_blocking(start).await.unwrap();
        let grpc = started.running.addresses()["grpc"];
        Self { runtime, bus, grpc }
    }

    async fn kill(self) {
        tokio::task::spawn_blocking(move || self.runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
    }
}

async fn start_agent(data_dir: &Path, broker: SocketAddr) -> (Running, Metrics) {
    let metrics = Metrics::new();
    let mut config = device_agent::Config {
        north_port: 0,
        south_port: 0,
        grpc_port: 0,
        data_dir: data_dir.to_owned(),
        ..device_agent::Config::default()
    };
    config.broker.deadline_ms = 500;
    let deps = device_agent::Deps {
        bus: Arc::new(EmbeddedBus::default()),
        soft_state: Arc::new(MemorySoftState::default()),
        clock: Arc::new(SystemClock),
        broker: grpc::remote(&format!("http://{broker}")).unwrap(),
        readiness: Readiness::new(),
        metrics: metrics.clone(),
    };
    (device_agent::start(config, deps).await.unwrap(), metrics)
}

/// How many measures the agent has put on the bus.
fn diverted(metrics: &Metrics) -> u32 {
    let text = metrics.encode();
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("thingmesh_device_agent_measures_total{outcome=\"diverted\"} "));
    count.map_or(0, |count| count.parse().unwrap())
}

async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: String) -> u16 {
    let mut request = http::Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let sent = client.request(request.body(Full::new(Bytes::from(body))).unwrap());
    tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap().unwrap().status().as_u16()
}

/// What was written to attribute `n` of each entity, from the broker's own events.
#[derive(Default)]
struct Written(std::sync::Mutex<Vec<(String, Value)>>);

impl Written {
    fn of(&self, entity: &str) -> Vec<Value> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(id, _)| id == entity).map(|(_, value)| value.clone()).collect()
    }
}

#[async_trait]
impl Consumer for Written {
    async fn position(&self, _: &str, _: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(None)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        for record in &batch.records {
            let change = ContextChange::decode(record.payload.clone()).unwrap();
            let attributes: Value = serde_json::from_slice(&change.attributes).unwrap();
            self.0.lock().unwrap().push((change.entity_id, attributes["n"]["value"].clone()));
        }
        Ok(Consumed::Stored)
    }
}

#[tokio::test]
async fn measures_are_applied_once_and_in_order_although_the_broker_dies_under_load() {
    const DEVICES: u32 = 8;
    const MEASURES: u32 = 40;
    let (broker_dir, agent_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = Broker::start(broker_dir.path(), 0).await;
    let address = broker.grpc;
    let (agent, metrics) = start_agent(agent_dir.path(), address).await;
    let (north, south) = (agent.addresses()["north"], agent.addresses()["south"]);
    let scope = [("fiware-service", "t"), ("fiware-servicepath", "/p")];
    let group = json!({"services": [{"apikey": "k", "resource": "/iot/d", "entity_type": "Room"}]});
    assert_eq!(post(north, "/iot/services", &scope, group.to_string()).await, 201);

    let send = |device: u32, n: u32| async move {
        let path = format!("/iot/d?k=k&i=d{device}");
        assert_eq!(post(south, &path, &[("content-type", "text/plain")], format!("n|{n}")).await, 200);
    };
    let load = futures::future::join_all((0..DEVICES).map(|device| async move {
        for n in 0..MEASURES {
            send(device, n).await;
        }
    }));
    let fault = async {
        let written = Arc::new(Written::default());
        let watching = watch(&broker.bus, &written);
        eventually("some are written", || written.of("Room:d0").len() >= 5).await;
        watching.cancel();
        broker.kill().await;
        eventually("measures meet the dead broker", || diverted(&metrics) >= DEVICES).await;
        Broker::start(broker_dir.path(), address.port()).await
    };
    let (_, broker) = futures::join!(load, fault);

    let written = Arc::new(Written::default());
    let watching = watch(&broker.bus, &written);
    let all = || (0..DEVICES).all(|device| written.of(&format!("Room:d{device}")).len() >= MEASURES as usize);
    eventually("all are written", all).await;
    for device in 0..DEVICES {
        let expected: Vec<Value> = (0..MEASURES).map(Value::from).collect();
        assert_eq!(written.of(&format!("Room:d{device}")), expected, "device {device}");
    }
    watching.cancel();
    assert!(agent.stop(Duration::from_secs(5)).await);
    broker.kill().await;
}

/// Reads all events of the broker into `written`, until cancelled.
fn watch(bus: &Arc<EmbeddedBus>, written: &Arc<Written>) -> CancellationToken {
    let (bus, written, stop) = (bus.clone(), written.clone(), CancellationToken::new());
    let stopped = stop.clone();
    tokio::spawn(async move { bus.consume(CONTEXT_CHANGES, "test", written, stopped).await.unwrap() });
    stop
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
