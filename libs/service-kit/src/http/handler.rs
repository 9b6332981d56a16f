//! One handler for all requests of a listener, without a router: for an API that finds its resources itself and is asked often.

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, response::Response};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body as _;

use super::{
    HttpListener,
    observe::{Observer, observe},
};

/// Answers the requests of a listener.
pub trait Handler: Send + Sync + 'static {
    /// The resource that a path names, for metrics and spans: a template, never what a client wrote. `None`: there is none.
    fn route(&self, path: &str) -> Option<&'static str>;

    fn handle(&self, request: Request) -> BoxFuture<'_, Response>;
}

/// A handler behind the guards of its listener (see [`super::observed`]).
#[derive(Clone)]
pub(super) struct Guarded(Arc<Parts>);

struct Parts {
    observer: Observer,
    handler: Arc<dyn Handler>,
}

impl Guarded {
    pub(super) fn new(handler: Arc<dyn Handler>, listener: HttpListener) -> Self {
        Self(Arc::new(Parts { observer: Observer::new(listener), handler }))
    }

    async fn answer(self, request: Request) -> Response {
        let Parts { observer, handler } = &*self.0;
        let is_head = request.method() == Method::HEAD;
        let route = handler.route(request.uri().path()).map(Cow::Borrowed);
        let mut response = observe(observer, route, request, |request| handler.handle(request)).await;
        let length = response.body().size_hint().exact();
        say_length(response.headers_mut(), length);
        if is_head {
            *response.body_mut() = Body::empty();
        }
        response
    }
}

/// As a router says it: also where there is no body, and of the body that `HEAD` leaves out.
fn say_length(headers: &mut HeaderMap, length: Option<u64>) {
    if let Some(length) = length {
        let value = || match length {
            0 => HeaderValue::from_static("0"),
            _ => HeaderValue::from(length),
        };
        headers.entry(header::CONTENT_LENGTH).or_insert_with(value);
    }
}

impl hyper::service::Service<http::Request<hyper::body::Incoming>> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let answer = self.clone().answer(request.map(Body::new));
        Box::pin(async move { Ok(answer.await) })
    }
}

impl tower::Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
