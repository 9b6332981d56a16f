use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{body::Body, server::NamedService, transport::Server};
use tower::Service;

use super::ServerHop;
use crate::Tasks;

/// One gRPC listener of a service: its own API, health and reflection.
pub struct GrpcListener {
    pub service: &'static str,
    /// Encoded file descriptors, for reflection.
    pub descriptors: &'static [u8],
}

/// Serves a generated `…Server` with health (`grpc.health.v1`) and reflection until the tasks are told to stop.
pub fn serve<S>(tasks: &Tasks, socket: TcpListener, api: S, listener: GrpcListener)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = std::convert::Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let stop = tasks.stop_token();
    tasks.spawn(listener.service, async move {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status(S::NAME, tonic_health::ServingStatus::Serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(listener.descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| error.to_string())?;
        let leaving = async move {
            stop.cancelled().await;
            health.set_service_status(S::NAME, tonic_health::ServingStatus::NotServing).await;
        };
        Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .tcp_nodelay(true)
            .add_service(ServerHop::new(api))
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(TcpListenerStream::new(socket), leaving)
            .await
            .map_err(|error| error.to_string())
    });
}
