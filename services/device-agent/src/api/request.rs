//! What every request brings: scope headers, query, body.

use axum::{
    body::Body,
    http::{HeaderMap, Uri},
};
use bytes::Bytes;
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};
use service_kit::http::{BodyError, read_body};

use crate::{Config, error::Error, store::Page};

const SERVICE: &str = "fiware-service";
const SERVICE_PATH: &str = "fiware-servicepath";
/// Entries of a list that are answered at once, at most.
const MAX_PAGE: u32 = 1_000;

/// Both scope headers; the missing ones are named.
pub(super) fn scope_texts(headers: &HeaderMap) -> Result<(&str, &str), Error> {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    match (text(SERVICE), text(SERVICE_PATH)) {
        (Some(service), Some(path)) => Ok((service, path)),
        (service, path) => {
            let missing = [(SERVICE, service), (SERVICE_PATH, path)];
            let missing = missing.into_iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
            Err(Error::MissingHeaders(missing.collect()))
        }
    }
}

pub(super) fn tenant(text: &str) -> Result<Tenant, Error> {
    Tenant::from_header(Some(text)).map_err(|error| Error::BadHeader(format!("{SERVICE}: {error}")))
}

pub(super) fn path(text: &str) -> Result<ServicePath, Error> {
    ServicePath::parse(text).map_err(|error| Error::BadHeader(format!("{SERVICE_PATH}: {error}")))
}

pub(super) fn scope(headers: &HeaderMap) -> Result<Scope, Error> {
    let (service, service_path) = scope_texts(headers)?;
    Ok(Scope::new(tenant(service)?, path(service_path)?))
}

/// The tenant of `Fiware-Service`, when the header is there. One that can be no tenant's is nobody's.
pub(super) fn given_tenant(headers: &HeaderMap) -> Result<Option<Tenant>, Error> {
    let Some(value) = headers.get(SERVICE) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Error::TenantMismatch)?;
    Tenant::from_header(Some(text)).map(Some).map_err(|_| Error::TenantMismatch)
}

/// The query's parameters; the first of a name counts.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    pub(super) fn page(&self) -> Result<Page, Error> {
        let number = |name: &str, default: u32| match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Error::BadHeader(format!("{name} must be a number"))),
        };
        Ok(Page { limit: number("limit", MAX_PAGE)?.min(MAX_PAGE), offset: number("offset", 0)? })
    }
}

pub(super) async fn body(config: &Config, body: Body) -> Result<Bytes, Error> {
    let limit = config.body_limit;
    read_body(body, limit, config.http.body_idle_timeout()).await.map_err(|error| match error {
        BodyError::TooLarge(_) => Error::PayloadTooLarge { limit },
        BodyError::Stalled | BodyError::Aborted => Error::BodyNotReceived,
    })
}

/// The body as a JSON object.
pub(super) async fn object(config: &Config, from: Body) -> Result<Map<String, Value>, Error> {
    let bytes = body(config, from).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::WrongSyntax("the body must be an object".into())),
        // Position only: the text around it may hold secrets.
        Err(error) => Err(Error::NotJson(format!("line {} column {}", error.line(), error.column()))),
    }
}

/// The list under `key`, which must be all that the object holds.
pub(super) fn list(mut object: Map<String, Value>, key: &str) -> Result<Vec<Map<String, Value>>, Error> {
    let wrong = |text: &str| Error::WrongSyntax(format!("{key} {text}"));
    let Some(Value::Array(items)) = object.shift_remove(key) else { return Err(wrong("must be an array")) };
    if let Some(other) = object.keys().next() {
        return Err(Error::WrongSyntax(format!("unknown field {other:?} beside {key}")));
    }
    let objects = items.into_iter().map(|item| match item {
        Value::Object(object) => Ok(object),
        _ => Err(wrong("must hold objects")),
    });
    objects.collect()
}
