//! Sends one notification over HTTP and says what came of it.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::OnceCell;

use super::{
    target::{GuardedResolver, Refused, Unresolved, check_host},
    tls::{TlsOptions, client_config},
};

/// How much of an answer is read so that its connection can be used again; a longer one costs its connection.
const MAX_ANSWER: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS_PER_HOST: usize = 32;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver answered with this status, whatever it is.
    Status(u16),
    /// The receiver has it; there is no status (MQTT, Kafka).
    Accepted,
    /// No answer; the text is what clients of Orion know from libcurl.
    Failed(&'static str),
    /// This target can never be reached from here; trying again is of no use.
    Refused(&'static str),
}

impl Answer {
    /// Whether the same notification shall be tried again (decision 17).
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Status(429 | 502..=504))
    }

    /// For metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Status(200..=299) | Self::Accepted => "accepted",
            Self::Status(_) if self.is_retryable() => "busy",
            Self::Status(_) => "answered_with_error",
            Self::Failed(_) => "unreachable",
            Self::Refused(_) => "refused",
        }
    }
}

type Plain = Client<HttpConnector<GuardedResolver>, Full<Bytes>>;
type Secure = Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>;

/// Pools of connections to receivers.
pub(super) struct HttpClient {
    plain: Plain,
    tls: TlsOptions,
    /// Made for the first `https` receiver: reading the authorities takes its time.
    secure: OnceCell<Secure>,
}

fn connector() -> HttpConnector<GuardedResolver> {
    let mut connector = HttpConnector::new_with_resolver(GuardedResolver);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

fn pooled() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST);
    builder
}

impl HttpClient {
    pub(super) fn new(tls: TlsOptions) -> Self {
        Self { plain: pooled().build(connector()), tls, secure: OnceCell::new() }
    }

    async fn secure(&self) -> Result<&Secure, String> {
        let make = || async {
            let options = self.tls.clone();
            let config = tokio::task::spawn_blocking(move || client_config(&options));
            let config =
                config.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
            Ok(pooled().build(connector.wrap_connector(self::connector())))
        };
        self.secure.get_or_try_init(make).await
    }

    /// Sends `request` and waits for the status, at most `timeout` in all.
    pub(super) async fn send(&self, request: http::Request<Full<Bytes>>, timeout: Duration) -> Answer {
        let is_secure = match request.uri().scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Answer::Refused("Unsupported protocol"),
        };
        if request.uri().host().is_none_or(|host| check_host(host).is_err()) {
            return Answer::Refused("Link-local address refused");
        }
        let exchange = async {
            let response = if is_secure {
                match self.secure().await {
                    Ok(client) => client.request(request),
                    Err(error) => {
                        tracing::error!(error, "TLS can not be used");
                        return Ok(None);
                    }
                }
            } else {
                self.plain.request(request)
            };
            finish(response).await.map(Some)
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(Some(status))) => Answer::Status(status.as_u16()),
            Ok(Ok(None)) => Answer::Failed("Problem with the SSL CA cert"),
            Ok(Err(error)) => classify(&error),
            Err(_) => Answer::Failed("Timeout was reached"),
        }
    }
}

/// Reads the answer, so that its connection can be used again.
async fn finish(response: ResponseFuture) -> Result<http::StatusCode, hyper_util::client::legacy::Error> {
    let (parts, body) = response.await?.into_parts();
    if Limited::new(body, MAX_ANSWER).collect().await.is_err() {
        tracing::debug!("answer to a notification not read to its end");
    }
    Ok(parts.status)
}

fn classify(error: &hyper_util::client::legacy::Error) -> Answer {
    let mut cause = error.source();
    while let Some(source) = cause {
        if source.is::<Refused>() {
            return Answer::Refused("Link-local address refused");
        }
        if source.is::<Unresolved>() {
            return Answer::Failed("Could not resolve hostname");
        }
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            if io.kind() == std::io::ErrorKind::TimedOut {
                return Answer::Failed("Timeout was reached");
            }
            if let Some(tls) = tls_error(io) {
                return Answer::Failed(match tls {
                    rustls::Error::InvalidCertificate(_) => {
                        "SSL peer certificate or SSH remote key was not OK"
                    }
                    _ => "SSL connect error",
                });
            }
        }
        cause = source.source();
    }
    if error.is_connect() {
        Answer::Failed("Could not connect to server")
    } else {
        Answer::Failed("Failure when receiving data from the peer")
    }
}

/// An I/O error hides what it was made of from `source`; it may be made of another one.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner.downcast_ref()?))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn request(url: &str) -> http::Request<Full<Bytes>> {
        http::Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).unwrap()
    }

    #[tokio::test]
    async fn a_closed_port_is_a_connection_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let answer = HttpClient::new(TlsOptions::default())
            .send(request(&format!("http://{address}/")), Duration::from_secs(5))
            .await;
        assert_eq!(answer, Answer::Failed("Could not connect to server"));
        assert!(answer.is_retryable());
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_answer_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer =
            HttpClient::new(TlsOptions::default()).send(request(&url), Duration::from_millis(50)).await;
        assert_eq!(answer, Answer::Failed("Timeout was reached"));
    }

    #[tokio::test]
    async fn any_status_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = HttpClient::new(TlsOptions::default());
        let send = client.send(request(&url), Duration::from_secs(5));
        let answer = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            // An answer that comes before its request would be none.
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                socket.read_buf(&mut request).await.unwrap();
            }
            socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            socket
        };
        let (answer, _socket) = tokio::join!(send, answer);
        assert_eq!(answer, Answer::Status(404));
        assert!(!answer.is_retryable());
    }

    #[tokio::test]
    async fn link_local_and_unknown_schemes_are_refused_without_a_try() {
        let client = HttpClient::new(TlsOptions::default());
        for url in ["http://169.254.169.254/latest", "https://169.254.169.254/", "ftp://127.0.0.1/"] {
            assert!(
                matches!(client.send(request(url), Duration::from_secs(1)).await, Answer::Refused(_)),
                "{url}"
            );
        }
    }
}
