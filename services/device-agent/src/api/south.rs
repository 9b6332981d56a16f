//! The port that devices send to (iot-agent 2.1, 2.2).

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{ApiState, error::page, request};
use crate::{device::ApiKey, error::Error, intake::DeviceRequest};

/// Longest device id that a measure may bring along.
const MAX_ID: usize = 256;

pub(super) async fn measures(
    State(state): State<ApiState>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    let query = request::Query::of(&uri);
    let is_resource = uri.path() == state.agent.config.default_resource || query.text("k").is_some();
    if !is_resource || !matches!(method, Method::GET | Method::POST) {
        return page(&method, uri.path());
    }
    let mut response = match taken(&state, &method, uri.path(), &query, &headers, body).await {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain")], "").into_response(),
        Err(error) => error.into_response(),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    response.headers_mut().insert("x-processing-time", HeaderValue::from(millis));
    response
}

async fn taken(
    state: &ApiState,
    method: &Method,
    resource: &str,
    query: &request::Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Error> {
    let is_get = method == Method::GET;
    let asks_commands = query.get("getCmd") == Some("1");
    let needed = [
        ("API Key", query.text("k")),
        ("Device Id", query.text("i")),
        ("Payload", query.text("d").or((!is_get || asks_commands).then_some(""))),
    ];
    let (Some(api_key), Some(device_id), Some(payload)) = (needed[0].1, needed[1].1, needed[2].1) else {
        let missing = needed.into_iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
        return Err(Error::MandatoryParams(missing.collect()));
    };
    if device_id.len() > MAX_ID || device_id.chars().any(char::is_control) {
        return Err(Error::BadHeader(format!(
            "i must have at most {MAX_ID} bytes and no control characters"
        )));
    }
    let payload = if is_get {
        Bytes::copy_from_slice(payload.as_bytes())
    } else {
        check_type(headers)?;
        request::body(&state.agent.config, body).await?
    };
    let request = DeviceRequest {
        resource,
        api_key: ApiKey::new(api_key),
        device_id,
        time: query.text("t"),
        tenant: request::given_tenant(headers)?,
        payload,
    };
    state.agent.take_measures(&request).await
}

/// Ultralight is text; no type at all counts as text.
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = value.to_str().unwrap_or("?");
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind.eq_ignore_ascii_case("text/plain") {
        return Ok(());
    }
    Err(Error::UnsupportedType(kind.chars().take(64).collect()))
}
