//! The admin listener: `/metrics` (OpenMetrics text), `/healthz` (the process lives), `/readyz` (what it needs is there).

pub use axum::Router;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{Readiness, metrics::Metrics};

/// Routes of the admin port; no token is asked, so it is never routed to from outside.
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text).with_state(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
}

async fn metrics_text(State(metrics): State<Metrics>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode()).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let lines: String = readiness
        .snapshot()
        .into_iter()
        .map(|(need, state)| match state {
            Ok(()) => format!("ok   {need}\n"),
            Err(reason) => format!("away {need}: {reason}\n"),
        })
        .collect();
    (status, lines).into_response()
}
