//! Responses and error bodies.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use ngsi::Error;

const TOTAL_COUNT: HeaderName = HeaderName::from_static("fiware-total-count");

/// What a handler answers when all is well.
pub(super) enum Answer {
    Json(Vec<u8>),
    /// A page of a list, with the total if it was asked for.
    List(Vec<u8>, Option<u64>),
    Text(Vec<u8>),
    /// 200 without a body.
    Nothing,
    /// An error in another shape than that of NGSIv2, as JSON.
    Refused(StatusCode, Vec<u8>),
    /// 201 with `Location`.
    Created(String),
    /// 204; `Location` for an upsert.
    NoContent(Option<String>),
}

impl Answer {
    pub(super) const DONE: Self = Self::NoContent(None);
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => with_body(StatusCode::OK, "application/json", body),
            Self::Text(body) => with_body(StatusCode::OK, "text/plain", body),
            Self::List(body, total) => {
                let mut response = with_body(StatusCode::OK, "application/json", body);
                if let Some(total) = total {
                    response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(total));
                }
                response
            }
            Self::Nothing => without_body(StatusCode::OK, None),
            Self::Refused(status, body) => with_body(status, "application/json", body),
            Self::Created(location) => without_body(StatusCode::CREATED, Some(location)),
            Self::NoContent(location) => without_body(StatusCode::NO_CONTENT, location),
        }
    }
}

fn with_body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn without_body(status: StatusCode, location: Option<String>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The error body of NGSIv2 with its status.
pub(super) fn error_response(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_body(status, "application/json", error.to_json());
    // The names of RFC 9110; the library has those of its predecessors.
    let reason = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some(ReasonPhrase::from_static(b"Content Too Large")),
        StatusCode::UNPROCESSABLE_ENTITY => Some(ReasonPhrase::from_static(b"Unprocessable Content")),
        _ => None,
    };
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    if crate::is_retryable(error) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// 405 with what is allowed instead.
pub(super) fn method_not_allowed(allow: &str) -> Response {
    let mut response = error_response(&Error::new(ngsi::ErrorWord::MethodNotAllowed, "method not allowed"));
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
