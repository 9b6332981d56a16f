//! `/iot/devices` and `/iot/op/delete` (iot-agent 1.3).

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};

use super::{ApiState, request};
use crate::{
    device::{ApiKey, Device, check_device},
    error::Error,
};

/// Devices of one request that are handled at the same time.
const AT_ONCE: usize = 32;

/// Valid devices are stored although others of the request are not; the first error answers.
pub(super) async fn create(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let scope = request::scope(&headers)?;
    let given = request::list(request::object(&state.agent.config, body).await?, "devices")?;
    for device in &given {
        check_device(device).map_err(Error::WrongSyntax)?;
    }
    let create = |device: Map<String, Value>| {
        let (agent, scope) = (&state.agent, &scope);
        async move {
            let id = device.get("device_id").and_then(Value::as_str).filter(|id| !id.is_empty());
            match id.map(str::to_owned) {
                Some(id) => agent.create_device(scope, id, device).await,
                None => Err(Error::MissingAttributes(vec!["device_id"])),
            }
        }
    };
    let created: Vec<Result<(), Error>> = stream::iter(given).map(create).buffered(AT_ONCE).collect().await;
    created.into_iter().collect::<Result<(), Error>>()?;
    Ok((StatusCode::CREATED, Json(json!({}))).into_response())
}

pub(super) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Error> {
    let scope = request::scope(&headers)?;
    let page = request::Query::of(&uri).page()?;
    let (devices, total) = state.agent.list_devices(&scope, page).await?;
    let shown: Vec<Value> = devices.iter().map(Device::to_json).collect();
    Ok(Json(json!({ "count": total, "devices": shown })))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let scope = request::scope(&headers)?;
    Ok(Json(state.agent.get_device(&scope, &id, key(&uri).as_ref()).await?.to_json()))
}

pub(super) async fn update(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, Error> {
    let scope = request::scope(&headers)?;
    let given = request::object(&state.agent.config, body).await?;
    if given.contains_key("device_id") {
        return Err(Error::BadRequest("Can't change the ID of a preprovisioned device".into()));
    }
    check_device(&given).map_err(Error::WrongSyntax)?;
    state.agent.update_device(&scope, &id, key(&uri).as_ref(), given).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let scope = request::scope(&headers)?;
    state.agent.delete_device(&scope, &id, key(&uri).as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes what is there; the first unknown device answers.
pub(super) async fn remove_many(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Error> {
    let scope = request::scope(&headers)?;
    let given = request::list(request::object(&state.agent.config, body).await?, "devices")?;
    let mut first_error = None;
    for device in given {
        let text = |field: &str| device.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let deleted = match text("deviceId") {
            Some(id) => state.agent.delete_device(&scope, id, text("apikey").map(ApiKey::new).as_ref()).await,
            None => Err(Error::MissingAttributes(vec!["deviceId"])),
        };
        if let Err(error) = deleted {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(StatusCode::NO_CONTENT), Err)
}

fn key(uri: &Uri) -> Option<ApiKey> {
    request::Query::of(uri).text("apikey").map(ApiKey::new)
}
