//! Refusals in the words of QuantumLeap (contract sections 1 to 8). Every body that is no result is made here.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{ingest::EntityError, store::StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Found by the request validator: a problem document.
    #[error("{detail}")]
    Problem { status: StatusCode, detail: String },
    /// `{"error","description"}`
    #[error("{description}")]
    Described { status: StatusCode, error: String, description: String },
    /// A JSON string.
    #[error("{text}")]
    Text { status: StatusCode, text: String },
    /// No row matches: 200 `[]` or 404, by dialect.
    #[error("no records found")]
    NothingFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiError {
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::Problem { status: StatusCode::BAD_REQUEST, detail: detail.into() }
    }

    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Text { status, text: text.into() }
    }

    pub fn described(status: StatusCode, error: &str, description: impl Into<String>) -> Self {
        Self::Described { status, error: error.to_owned(), description: description.into() }
    }

    pub fn bad_use(description: impl Into<String>) -> Self {
        Self::described(StatusCode::BAD_REQUEST, "Bad parameters use", description)
    }

    pub fn required(property: &str) -> Self {
        Self::bad_request(format!("'{property}' is a required property"))
    }

    /// An id that names entities of several types, in a query.
    pub fn ambiguous_query(id: &str) -> Self {
        let error = "<class 'exceptions.exceptions.AmbiguousNGSIIdError'>";
        Self::described(StatusCode::BAD_REQUEST, error, ambiguous(id))
    }

    /// The same in a delete.
    pub fn ambiguous_delete(id: &str) -> Self {
        Self::described(StatusCode::CONFLICT, "AmbiguousNGSIIdError", ambiguous(id))
    }

    pub fn bad_date(value: &str) -> Self {
        let error = "<class 'exceptions.exceptions.InvalidParameterValue'>";
        let description =
            format!("The parameter value '{value}' for parameter **fromDate** or **toDate** is not valid.");
        Self::described(StatusCode::UNPROCESSABLE_ENTITY, error, description)
    }

    /// The same failure as the answer of a notification: a JSON string.
    pub fn of_notification(self) -> Self {
        let start = "Notification not processed or not updated: ";
        match self {
            Self::Store(error) => {
                tracing::error!(%error, "notification not stored");
                let status = store_status(&error);
                let status = if status == StatusCode::SERVICE_UNAVAILABLE {
                    StatusCode::INTERNAL_SERVER_ERROR
                } else {
                    status
                };
                Self::text(status, format!("{start}{}", shown(&error)))
            }
            other => other,
        }
    }
}

fn ambiguous(id: &str) -> String {
    format!("There are multiple entities with the given entity_id {id}. Please specify entity_type.")
}

fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Unavailable(_) | StoreError::Retry(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a client may know of a failure of the store.
fn shown(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) | StoreError::Retry(_) => "the store is not available now",
        StoreError::Full(_) => "no space left for the store",
        StoreError::Corrupt { .. } => "the store is damaged",
        _ => "internal error",
    }
}

impl From<EntityError> for ApiError {
    fn from(error: EntityError) -> Self {
        Self::bad_request(error.to_string())
    }
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"detail": detail, "status": status.as_u16(), "title": title, "type": "about:blank"});
    let mut response = (status, axum::Json(body)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn described(status: StatusCode, error: &str, description: &str) -> Response {
    (status, axum::Json(json!({"error": error, "description": description}))).into_response()
}

/// The answer when no row matches; `old` = dialect 0.8.
pub(super) fn nothing_found(old: bool) -> Response {
    if old {
        return described(StatusCode::NOT_FOUND, "Not Found", "No records were found for such query.");
    }
    axum::Json(Value::Array(Vec::new())).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Problem { status, detail } => problem(status, &detail),
            Self::Described { status, error, description } => described(status, &error, &description),
            Self::Text { status, text } => (status, axum::Json(text)).into_response(),
            Self::NothingFound => nothing_found(false),
            Self::Store(error) => {
                tracing::error!(%error, "request failed at the store");
                let status = store_status(&error);
                described(status, status.canonical_reason().unwrap_or("Error"), shown(&error))
            }
        }
    }
}
