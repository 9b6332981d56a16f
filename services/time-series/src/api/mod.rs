//! The QuantumLeap API over HTTP, and the service's own over gRPC.

mod delete;
mod error;
mod grpc;
mod headers;
mod history;
mod notify;
mod op_query;
mod params;
mod render;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use serde_json::{Value, json};
use service_kit::{Clock, Code, http::Refuse};

pub use error::ApiError;
pub use grpc::grpc_service;

use crate::{config::Config, metrics::Metrics, store::HistoryStore};

/// What the handlers work with.
#[derive(Clone)]
pub struct ApiState {
    pub store: Arc<dyn HistoryStore>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub config: Arc<Config>,
}

/// All routes of the contract's section 2.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/health", get(health))
        .route("/v2", get(index))
        .route("/v2/", get(index))
        .route("/v2/notify", post(notify::notify))
        .route("/v2/op/query", post(op_query::op_query))
        .route("/v2/entities", get(history::entities))
        .route("/v2/entities/{id}", get(history::entity_all).delete(delete::entity))
        .route("/v2/entities/{id}/value", get(history::entity_all_value))
        .route("/v2/entities/{id}/attrs/{attr}", get(history::entity_one))
        .route("/v2/entities/{id}/attrs/{attr}/value", get(history::entity_one_value))
        .route("/v2/types/{type}", get(history::type_all).delete(delete::entity_type))
        .route("/v2/types/{type}/value", get(history::type_all_value))
        .route("/v2/types/{type}/attrs/{attr}", get(history::type_one))
        .route("/v2/types/{type}/attrs/{attr}/value", get(history::type_one_value))
        .route("/v2/attrs", get(history::any_all))
        .route("/v2/attrs/value", get(history::any_all_value))
        .route("/v2/attrs/{attr}", get(history::any_one))
        .route("/v2/attrs/{attr}/value", get(history::any_one_value))
        .route("/management/config", post(not_implemented))
        .route("/management/queue/notifications", get(no_tasks).delete(no_tasks_to_delete))
        .route("/management/queue/notifications/summary", get(no_tasks))
        .route("/management/queue/notifications/count", get(no_task_count))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

/// Refusals of the listener itself, as problem documents.
pub fn refuse() -> Refuse {
    Arc::new(|code: Code, description: &str| error::problem(code.http_status(), description))
}

async fn version() -> Json<Value> {
    Json(json!({"version": format!("1.0.1-thingmesh-{}", env!("CARGO_PKG_VERSION"))}))
}

async fn index() -> Json<Value> {
    Json(json!({
        "entities_url": "/v2/entities",
        "types_url": "/v2/types",
        "attributes_url": "/v2/attrs",
        "notify_url": "/v2/notify",
        "subscriptions_url": "/v2/subscriptions",
    }))
}

async fn health(State(api): State<ApiState>) -> Response {
    let (status, body) = match api.store.check().await {
        Ok(()) => (StatusCode::OK, json!({"status": "pass"})),
        Err(error) => {
            tracing::warn!(%error, "health check failed");
            let body = json!({"status": "fail", "details": {"store": "cannot reach the store"}});
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    (status, [(header::CACHE_CONTROL, "max-age=180")], Json(body)).into_response()
}

async fn not_implemented() -> Response {
    let text = "This API method is not yet implemented.";
    ApiError::described(StatusCode::NOT_IMPLEMENTED, "Not Implemented", text).into_response()
}

/// A notification is answered when it is stored: there is no work queue to show (contract section 10).
async fn no_tasks() -> Json<Value> {
    Json(json!([]))
}

async fn no_task_count() -> Json<Value> {
    Json(json!(0))
}

async fn no_tasks_to_delete() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn unknown_path() -> Response {
    let text = "The requested URL was not found on the server. If you entered the URL manually please check your \
                spelling and try again.";
    error::problem(StatusCode::NOT_FOUND, text)
}

async fn wrong_method() -> Response {
    error::problem(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for the requested URL.")
}
