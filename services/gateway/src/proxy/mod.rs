//! One request through the gateway: normalise the path → route → open or judged → headers cleaned → service.

mod headers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, Uri, header, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opentelemetry::{
    KeyValue,
    trace::{FutureExt, TraceContextExt},
};
use service_kit::{
    Code, RequestContext,
    http::{Refuse, refuse_ngsi},
    telemetry::{SpanKind, start_span},
};
use tower::ServiceExt;

use crate::{
    SERVICE,
    guard::Guard,
    metrics::UpstreamLabels,
    normalize::normalize,
    policy::Decision,
    routes::{Edge, Route},
    upstream::{Upstream, Upstreams},
};

pub(crate) struct Proxy {
    pub(crate) edge: Edge,
    pub(crate) guard: Guard,
    pub(crate) upstreams: Upstreams,
    pub(crate) max_body_bytes: u64,
}

/// The whole way in as a router; every path and method goes through [`handle`].
pub(crate) fn router(proxy: Proxy) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(proxy))
}

async fn handle(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let Ok(path) = normalize(target) else {
        return malformed();
    };
    // Empty, as the gateway of a cluster answers it.
    let Some((route, target)) = proxy.edge.route(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    name_span(&head, route);
    let granted = if proxy.edge.is_open(&path) {
        proxy.guard.note_open();
        Vec::new()
    } else {
        match proxy.guard.judge(&head, &path).await {
            Decision { allowed: true, headers, .. } => headers,
            refused => return refusal(refused),
        }
    };
    let Some(upstream) = proxy.upstreams.get(&route.upstream).cloned() else {
        return away(route, "not known");
    };
    if declared_length(&head) > proxy.max_body_bytes {
        return refuse()(Code::TooLarge, &format!("a body may have {} bytes", proxy.max_body_bytes));
    }
    let Ok(uri) = target.path_and_query.parse::<Uri>() else {
        return malformed();
    };
    let path = path.into_owned();
    let mut head = head;
    head.uri = uri;
    head.extensions = http::Extensions::new();
    headers::prepare(&mut head.headers, &path, &granted);
    forward(&proxy, route, upstream, head, body).await
}

/// Names the request's span by its route: paths hold ids, and there are too many of them.
fn name_span(head: &request::Parts, route: &Route) {
    let context = opentelemetry::Context::current();
    let span = context.span();
    span.update_name(format!("{} {}", head.method, route.name));
    span.set_attribute(KeyValue::new("http.route", route.name.clone()));
}

async fn forward(
    proxy: &Proxy,
    route: &Route,
    upstream: Upstream,
    mut head: request::Parts,
    body: Body,
) -> Response {
    let span = RequestContext::current().and_then(|mut current| {
        let name = format!("{} {}", head.method, route.name);
        let span = start_span(SERVICE, name, SpanKind::Client, &current.trace);
        if let Some(span) = &span {
            current.trace = span.trace_context();
        }
        current.inject(&mut head.headers);
        span
    });
    let too_large = Arc::new(AtomicBool::new(false));
    let request = Request::from_parts(head, limited(body, proxy.max_body_bytes, too_large.clone()));
    let started = Instant::now();
    let call = upstream.oneshot(request);
    let call = async {
        match route.timeout {
            Some(timeout) => tokio::time::timeout(timeout, call).await.map_err(|_| ()),
            None => Ok(call.await),
        }
    };
    let answer = match &span {
        Some(span) => call.with_context(span.otel_context()).await,
        None => call.await,
    };
    let (label, response) = match answer {
        _ if too_large.load(Ordering::Relaxed) => {
            let description = format!("a body may have {} bytes", proxy.max_body_bytes);
            ("too_large", refuse()(Code::TooLarge, &description))
        }
        Ok(Ok(mut response)) => {
            headers::remove_hop_by_hop(response.headers_mut());
            (class(response.status()), response)
        }
        Ok(Err(error)) => {
            tracing::warn!(route = route.name, upstream = route.upstream, %error, "service not reached");
            ("away", away(route, "away"))
        }
        Err(()) => ("timeout", refuse()(Code::Timeout, &format!("{} did not answer in time", route.name))),
    };
    if let Some(span) = &span {
        span.set("http.response.status_code", i64::from(response.status().as_u16()));
        if response.status().is_server_error() {
            span.fail("service failed");
        }
    }
    let metrics = &proxy.guard.metrics;
    metrics.upstream_seconds.observe(started.elapsed().as_secs_f64());
    let labels = UpstreamLabels { route: route.name.clone(), status: label };
    metrics.upstream_responses.get_or_create(&labels).inc();
    response
}

fn declared_length(head: &request::Parts) -> u64 {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Breaks a body off that is longer than it may be, and says so in `exceeded`.
fn limited(body: Body, limit: u64, exceeded: Arc<AtomicBool>) -> Body {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Body::new(Limited::new(body, limit).map_err(move |error| {
        if error.is::<LengthLimitError>() {
            exceeded.store(true, Ordering::Relaxed);
        }
        error
    }))
}

fn refusal(decision: Decision) -> Response {
    let mut response = Response::new(Body::from(decision.body));
    *response.status_mut() = decision.status;
    response.headers_mut().extend(decision.headers);
    response
}

fn malformed() -> Response {
    refuse()(Code::BadRequest, "the path is malformed: it can be neither routed nor judged")
}

fn away(route: &Route, how: &str) -> Response {
    refuse()(Code::Unavailable, &format!("{} is {how}", route.name))
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The gateway words its own refusals as the services behind it do.
pub(crate) fn refuse() -> Refuse {
    refuse_ngsi()
}
