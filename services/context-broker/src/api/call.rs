//! A request, read and checked in the original's order: characters of the path, service path, content type, query
//! parameters, size, `Accept`, `Content-Type` where there is no body, length, path and method, tenant, body.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header, request};
use ngsi::{Error, ErrorWord};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use service_kit::{
    RequestContext,
    http::{BodyError, linger, read_body},
};

use crate::forwarding::Caller;

use super::{
    Api,
    answer::{error_response, method_not_allowed},
    headers::{self, Accept, BodyKind},
    params::Params,
    resource::{self, Parts, Resource},
};
use crate::tokens::MAX_TOKEN;

pub(super) struct Call {
    pub(super) method: Method,
    pub(super) resource: Resource,
    pub(super) parts: Parts,
    pub(super) params: Params,
    pub(super) accept: Accept,
    pub(super) tenant: Tenant,
    pub(super) body: Bytes,
    pub(super) body_is_text: bool,
    /// Where the `X-Auth-Token` of a write is kept.
    token_ref: Option<Arc<str>>,
    /// `Ngsiv2-AttrsFormat`: how a notification was rendered.
    pub(super) attrs_format: Option<HeaderValue>,
    service_paths: Option<Vec<PathPattern>>,
    passed_on: PassedOn,
}

/// Headers that go on to context providers.
#[derive(Clone, Default)]
struct PassedOn {
    service_path: Option<HeaderValue>,
    auth_token: Option<HeaderValue>,
    via: Option<HeaderValue>,
}

impl Call {
    pub(super) async fn read(
        api: &Api,
        request: Request,
        tenant: Result<Tenant, Error>,
    ) -> Result<Self, Response> {
        let (head, body) = request.into_parts();
        let mut unread = Some(body);
        let read = Self::of(api, &head, &mut unread, tenant).await;
        if read.is_err()
            && let Some(body) = unread
        {
            linger(body);
        }
        read
    }

    /// Takes the body when it is wanted.
    async fn of(
        api: &Api,
        head: &request::Parts,
        unread: &mut Option<Body>,
        tenant: Result<Tenant, Error>,
    ) -> Result<Self, Response> {
        let refuse = |error: Error| error_response(&error);
        let is_end = unread.as_ref().is_none_or(Body::is_end_stream);
        let checked = check_head(api, &head.method, &head.uri, &head.headers, is_end).map_err(refuse)?;
        let unknown =
            || refuse(Error::bad_request("Service not found. Check your URL as probably it is wrong."));
        let (resource, parts) = checked.found.map_err(refuse)?.ok_or_else(unknown)?;
        if !resource.allows(&head.method) {
            // The original's table of methods lacks this path.
            let untabled = resource == Resource::Notify;
            if untabled {
                return Err(unknown());
            }
            let cors = api.cors.is_some() && resource.is_ngsi();
            let allow = resource.allow();
            let allow = if cors { format!("{allow}, OPTIONS") } else { allow.to_owned() };
            return Err(method_not_allowed(&allow));
        }
        let tenant = tenant.map_err(refuse)?;
        if resource.is_ngsi() {
            api.core.quotas.request(&tenant).await.map_err(refuse)?;
        }
        let body = match unread.take().filter(|_| checked.has_payload) {
            Some(body) => payload(api, body).await.map_err(refuse)?,
            None => Bytes::new(),
        };
        let token_ref = match head.method {
            Method::GET | Method::HEAD => None,
            _ => keep_token(api, &tenant, &head.headers).await,
        };
        Ok(Self {
            token_ref,
            method: head.method.clone(),
            resource,
            parts,
            params: checked.params,
            accept: checked.accept,
            tenant,
            body,
            body_is_text: checked.kind == BodyKind::Text,
            attrs_format: head.headers.get("ngsiv2-attrsformat").cloned(),
            service_paths: checked.service_paths,
            passed_on: PassedOn {
                service_path: head.headers.get("fiware-servicepath").cloned(),
                auth_token: head.headers.get("x-auth-token").cloned(),
                via: head.headers.get(header::VIA).cloned(),
            },
        })
    }

    /// Where a query looks: the header's places, or everywhere.
    pub(super) fn query_scope(&self) -> QueryScope {
        match &self.service_paths {
            Some(patterns) => QueryScope { tenant: self.tenant.clone(), patterns: patterns.clone() },
            None => QueryScope::whole_tenant(self.tenant.clone()),
        }
    }

    /// Whether the answer waits until less is due to receivers.
    pub(super) fn controls_flow(&self) -> bool {
        self.method != Method::GET && self.params.option("flowControl")
    }

    /// Where a write goes: one path without wildcard, the root if none is named.
    pub(super) fn write_scope(&self) -> Result<Scope, Error> {
        let path = match self.service_paths.as_deref() {
            None => ServicePath::root(),
            Some([PathPattern::Exact(path)]) => path.clone(),
            Some([PathPattern::Tree(_)]) => return Err(Error::bad_request(self.wildcard_in_write())),
            Some(_) => return Err(Error::bad_request(self.several_paths_in_write())),
        };
        Ok(Scope::new(self.tenant.clone(), path))
    }

    /// The places that a subscription watches.
    pub(super) fn subscription_path(&self) -> Result<PathPattern, Error> {
        match self.service_paths.as_deref() {
            None => Ok(PathPattern::Tree(ServicePath::root())),
            Some([path]) => Ok(path.clone()),
            Some(_) => Err(Error::bad_request("max one service-path allowed for subscriptions")),
        }
    }

