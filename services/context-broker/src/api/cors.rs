//! Cross-origin requests of browsers (ngsi-v2.md 2): off unless an origin is configured, and only for `/v2`.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::resource::Resource;

const EXPOSED: HeaderValue = HeaderValue::from_static("Fiware-Correlator, Fiware-Total-Count, Location");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Fiware-Service, Fiware-Servicepath, Ngsiv2-AttrsFormat, Fiware-Correlator, X-Forwarded-For, \
     X-Real-IP, X-Auth-Token",
);
const EVERY_ORIGIN: &str = "__ALL";

/// Which pages may call the API.
pub(super) struct Cors {
    origin: String,
    max_age_s: u64,
}

impl Cors {
    /// None: no page may.
    pub(super) fn new(origin: &str, max_age_s: u64) -> Option<Self> {
        (!origin.is_empty()).then(|| Self { origin: origin.to_owned(), max_age_s })
    }

    /// What `Access-Control-Allow-Origin` says to a request, if its origin is welcome.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match self.origin.as_str() {
            EVERY_ORIGIN => Some(HeaderValue::from_static("*")),
            own => (origin.as_bytes() == own.as_bytes()).then(|| origin.clone()),
        }
    }

    /// The answer to `OPTIONS`.
    pub(super) fn preflight(&self, resource: Resource, allowed: Option<HeaderValue>) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::OK;
        if let Some(origin) = allowed {
            let headers = response.headers_mut();
            if let Ok(methods) = HeaderValue::try_from(resource.options()) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            }
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age_s));
            welcome(headers, origin);
        }
        response
    }
}

/// Lets the page that asked read the answer.
pub(super) fn welcome(headers: &mut HeaderMap, origin: HeaderValue) {
    const EXPOSE: HeaderName = header::ACCESS_CONTROL_EXPOSE_HEADERS;
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(EXPOSE, EXPOSED);
}
