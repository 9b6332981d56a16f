//! `POST /v2/notify` (contract section 3).

use std::time::Instant;

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use service_kit::http::{BodyError, read_body};

use super::{ApiState, error::ApiError, headers};
use crate::{ingest::entity_row, row::Row, store::Appended};

/// Bodies above this are parsed off the async workers.
const SMALL_BODY: usize = 32 * 1024;

pub(super) async fn notify(State(api): State<ApiState>, request: Request) -> Response {
    match store(&api, request).await {
        Ok(()) => Json("Notification successfully processed").into_response(),
        Err(error) => error.of_notification().into_response(),
    }
}

async fn store(api: &ApiState, request: Request) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    let body = json_body(api, &parts.headers, body).await?;
    let arrived_us = api.clock.now_us();
    let rows = off_worker(body, move |body| read(&parts.headers, body, arrived_us)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let stored = api.store.append(rows, None).await?;
    api.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
    if let Appended::Stored { nulled, .. } = stored {
        api.metrics.values_nulled.inc_by(nulled);
    }
    Ok(())
}

/// The body of a request that must be JSON.
pub(super) async fn json_body(
    api: &ApiState,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Bytes, ApiError> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" && !essence.ends_with("+json") {
            let detail = format!("Invalid Content-type ({essence}), expected JSON data");
            return Err(ApiError::Problem { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, detail });
        }
    }
    let limit = api.config.max_body_bytes;
    let idle = api.config.http.body_idle_timeout();
    read_body(body, limit, idle).await.map_err(|error| match error {
        BodyError::TooLarge(_) => ApiError::Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            detail: format!("Request body is larger than {limit} bytes"),
        },
        BodyError::Stalled => ApiError::Problem {
            status: StatusCode::REQUEST_TIMEOUT,
            detail: "Request body not received in time".into(),
        },
        BodyError::Aborted => ApiError::bad_request("Request body broken off"),
    })
}

async fn off_worker<T: Send + 'static>(
    body: Bytes,
    work: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if body.len() <= SMALL_BODY {
        return work(&body);
    }
    let worked = tokio::task::spawn_blocking(move || work(&body)).await;
    worked.unwrap_or_else(|error| Err(crate::store::StoreError::Internal(error.to_string()).into()))
}

pub(super) fn parse_json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::bad_request("Request body is not valid JSON"))
}

fn read(headers: &HeaderMap, body: &[u8], arrived_us: i64) -> Result<Vec<Row>, ApiError> {
    let body = parse_json(body)?;
    let Some(notification) = body.as_object() else {
        return Err(ApiError::bad_request(format!("{} is not of type 'object'", short(&body))));
    };
    let entities = notification.get("data").ok_or_else(|| ApiError::required("data"))?;
    let Some(entities) = entities.as_array() else {
        return Err(ApiError::bad_request(format!("{} is not of type 'array' - 'data'", short(entities))));
    };
    let time_index = headers.get(headers::TIME_INDEX).and_then(|value| value.to_str().ok());
    let scopes = headers::write_scopes(headers, entities.len());
    // The entities are checked first: their faults are the validator's, a wrong number of paths is found later.
    let root = scope::Scope::new(headers::tenant(headers)?, scope::ServicePath::root());
    let mut rows = Vec::with_capacity(entities.len());
    for (at, entity) in entities.iter().enumerate() {
        let scope = scopes.as_ref().map_or(&root, |scopes| &scopes[at]).clone();
        rows.extend(entity_row(entity, at, scope, time_index, arrived_us)?);
    }
    scopes.map(|_| rows)
}

/// A value in an error text; long ones are cut.
fn short(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
