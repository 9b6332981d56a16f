//! Sends one notification over HTTP and says what came of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};

use super::{
    pool::{Pool, Unsent},
    tls::Trust,
};

/// How much of an answer is read so that its connection can be used again; a longer one costs its connection.
const MAX_ANSWER: usize = 64 * 1024;
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

/// Tells receivers over HTTP.
pub(super) struct HttpClient {
    pool: Pool,
}

impl HttpClient {
    pub(super) fn new(trust: Arc<Trust>) -> Self {
        Self { pool: Pool::new(trust, IDLE_CONNECTIONS_PER_HOST) }
    }

    /// Sends `request` and waits for the answer, at most `timeout` in all; with how many bytes came back.
    pub(super) async fn send(&self, request: http::Request<Full<Bytes>>, timeout: Duration) -> (Answer, u64) {
        let exchange = async {
            let (parts, body) = self.pool.send(request).await?.into_parts();
            // To its end, so that its connection can be used again.
            let bytes = match Limited::new(body, MAX_ANSWER).collect().await {
                Ok(body) => body.to_bytes().len() as u64,
                Err(_) => {
                    tracing::debug!("answer to a notification not read to its end");
                    0
                }
            };
            Ok((Answer::Status(parts.status.as_u16()), bytes))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(reason)) => (unsent(&reason), 0),
            Err(_) => (Answer::Failed("Timeout was reached"), 0),
        }
    }
}

/// In the words that clients of Orion know from libcurl.
fn unsent(reason: &Unsent) -> Answer {
    match reason {
        Unsent::Scheme => Answer::Refused("Unsupported protocol"),
        Unsent::Refused => Answer::Refused("Link-local address refused"),
        Unsent::Tls => Answer::Failed("Problem with the SSL CA cert"),
        Unsent::Unresolved => Answer::Failed("Could not resolve hostname"),
        Unsent::Timeout => Answer::Failed("Timeout was reached"),
        Unsent::Untrusted => Answer::Failed(UNTRUSTED),
        Unsent::Handshake => Answer::Failed("SSL connect error"),
        Unsent::Unreachable => Answer::Failed("Could not connect to server"),
        Unsent::Unanswered => Answer::Failed("Server returned nothing (no headers, no data)"),
        Unsent::Broken => Answer::Failed("Failure when receiving data from the peer"),
    }
}

/// The certificate is not one to trust.
pub(super) const UNTRUSTED: &str = "SSL peer certificate or SSH remote key was not OK";

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::notification::TlsOptions;

    fn client() -> HttpClient {
        HttpClient::new(Arc::new(Trust::new(TlsOptions::default())))
    }

    fn request(url: &str) -> http::Request<Full<Bytes>> {
        http::Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).unwrap()
    }

    #[tokio::test]
    async fn a_closed_port_is_a_connection_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let request = request(&format!("http://{address}/"));
        let (answer, _) = client().send(request, Duration::from_secs(5)).await;
        assert_eq!(answer, Answer::Failed("Could not connect to server"));
        assert!(answer.is_retryable());
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_answer_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (answer, _) = client().send(request(&url), Duration::from_millis(50)).await;
        assert_eq!(answer, Answer::Failed("Timeout was reached"));
    }

    #[tokio::test]
    async fn any_status_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = client();
        let send = client.send(request(&url), Duration::from_secs(5));
        let answer = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            // An answer that comes before its request would be none.
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                socket.read_buf(&mut request).await.unwrap();
            }
            socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone").await.unwrap();
            socket
        };
        let ((answer, bytes), _socket) = tokio::join!(send, answer);
        assert_eq!((&answer, bytes), (&Answer::Status(404), 4));
        assert!(!answer.is_retryable());
    }

    #[tokio::test]
    async fn link_local_and_unknown_schemes_are_refused_without_a_try() {
        let client = client();
        for url in ["http://169.254.169.254/latest", "https://169.254.169.254/", "ftp://127.0.0.1/"] {
            let (answer, _) = client.send(request(url), Duration::from_secs(1)).await;
            assert!(matches!(answer, Answer::Refused(_)), "{url}: {answer:?}");
        }
    }
}
