//! HTTP listeners: every limit, trace, metric and panic guard is here, so that a service's handlers only translate.

mod body;
mod handler;
mod observe;
mod request_line;
mod serve;

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

pub use body::{BodyError, linger, read_body};
pub use handler::Handler;
pub use observe::{HttpMetrics, observed};
pub use serve::{serve, serve_handler, serve_shared};

use crate::{Code, metrics::Metrics};

/// What one listener lets through.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Open connections; further ones are closed at once.
    pub max_connections: usize,
    /// Requests being handled; further ones are refused with 503.
    pub max_in_flight: usize,
    /// From connect, or the end of the answer before, to the end of the request head.
    pub head_timeout_ms: u64,
    /// From the end of the head to the answer.
    pub request_timeout_ms: u64,
    /// Longest pause while a body is read.
    pub body_idle_timeout_ms: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_in_flight: 4_096,
            head_timeout_ms: 75_000,
            request_timeout_ms: 30_000,
            body_idle_timeout_ms: 10_000,
        }
    }
}

impl HttpLimits {
    pub fn body_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.body_idle_timeout_ms)
    }
}

/// How an API words the refusals that this module makes.
pub type Refuse = Arc<dyn Fn(Code, &str) -> Response + Send + Sync>;

/// One listener of a service.
#[derive(Clone)]
pub struct HttpListener {
    pub service: &'static str,
    /// `http`, `north`, `south` …
    pub name: &'static str,
    pub limits: HttpLimits,
    pub refuse: Refuse,
    pub metrics: Metrics,
}

/// Refusals as `{"error","description"}`, the shape that NGSIv2 clients know.
pub fn refuse_ngsi() -> Refuse {
    Arc::new(|code, description| {
        let error = match code {
            Code::TooLarge => "RequestEntityTooLarge",
            Code::Unavailable => "ServiceUnavailable",
            Code::Timeout => "RequestTimeout",
            Code::TooMany => "TooManyRequests",
            Code::Internal => "InternalServerError",
            _ => "BadRequest",
        };
        let body = serde_json::json!({ "error": error, "description": description });
        let mut response = (code.http_status(), axum::Json(body)).into_response();
        if code.is_retryable() {
            response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        response
    })
}
