//! Information and administration (iot-agent 1.1).

use std::fmt::Write;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use service_kit::telemetry::{self, LogLevel};

use super::{ApiState, request};
use crate::metrics::Metrics;

/// The common library that this agent stands in for.
const LIB_VERSION: &str = "4.14.0";

pub(super) async fn about(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({
        "libVersion": LIB_VERSION,
        "port": state.north_port,
        "baseRoot": "/",
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

pub(super) async fn ready(State(state): State<ApiState>) -> Response {
    let own = state.readiness.snapshot().into_iter().filter(|(need, _)| need.starts_with("device-agent."));
    let is_ready = own.fold(None, |all, (_, need)| Some(all.unwrap_or(true) && need.is_ok()));
    let status = if is_ready == Some(true) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({}))).into_response()
}

/// The level of this process, which may hold other services too.
pub(super) async fn show_log_level() -> Json<Value> {
    Json(json!({ "level": telemetry::log_level().as_str() }))
}

pub(super) async fn set_log_level(uri: Uri) -> Response {
    let query = request::Query::of(&uri);
    let Some(given) = query.text("level") else { return wrong_level("log level missing") };
    // The original knows no silence.
    match LogLevel::parse(given).filter(|level| *level != LogLevel::None) {
        Some(level) => telemetry::set_log_level(level),
        None => return wrong_level("invalid log level"),
    }
    StatusCode::OK.into_response()
}

fn wrong_level(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

/// The originals' counters, in the type that the client accepts.
pub(super) async fn metrics(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("application/openmetrics-text");
    let kind = |name: &str| accept.split(',').any(|one| one.split(';').next().map(str::trim) == Some(name));
    let content_type = if kind("application/openmetrics-text") {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else if kind("text/plain") || kind("*/*") {
        "text/plain; version=0.0.4; charset=utf-8"
    } else {
        return (StatusCode::NOT_ACCEPTABLE, "Not Acceptable").into_response();
    };
    ([(header::CONTENT_TYPE, content_type)], counters(&state.agent.metrics)).into_response()
}

fn counters(metrics: &Metrics) -> String {
    let measures = |outcome| Metrics::value(&metrics.measures, outcome);
    let ok = measures("committed") + measures("diverted");
    let failed = measures("refused") + measures("unavailable");
    let rows = [
        ("deviceCreationRequests", metrics.devices_created.get()),
        ("deviceRemovalRequests", metrics.devices_removed.get()),
        ("measureRequests", ok + failed + measures("empty")),
        ("raiseAlarm", 0),
        ("releaseAlarm", 0),
        ("updateEntityRequestsOk", ok),
        ("updateEntityRequestsError", failed),
    ];
    let mut text = String::new();
    for (name, count) in rows {
        let line =
            writeln!(text, "# HELP {name} global metric for {name}\n# TYPE {name} counter\n{name} {count}");
        debug_assert!(line.is_ok(), "a String takes all");
    }
    text.push_str("# EOF\n");
    text
}
