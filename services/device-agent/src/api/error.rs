use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use serde_json::json;
use service_kit::{Code, http::Refuse};

use crate::error::Error;

impl IntoResponse for Error {
    /// `{"name","message"}`; the cause of an internal error is logged and stays here.
    fn into_response(self) -> Response {
        if let Self::Internal(reason) = &self {
            tracing::error!(reason, "request failed");
        }
        let status = match &self {
            Self::CommandsNotAvailable(_) => StatusCode::NOT_IMPLEMENTED,
            other => other.code().http_status(),
        };
        let mut response = answer(status, self.name(), &self.to_string());
        if let Some(after) = self.retry_after() {
            let seconds = after.as_secs_f64().ceil().clamp(1.0, 86_400.0) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn answer(status: StatusCode, name: &str, message: &str) -> Response {
    (status, Json(json!({ "name": name, "message": message }))).into_response()
}

/// Refusals of the listener itself, in the words of this API.
pub(crate) fn refuse() -> Refuse {
    Arc::new(|code, description| {
        let name = match code {
            Code::TooLarge => "PayloadTooLargeError",
            Code::Unavailable => "SERVICE_UNAVAILABLE",
            Code::Timeout => "REQUEST_TIMEOUT",
            Code::TooMany => "TOO_MANY_REQUESTS",
            Code::Internal => "INTERNAL_ERROR",
            _ => "BAD_REQUEST",
        };
        let mut response = answer(code.http_status(), name, description);
        if code.is_retryable() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    })
}

/// Unknown paths and methods: a page, as the originals answer.
pub(crate) async fn not_found(method: Method, uri: Uri) -> Response {
    page(&method, uri.path())
}

pub(crate) fn page(method: &Method, path: &str) -> Response {
    let shown: String = path.chars().take(256).filter(|c| !"<>&\"'".contains(*c)).collect();
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Error</title></head>\n<body><pre>Cannot {method} {shown}</pre></body>\n</html>\n"
    );
    (StatusCode::NOT_FOUND, Html(text)).into_response()
}
