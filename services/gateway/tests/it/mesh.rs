use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Json, Router, extract::Request, response::IntoResponse};
use gateway::{Config, Deps, DevelopmentIssuer, Upstreams, upstream};
use http_body_util::BodyExt;
use scope::Tenant;
use serde_json::{Value, json};
use service_kit::{Readiness, Running, SystemClock, metrics::Metrics};

/// A gateway in front of echoing services.
pub(crate) struct Mesh {
    pub(crate) running: Running,
    pub(crate) issuer: DevelopmentIssuer,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    _data: tempfile::TempDir,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}, echoes()).await
    }

    /// Starts after `change` had its way with the configuration; it also gets the data folder.
    pub(crate) async fn with(change: impl FnOnce(&mut Config, &Path), upstreams: Upstreams) -> Self {
        let data = tempfile::tempdir().unwrap();
        let issuer = DevelopmentIssuer::open(data.path(), Arc::new(SystemClock)).unwrap();
        let mut config = Config { port: 0, authz_port: 0, ..Config::default() };
        change(&mut config, data.path());
        let (readiness, metrics) = (Readiness::new(), Metrics::new());
        let deps = Deps {
            upstreams,
            development_issuer: Some(issuer.clone()),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        };
        let running = gateway::start(config, deps).await.unwrap();
        Self { running, issuer, readiness, metrics, _data: data }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.running.addresses()["http"]
    }

    pub(crate) fn authz(&self) -> SocketAddr {
        self.running.addresses()["authz"]
    }

    pub(crate) fn bearer(&self, tenant: &str) -> String {
        let tenant = Tenant::canonical(tenant).unwrap();
        format!("Bearer {}", self.issuer.mint(&tenant, Duration::from_secs(60)).unwrap())
    }
}

/// The four destinations of `istio/`, each a service that answers with what it got.
pub(crate) fn echoes() -> Upstreams {
    ["orion:1026", "quantumleap:8668", "ulagent:7896", "ulagent:4041"]
        .into_iter()
        .map(|name| (name.to_owned(), upstream::local(echo(name))))
        .collect()
}

pub(crate) fn echo(name: &'static str) -> Router {
    Router::new().fallback(async move |request: Request| {
        let (head, body) = request.into_parts();
        let headers: Value = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap_or("?"))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        match body.collect().await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                let path = head.uri.path_and_query().map(|path| path.as_str());
                Json(json!({
                    "service": name,
                    "method": head.method.as_str(),
                    "path": path,
                    "headers": headers,
                    "body": body,
                }))
                .into_response()
            }
            Err(_) => http::StatusCode::BAD_REQUEST.into_response(),
        }
    })
}

/// Waits until `holds`, at most ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
