//! A router over a fresh store, and requests to it.

use std::sync::Arc;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use service_kit::ManualClock;
use tempfile::TempDir;
use time_series::{
    Config,
    api::{ApiState, router},
    config::Dialect,
    metrics::Metrics,
    store::embedded::Options,
};
use tower::ServiceExt;

use crate::stores;

pub(crate) struct Api {
    router: Router,
    _dir: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(Dialect::New, stores::early()).await
    }

    pub(crate) async fn with(dialect: Dialect, sealing: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = stores::embedded(dir.path(), sealing).await;
        let state = ApiState {
            store,
            clock: Arc::new(ManualClock::at_us(1_893_456_000_000_000)),
            metrics: Arc::new(Metrics::unregistered()),
            config: Arc::new(Config { dialect, max_body_bytes: 1 << 20, ..Config::default() }),
        };
        Self { router: router(state), _dir: dir }
    }

    /// Sends a request of tenant `t`; `headers` are `name: value` lines.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("fiware-service")) {
            request = request.header("Fiware-Service", "t");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    pub(crate) async fn notify(&self, data: Value) -> Answer {
        self.notify_at("/", data).await
    }

    pub(crate) async fn notify_at(&self, path: &str, data: Value) -> Answer {
        let body = serde_json::json!({ "data": data }).to_string();
        let headers = [("Fiware-ServicePath", path), ("Content-Type", "application/json")];
        self.send("POST", "/v2/notify", &headers, &body).await
    }
}
