//! Sends one notification over HTTP and says what came of it.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::target::{GuardedResolver, Refused, Unresolved, check_host};

/// How much of an answer is read so that its connection can be used again; a longer one costs its connection.
const MAX_ANSWER: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS_PER_HOST: usize = 32;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver answered with this status, whatever it is.
    Status(u16),
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
            Self::Status(200..=299) => "accepted",
            Self::Status(_) if self.is_retryable() => "busy",
            Self::Status(_) => "answered_with_error",
            Self::Failed(_) => "unreachable",
            Self::Refused(_) => "refused",
        }
    }
}

/// A pool of connections to receivers. Cheap to clone.
#[derive(Clone)]
pub(super) struct HttpClient {
    inner: Client<HttpConnector<GuardedResolver>, Full<Bytes>>,
}

impl HttpClient {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new_with_resolver(GuardedResolver);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let inner = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
            .build(connector);
        Self { inner }
    }

    /// Sends `request` and waits for the status, at most `timeout` in all.
    pub(super) async fn send(&self, request: http::Request<Full<Bytes>>, timeout: Duration) -> Answer {
        if request.uri().scheme_str() != Some("http") {
            return Answer::Refused("Unsupported protocol");
        }
        if request.uri().host().is_none_or(|host| check_host(host).is_err()) {
            return Answer::Refused("Link-local address refused");
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(Ok(status)) => Answer::Status(status.as_u16()),
            Ok(Err(error)) => classify(&error),
            Err(_) => Answer::Failed("Timeout was reached"),
        }
    }

    async fn exchange(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::StatusCode, hyper_util::client::legacy::Error> {
        let (parts, body) = self.inner.request(request).await?.into_parts();
        if Limited::new(body, MAX_ANSWER).collect().await.is_err() {
            tracing::debug!("answer to a notification not read to its end");
        }
        Ok(parts.status)
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
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
        if source.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
        {
            return Answer::Failed("Timeout was reached");
        }
        cause = source.source();
    }
    if error.is_connect() {
        Answer::Failed("Could not connect to server")
    } else {
        Answer::Failed("Failure when receiving data from the peer")
    }
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
        let answer =
            HttpClient::new().send(request(&format!("http://{address}/")), Duration::from_secs(5)).await;
        assert_eq!(answer, Answer::Failed("Could not connect to server"));
        assert!(answer.is_retryable());
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_answer_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = HttpClient::new().send(request(&url), Duration::from_millis(50)).await;
        assert_eq!(answer, Answer::Failed("Timeout was reached"));
    }

    #[tokio::test]
    async fn any_status_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = HttpClient::new();
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
        let client = HttpClient::new();
        for url in ["http://169.254.169.254/latest", "https://127.0.0.1/"] {
            assert!(
                matches!(client.send(request(url), Duration::from_secs(1)).await, Answer::Refused(_)),
                "{url}"
            );
        }
    }
}
