//! gRPC between services: a generated client over a network channel, or over the generated server itself in one process;
//! trace context and correlator travel the same way over both.

mod hops;
mod server;

pub use hops::{ClientHop, ServerHop};
pub use server::{GrpcListener, serve};

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tonic::{body::Body, codegen::StdError};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// What every generated client is built over: cheap to clone, the same type for both transports.
pub type Neighbour = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, StdError>;

/// A neighbour in another process. Connects at the first call and again whenever the connection is lost.
pub fn remote(url: &str) -> Result<Neighbour, tonic::transport::Error> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned())?
        .connect_timeout(std::time::Duration::from_secs(2))
        .http2_keep_alive_interval(std::time::Duration::from_secs(10))
        .keep_alive_timeout(std::time::Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let channel = ServiceExt::<http::Request<Body>>::map_err(endpoint.connect_lazy(), StdError::from);
    Ok(BoxCloneSyncService::new(ClientHop::new(channel)))
}

/// A neighbour in this process: `server` is a generated `…Server`.
pub fn local<S>(server: S) -> Neighbour
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(ServiceExt::<http::Request<Body>>::map_err(server, |never: Infallible| {
        match never {}
    }))
}

/// A neighbour that is named before it exists, so that services which call each other can be started one by one.
#[derive(Clone, Default)]
pub struct LateBound(Arc<OnceLock<Neighbour>>);

impl LateBound {
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the real neighbour; the first call counts.
    pub fn bind(&self, neighbour: Neighbour) {
        if self.0.set(neighbour).is_err() {
            tracing::warn!("neighbour bound twice");
        }
    }

    pub fn neighbour(&self) -> Neighbour {
        BoxCloneSyncService::new(self.clone())
    }
}

impl Service<http::Request<Body>> for LateBound {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let bound = self.0.get().cloned();
        Box::pin(async move {
            match bound {
                Some(neighbour) => neighbour.oneshot(request).await,
                None => Ok(tonic::Status::unavailable("neighbour not started").into_http()),
            }
        })
    }
}
