use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use opentelemetry::trace::FutureExt as _;
use tonic::{body::Body, codegen::StdError};
use tower::Service;

use crate::{
    context::RequestContext,
    telemetry::{ActiveSpan, SpanKind, start_span},
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;
type BoxFuture<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

/// Sends the caller's trace context and correlator along, in a client span of its own.
#[derive(Clone)]
pub struct ClientHop<S>(S);

impl<S> ClientHop<S> {
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S> Service<Request> for ClientHop<S>
where
    S: Service<Request, Response = Response, Error = StdError>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = StdError;
    type Future = BoxFuture<StdError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let span = RequestContext::current().and_then(|mut current| {
            // A caller may have put the context of another request there: a batch carries several.
            let given = request.headers().contains_key("traceparent");
            let span = start_span(current.service, call_name(&request), SpanKind::Client, &current.trace);
            if let Some(span) = &span {
                current.trace = span.trace_context();
            }
            if !given {
                current.inject(request.headers_mut());
            }
            span
        });
        let call = self.0.call(request);
        Box::pin(async move { finish(call.await, span) })
    }
}

/// Receives trace context and correlator, in a server span of the service that is called.
#[derive(Clone)]
pub struct ServerHop<S>(S);

impl<S> ServerHop<S> {
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S> Service<Request> for ServerHop<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut context = RequestContext::from_headers(service_name(request.uri().path()), request.headers());
        let span = start_span(context.service, call_name(&request), SpanKind::Server, &context.trace);
        if let Some(span) = &span {
            context.trace = span.trace_context();
        }
        let call = self.0.call(request);
        Box::pin(async move {
            let call = context.run(call);
            let answer = match &span {
                Some(span) => call.with_context(span.otel_context()).await,
                None => call.await,
            };
            finish(answer, span)
        })
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for ServerHop<S> {
    const NAME: &'static str = S::NAME;
}

fn finish<E>(answer: Result<Response, E>, span: Option<ActiveSpan>) -> Result<Response, E> {
    if let Some(span) = span {
        let code = answer.as_ref().ok().and_then(|response| response.headers().get("grpc-status"));
        let code = code.and_then(|code| code.to_str().ok()).and_then(|code| code.parse::<i64>().ok());
        if answer.is_err() || code.is_some_and(|code| code != 0) {
            span.fail("call failed");
        }
        span.set("rpc.grpc.status_code", code.unwrap_or(if answer.is_ok() { 0 } else { 14 }));
    }
    answer
}

fn call_name(request: &Request) -> String {
    request.uri().path().trim_start_matches('/').to_owned()
}

/// The logical service behind a gRPC path such as `/thingmesh.v1.ContextBroker/Update`.
fn service_name(path: &str) -> &'static str {
    match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        "thingmesh.v1.ContextBroker" => "context-broker",
        "thingmesh.v1.TimeSeries" => "time-series",
        "thingmesh.v1.DeviceAgent" => "device-agent",
        "envoy.service.auth.v3.Authorization" => "gateway",
        _ => "grpc",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_by_their_path() {
        assert_eq!(service_name("/thingmesh.v1.ContextBroker/Update"), "context-broker");
        assert_eq!(service_name(""), "grpc");
    }
}