    /// Where the entities of a registration are; None: no header says it.
    pub(super) fn registration_path(&self) -> Result<Option<ServicePath>, Error> {
        match self.service_paths.as_deref() {
            None => Ok(None),
            Some([PathPattern::Exact(path)]) => Ok(Some(path.clone())),
            Some([PathPattern::Tree(path)]) if *path == ServicePath::root() && self.method == Method::GET => {
                Ok(None)
            }
            Some([PathPattern::Tree(_)]) => {
                Err(Error::bad_request("a component of ServicePath contains an illegal character"))
            }
            Some(_) => Err(Error::bad_request("max one service-path allowed for registrations")),
        }
    }

    /// What forwards because of this request carry on.
    pub(super) fn caller(&self) -> Caller {
        let PassedOn { service_path, auth_token, via } = self.passed_on.clone();
        Caller {
            tenant: self.tenant.clone(),
            service_path,
            auth_token,
            via,
            cause: self.cause(),
            skip: self.params.option("skipForwarding"),
        }
    }

    fn several_paths_in_write(&self) -> &'static str {
        match self.method {
            Method::DELETE => "more than one servicepath is not allowed in DELETE operation",
            Method::POST => "more than one service path in context update request",
            _ => "more than one servicepath in patch update request is not allowed",
        }
    }

    fn wildcard_in_write(&self) -> &'static str {
        match self.method {
            Method::DELETE => "servicepath with wildcard # is not allowed in DELETE operation",
            Method::POST => "a component of ServicePath contains an illegal character",
            _ => "servicepath with wildcard # is not allowed in patch update request",
        }
    }

    /// Entity id of the path.
    pub(super) fn entity_id(&self) -> &str {
        &self.parts.first
    }

    /// Attribute name of the path.
    pub(super) fn attribute(&self) -> &str {
        &self.parts.second
    }

    /// `type` of a request for one entity.
    pub(super) fn entity_type(&self) -> Option<&str> {
        self.params.get("type")
    }

    /// The context that the listener gave this request.
    pub(super) fn cause(&self) -> RequestContext {
        let current = RequestContext::current();
        let context = current.unwrap_or_else(|| RequestContext::background("context-broker"));
        RequestContext { token_ref: self.token_ref.clone(), ..context }
    }
}

/// Keeps the token for the notifications that the request causes.
async fn keep_token(api: &Api, tenant: &Tenant, headers: &HeaderMap) -> Option<Arc<str>> {
    let token = headers.get("x-auth-token")?.to_str().ok()?;
    if token.is_empty() || token.len() > MAX_TOKEN {
        return None;
    }
    let core = &api.core;
    core.tokens.keep(tenant, token, core.now_us()).await.map(Into::into)
}

struct Checked {
    found: Result<Option<(Resource, Parts)>, Error>,
    service_paths: Option<Vec<PathPattern>>,
    kind: BodyKind,
    params: Params,
    accept: Accept,
    /// A body is to be read.
    has_payload: bool,
}

fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn check_head(
    api: &Api,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    is_end: bool,
) -> Result<Checked, Error> {
    resource::check_characters(uri.path())?;
    let service_paths = headers::service_paths(headers)?;
    let found = Resource::find(uri.path());
    let is_value = Resource::of_path(uri.path()) == Some(Resource::Value);
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_empty = declared == Some(0) || (declared.is_none() && is_end);
    let kind = if has_body(method) && !is_empty {
        headers::body_kind(headers, is_value && *method == Method::PUT)?
    } else {
        BodyKind::Json
    };
    let params = Params::parse(uri.query().unwrap_or_default())?;
    if let Some(size) = declared.filter(|size| *size > api.max_body) {
        return Err(too_large(size, api.max_body));
    }
    let accept = Accept::parse(headers)?;
    if !accept.json && !is_value {
        return Err(headers::not_acceptable("acceptable MIME types: application/json"));
    }
    let set_by_url = matches!(&found, Ok(Some((resource, _))) if resource.is_set_by_url());
    if has_body(method) {
        if is_empty && !set_by_url {
            return Err(length_required());
        }
    } else if headers.contains_key(header::CONTENT_TYPE) {
        return Err(Error::bad_request(
            "Orion accepts no payload for GET/DELETE requests. HTTP header Content-Type is thus forbidden",
        ));
    }
    let has_payload = has_body(method) && !is_empty;
    Ok(Checked { found, service_paths, kind, params, accept, has_payload })
}

async fn payload(api: &Api, body: Body) -> Result<Bytes, Error> {
    match read_body(body, api.max_body, api.body_idle).await {
        // A chunked body that holds nothing.
        Ok(body) if body.is_empty() => Err(length_required()),
        Ok(body) => Ok(body),
        Err(BodyError::TooLarge(size)) => Err(too_large(size, api.max_body)),
        Err(error @ (BodyError::Stalled | BodyError::Aborted)) => Err(Error::bad_request(error.to_string())),
    }
}

fn length_required() -> Error {
    Error::new(ErrorWord::ContentLengthRequired, "Zero/No Content-Length in PUT/POST/PATCH request")
}

fn too_large(size: u64, limit: u64) -> Error {
    Error::new(ErrorWord::RequestEntityTooLarge, format!("payload size: {size}, max size supported: {limit}"))
}
