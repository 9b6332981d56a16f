use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures::FutureExt;
use opentelemetry::trace::FutureExt as _;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use super::HttpListener;
use crate::{
    Code,
    context::{CORRELATOR, RequestContext},
    metrics::seconds_histogram,
    telemetry::{SpanKind, start_named},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    service: &'static str,
    listener: &'static str,
    method: &'static str,
    route: Cow<'static, str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListenerLabels {
    pub service: &'static str,
    pub listener: &'static str,
}

/// Metrics of all HTTP listeners of a process.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<ListenerLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<ListenerLabels, Gauge>,
    pub(super) connections: Family<ListenerLabels, Gauge>,
    pub(super) refused_connections: Family<ListenerLabels, Counter>,
    panics: Family<ListenerLabels, Counter>,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds_histogram as fn() -> Histogram),
            in_flight: Family::default(),
            connections: Family::default(),
            refused_connections: Family::default(),
            panics: Family::default(),
        };
        registry.register("requests", "Answered requests", metrics.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Head received to answer ready",
            metrics.duration.clone(),
        );
        registry.register("requests_in_flight", "Requests being handled", metrics.in_flight.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed because there were too many",
            metrics.refused_connections.clone(),
        );
        registry.register("request_panics", "Requests whose handler panicked", metrics.panics.clone());
        metrics
    }
}

/// The guards of one listener.
pub(super) struct Observer {
    listener: HttpListener,
    labels: ListenerLabels,
    in_flight: AtomicUsize,
    duration: Histogram,
    in_flight_gauge: Gauge,
    timeout: Duration,
}

impl Observer {
    pub(super) fn new(listener: HttpListener) -> Self {
        let labels = ListenerLabels { service: listener.service, listener: listener.name };
        let metrics = listener.metrics.http().clone();
        Self {
            duration: metrics.duration.get_or_create(&labels).clone(),
            in_flight_gauge: metrics.in_flight.get_or_create(&labels).clone(),
            timeout: Duration::from_millis(listener.limits.request_timeout_ms),
            in_flight: AtomicUsize::new(0),
            listener,
            labels,
        }
    }
}

/// Puts the guards of a listener round a router: context, span, metrics, limit of requests in flight, time limit, panics.
pub fn observed(router: Router, listener: HttpListener) -> Router {
    router.layer(from_fn_with_state(Arc::new(Observer::new(listener)), observe_route))
}

/// Counts a request from start to drop, also when its client goes away.
struct InFlight<'a>(&'a Observer);

impl<'a> InFlight<'a> {
    fn enter(observer: &'a Observer) -> Option<Self> {
        if observer.in_flight.fetch_add(1, Ordering::Relaxed) >= observer.listener.limits.max_in_flight {
            observer.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        observer.in_flight_gauge.inc();
        Some(Self(observer))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.in_flight_gauge.dec();
    }
}

async fn observe_route(
    State(observer): State<Arc<Observer>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = route.map(|route| Cow::Owned(route.as_str().to_owned()));
    observe(&observer, route, request, |request| next.run(request)).await
}

/// Has `run` answer a request behind the guards; `route` is the template that its path matched.
pub(super) async fn observe<F>(
    observer: &Observer,
    route: Option<Cow<'static, str>>,
    request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let started = Instant::now();
    let listener = &observer.listener;
    let mut context = RequestContext::from_headers(listener.service, request.headers());
    let method = method_label(request.method());
    let route = route.unwrap_or(Cow::Borrowed("unmatched"));
    let correlator = context.correlator.clone();

    let span =
        start_named(listener.service, || format!("{method} {route}"), SpanKind::Server, &context.trace);
    if let Some(span) = &span {
        context.trace = span.trace_context();
        describe(span, request.headers(), method, &route);
    }
    let mut response = match InFlight::enter(observer) {
        Some(_in_flight) => {
            let handled = context.run(handle(observer, async { run(request).await }));
            match &span {
                Some(span) => handled.with_context(span.otel_context()).await,
                None => handled.await,
            }
        }
        None => (listener.refuse)(Code::Unavailable, "too many requests in flight"),
    };
    if let Ok(value) = http::HeaderValue::from_str(&correlator) {
        response.headers_mut().entry(CORRELATOR).or_insert(value);
    }
    let status = response.status().as_u16();
    if let Some(span) = &span {
        span.set("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.fail("server error");
        }
    }
    let took = started.elapsed();
    tracing::debug!(
        service = listener.service,
        listener = listener.name,
        method,
        route = &*route,
        status,
        correlator = &*correlator,
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    let labels = RequestLabels { service: listener.service, listener: listener.name, method, route, status };
    listener.metrics.http().requests.get_or_create(&labels).inc();
    observer.duration.observe(took.as_secs_f64());
    response
}

async fn handle(observer: &Observer, answer: impl Future<Output = Response>) -> Response {
    let listener = &observer.listener;
    let guarded = AssertUnwindSafe(answer).catch_unwind();
    match tokio::time::timeout(observer.timeout, guarded).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(service = listener.service, "request handler panicked");
            listener.metrics.http().panics.get_or_create(&observer.labels).inc();
            (listener.refuse)(Code::Internal, "internal error")
        }
        Err(_) => (listener.refuse)(Code::Timeout, "request not answered in time"),
    }
}

fn describe(
    span: &crate::telemetry::ActiveSpan,
    headers: &http::HeaderMap,
    method: &'static str,
    route: &str,
) {
    span.set("http.request.method", method);
    span.set("http.route", route.to_owned());
    for (header, key) in [("fiware-service", "fiware.service"), ("fiware-servicepath", "fiware.servicepath")]
    {
        if let Some(value) = headers.get(header).and_then(|value| value.to_str().ok()) {
            span.set(key, value.to_owned());
        }
    }
}

fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}
