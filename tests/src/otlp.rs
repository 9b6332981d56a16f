//! A receiver of traces: OTLP over gRPC, as a collector speaks it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// A span, as far as the tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace_id: String,
    pub span_id: String,
    pub parent: String,
    pub attributes: Vec<(String, String)>,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

/// Receives until drop of the runtime.
pub struct Receiver {
    address: SocketAddr,
    spans: Spans,
}

impl Receiver {
    /// # Panics
    /// When no port is to be had.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let spans = Spans::default();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("the receiver serves");
        });
        Self { address, spans }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans of a trace so far.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let spans = self.spans.0.lock().expect("no receiver panics");
        spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }

    /// The services that took part in a trace.
    pub fn services(&self, trace_id: &str) -> BTreeSet<String> {
        self.trace(trace_id).into_iter().map(|span| span.service).collect()
    }

    /// Everything that was received, as text: to search it for what must not be there.
    pub fn everything(&self) -> String {
        format!("{:?}", self.spans.0.lock().expect("no receiver panics"))
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("no receiver panics");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
            let service = attributes.into_iter().find(|(key, _)| key == "service.name");
            let service = service.map(|(_, name)| name).unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    service: service.clone(),
                    name: span.name,
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    attributes: texts(span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(other) => format!("{other:?}"),
            None => String::new(),
        };
        (attribute.key, value)
    };
    attributes.into_iter().map(text).collect()
}
