use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer, TracerProvider as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use opentelemetry::trace::SpanKind;

use super::tracer;
use crate::context::TraceContext;

/// A span of a logical service, from start to drop.
pub struct ActiveSpan {
    context: Context,
}

impl ActiveSpan {
    /// Where children of this span hang.
    pub fn trace_context(&self) -> TraceContext {
        let span = self.context.span();
        let context = span.span_context();
        TraceContext {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
            state: context.trace_state().header(),
        }
    }

    /// The context under which `tracing` spans become children of this one.
    pub fn otel_context(&self) -> Context {
        self.context.clone()
    }

    pub fn set(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    /// Marks the span as failed. `reason` must not hold payloads or secrets.
    pub fn fail(&self, reason: &str) {
        self.context.span().set_status(Status::error(reason.to_owned()));
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        self.context.span().end();
    }
}

fn remote(parent: &TraceContext) -> SpanContext {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = parent.state.parse().unwrap_or(TraceState::NONE);
    SpanContext::new(
        TraceId::from_bytes(parent.trace_id.to_be_bytes()),
        SpanId::from_bytes(parent.span_id.to_be_bytes()),
        flags,
        true,
        state,
    )
}

/// Starts a span; `None` when no traces are sent, or this one is not sampled.
pub fn start_span(
    service: &'static str,
    name: impl Into<std::borrow::Cow<'static, str>>,
    kind: SpanKind,
    parent: &TraceContext,
) -> Option<ActiveSpan> {
    start_named(service, || name, kind, parent)
}

/// As [`start_span`], for a name that is only worth making when there is a span.
pub(crate) fn start_named<N: Into<std::borrow::Cow<'static, str>>>(
    service: &'static str,
    name: impl FnOnce() -> N,
    kind: SpanKind,
    parent: &TraceContext,
) -> Option<ActiveSpan> {
    let tracer = tracer(service).filter(|_| parent.sampled)?;
    let builder = SpanBuilder::from_name(name()).with_kind(kind);
    let parent = Context::new().with_remote_span_context(remote(parent));
    let span = tracer.build_with_context(builder, &parent);
    Some(ActiveSpan { context: parent.with_span(span) })
}

/// One event's own span, in the trace of what caused it (decision 25).
pub fn event_span(service: &'static str, name: &'static str, parent: &TraceContext) -> Option<ActiveSpan> {
    start_span(service, name, SpanKind::Consumer, parent)
}

/// The span of a consumed batch, linked to the spans of its events.
pub fn batch_span(
    service: &'static str,
    name: &'static str,
    events: impl IntoIterator<Item = TraceContext>,
) -> Option<ActiveSpan> {
    let tracer = tracer(service)?;
    let links = events.into_iter().take(128).map(|event| Link::with_context(remote(&event))).collect();
    let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Consumer).with_links(links);
    let span = tracer.build_with_context(builder, &Context::new());
    Some(ActiveSpan { context: Context::new().with_span(span) })
}

/// The tracer behind the `tracing` layer: it gives each span to the logical service whose request is being handled.
#[derive(Clone, Copy, Debug)]
pub struct MeshTracer;

impl Tracer for MeshTracer {
    type Span = <SdkTracer as Tracer>::Span;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Self::Span {
        let service = crate::context::with_current(|current| current.service).unwrap_or("thingmesh");
        let tracer = tracer(service).unwrap_or_else(|| SdkTracerProvider::builder().build().tracer("unsent"));
        tracer.build_with_context(builder, parent)
    }
}
