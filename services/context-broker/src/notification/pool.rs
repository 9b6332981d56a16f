//! Connections to receivers and context providers: plain and over TLS, pooled, never to a link-local address.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::OnceCell;

use super::{
    target::{GuardedResolver, Refused, Unresolved, check_host},
    tls::Trust,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Plain = Client<HttpConnector<GuardedResolver>, Full<Bytes>>;
type Secure = Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// Neither `http` nor `https`.
    Scheme,
    /// A link-local address.
    Refused,
    /// The settings of TLS can not be used.
    Tls,
    Unresolved,
    Timeout,
    /// Nobody vouches for the other end's certificate.
    Untrusted,
    Handshake,
    Unreachable,
    /// The connection was closed in place of an answer.
    Unanswered,
    /// The connection broke before an answer came.
    Broken,
}

pub(crate) struct Pool {
    plain: Plain,
    trust: Arc<Trust>,
    idle_per_host: usize,
    secure: OnceCell<Secure>,
}

impl Pool {
    pub(crate) fn new(trust: Arc<Trust>, idle_per_host: usize) -> Self {
        Self {
            plain: pooled(idle_per_host).build(connector()),
            trust,
            idle_per_host,
            secure: OnceCell::new(),
        }
    }

    async fn secure(&self) -> Result<&Secure, String> {
        let make = || async {
            let config = self.trust.config().await?;
            let connector = HttpsConnectorBuilder::new().with_tls_config((*config).clone());
            let connector = connector.https_only().enable_http1().wrap_connector(connector_below_tls());
            Ok(pooled(self.idle_per_host).build(connector))
        };
        self.secure.get_or_try_init(make).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, Unsent> {
        let is_secure = match request.uri().scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(Unsent::Scheme),
        };
        if request.uri().host().is_none_or(|host| check_host(host).is_err()) {
            return Err(Unsent::Refused);
        }
        let answer = if is_secure {
            let client = self.secure().await.map_err(|error| {
                tracing::error!(error, "TLS can not be used");
                Unsent::Tls
            })?;
            client.request(request)
        } else {
            self.plain.request(request)
        };
        answer.await.map_err(|error| reason(&error))
    }
}

fn connector() -> HttpConnector<GuardedResolver> {
    let mut connector = HttpConnector::new_with_resolver(GuardedResolver);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector
}

fn connector_below_tls() -> HttpConnector<GuardedResolver> {
    let mut connector = connector();
    connector.enforce_http(false);
    connector
}

fn pooled(idle_per_host: usize) -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(idle_per_host);
    builder
}

fn reason(error: &ClientError) -> Unsent {
    let mut cause = error.source();
    while let Some(source) = cause {
        if source.is::<Refused>() {
            return Unsent::Refused;
        }
        if source.is::<Unresolved>() {
            return Unsent::Unresolved;
        }
        if source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return Unsent::Unanswered;
        }
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            if io.kind() == std::io::ErrorKind::TimedOut {
                return Unsent::Timeout;
            }
            match tls_error(io) {
                Some(rustls::Error::InvalidCertificate(_)) => return Unsent::Untrusted,
                Some(_) => return Unsent::Handshake,
                None => {}
            }
        }
        cause = source.source();
    }
    if error.is_connect() { Unsent::Unreachable } else { Unsent::Broken }
}

/// An I/O error hides what it was made of from `source`; it may be made of another one.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner.downcast_ref()?))
}
