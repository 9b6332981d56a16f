use std::{sync::Arc, time::Duration};

use bus::{Bus, EmbeddedBus};
use bytes::Bytes;
use device_agent::{Config, Deps, start};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use service_kit::{ManualClock, Readiness, Running, grpc::Neighbour, metrics::Metrics};
use soft_state::MemorySoftState;
use tempfile::TempDir;

use crate::broker::FakeBroker;

/// 2026-01-02T03:04:05.678Z
const NOW_US: i64 = 1_767_323_045_678_000;

/// A started agent with its own data directory.
pub struct Agent {
    pub running: Running,
    pub metrics: Metrics,
    dir: Arc<TempDir>,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn name(&self) -> String {
        self.json()["name"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and error name: what a row of the contract fixes.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.name())
    }
}

pub fn config() -> Config {
    Config { north_port: 0, south_port: 0, grpc_port: 0, ..Config::default() }
}

impl Agent {
    pub async fn with_broker(broker: &FakeBroker) -> Self {
        Self::start(config(), broker.in_process()).await
    }

    pub async fn start(config: Config, broker: Neighbour) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), config, broker).await
    }

    async fn start_in(dir: Arc<TempDir>, config: Config, broker: Neighbour) -> Self {
        Self::start_on(Arc::new(EmbeddedBus::default()), dir, config, broker).await
    }

    pub async fn start_on(bus: Arc<dyn Bus>, dir: Arc<TempDir>, config: Config, broker: Neighbour) -> Self {
        let metrics = Metrics::new();
        let deps = Deps {
            bus,
            soft_state: Arc::new(MemorySoftState::default()),
            clock: Arc::new(ManualClock::at_us(NOW_US)),
            broker,
            readiness: Readiness::new(),
            metrics: metrics.clone(),
        };
        let config = Config { data_dir: dir.path().to_owned(), ..config };
        let running = start(config, deps).await.unwrap();
        Self { running, metrics, dir, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Stops, and starts again on the same data.
    pub async fn restart(self, config: Config, broker: Neighbour) -> Self {
        assert!(self.running.stop(Duration::from_secs(5)).await, "stopped in time");
        Self::start_in(self.dir.clone(), config, broker).await
    }

    pub async fn send(
        &self,
        listener: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let address = self.running.addresses()[listener];
        let mut request = http::Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = self.client.request(request.body(Full::new(body.into())).unwrap());
        let response = tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// To the north API, as a tenant at a path.
    pub async fn north(&self, method: &str, path: &str, scope: (&str, &str), body: Value) -> Answer {
        let headers = [("fiware-service", scope.0), ("fiware-servicepath", scope.1)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send("north", method, path, &headers, body).await
    }

    /// Measures by POST to the default resource.
    pub async fn measure(&self, key: &str, device: &str, text: &str) -> Answer {
        let path = format!("/iot/d?k={key}&i={device}");
        self.send("south", "POST", &path, &[("content-type", "text/plain")], text.to_owned()).await
    }

    /// Stores one group of type `Room`.
    pub async fn group(&self, scope: (&str, &str), key: &str, more: Value) {
        let mut group = serde_json::json!({"apikey": key, "resource": "/iot/d", "entity_type": "Room"});
        group.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let answer =
            self.north("POST", "/iot/services", scope, serde_json::json!({ "services": [group] })).await;
        assert_eq!((answer.status, answer.text.as_str()), (201, "{}"));
    }

    pub async fn device(&self, scope: (&str, &str), device: Value) {
        let answer =
            self.north("POST", "/iot/devices", scope, serde_json::json!({ "devices": [device] })).await;
        assert_eq!((answer.status, answer.text.as_str()), (201, "{}"));
    }
}

/// Waits until `condition` holds, at most ten seconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
