use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, response::Response};
use http::Request;
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    Handler, HttpListener,
    handler::Guarded,
    observe::ListenerLabels,
    observed,
    request_line::{RequestLine, Requests},
};
use crate::Tasks;

/// Request heads may be this large in all (HTTP/1: read buffer; HTTP/2: header list).
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves `router` behind the guards of `listener` until the tasks are told to stop; then lets requests in flight end.
pub fn serve(tasks: &Tasks, socket: TcpListener, router: Router, listener: HttpListener) {
    drop(serve_shared(tasks, socket, router, listener));
}

/// The same; returns the guarded router, which a neighbour in the same process calls without a socket, behind the same
/// guards.
pub fn serve_shared(tasks: &Tasks, socket: TcpListener, router: Router, listener: HttpListener) -> Router {
    let guarded = observed(router, listener.clone());
    accept(tasks, socket, TowerToHyperService::new(guarded.clone()), listener);
    guarded
}

/// The same for a handler without a router.
pub fn serve_handler(
    tasks: &Tasks,
    socket: TcpListener,
    handler: Arc<dyn Handler>,
    listener: HttpListener,
) -> Router {
    let guarded = Guarded::new(handler, listener.clone());
    accept(tasks, socket, guarded.clone(), listener);
    Router::new().fallback_service(guarded)
}

fn accept<S: HyperService>(tasks: &Tasks, socket: TcpListener, service: S, listener: HttpListener) {
    let name = listener.service;
    let stop = tasks.stop_token();
    let connections = ConnectionServer::new(service, listener);
    tasks.spawn(name, async move {
        let graceful = GracefulShutdown::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => connections.serve(stream, &graceful),
                    // Out of descriptors, or the peer went away: the listener itself is fine.
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        drop(socket);
        graceful.shutdown().await;
        Ok::<(), Infallible>(())
    });
}

/// What a connection calls.
trait HyperService:
    Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> HyperService for S where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Tells a connection of its requests before they are answered.
struct Announced<S> {
    service: S,
    requests: Requests,
}

impl<S: HyperService> Service<Request<Incoming>> for Announced<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.requests.begin(&request);
        self.service.call(request)
    }
}

struct ConnectionServer<S> {
    service: S,
    builder: Builder<TokioExecutor>,
    permits: Arc<Semaphore>,
    listener: HttpListener,
    labels: ListenerLabels,
}

impl<S: HyperService> ConnectionServer<S> {
    fn new(service: S, listener: HttpListener) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(listener.limits.head_timeout_ms))
            .max_buf_size(MAX_HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_concurrent_streams(256)
            .max_header_list_size(MAX_HEAD_BYTES as u32);
        Self {
            service,
            builder,
            permits: Arc::new(Semaphore::new(listener.limits.max_connections)),
            labels: ListenerLabels { service: listener.service, listener: listener.name },
            listener,
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "ends with the connection, which the graceful shutdown watches"
    )]
    fn serve(&self, stream: TcpStream, graceful: &GracefulShutdown) {
        let metrics = self.listener.metrics.http();
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            metrics.refused_connections.get_or_create(&self.labels).inc();
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let patience = Duration::from_millis(self.listener.limits.head_timeout_ms);
        let requests = Requests::default();
        let stream = TokioIo::new(RequestLine::new(stream, requests.clone(), patience));
        let service = Announced { service: self.service.clone(), requests };
        let connection = self.builder.serve_connection(stream, service).into_owned();
        let watched = graceful.watch(connection);
        let open = metrics.connections.get_or_create(&self.labels).clone();
        open.inc();
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "connection ended");
            }
            open.dec();
            drop(permit);
        });
    }
}
