//! Requests that no proper client would send: bytes on a socket.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A connection that is spoken to in bytes.
pub struct Raw(TcpStream);

impl Raw {
    /// # Panics
    /// When nobody listens.
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        Self(stream.unwrap_or_else(|error| panic!("port {port}: {error}")))
    }

    /// Sends; false when the other end does not take it any more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(LIMIT, self.0.write_all(bytes)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// Says that nothing more comes, and goes on reading.
    pub async fn half_close(&mut self) {
        self.0.shutdown().await.expect("a connected socket can be closed on one side");
    }

    /// All that comes until the other end closes.
    ///
    /// # Panics
    /// When it does not close in time.
    pub async fn read_to_end(mut self) -> String {
        let mut bytes = Vec::new();
        let read = async {
            let mut part = [0; 4096];
            // A reset after an early answer is an end like any other.
            while let Ok(length @ 1..) = self.0.read(&mut part).await {
                bytes.extend_from_slice(&part[..length]);
            }
        };
        let ended = tokio::time::timeout(LIMIT, read).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(ended.is_ok(), "still open after {LIMIT:?}; so far: {text}");
        text
    }
}

/// Sends everything and reads to the end.
pub async fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut raw = Raw::connect(port).await;
    raw.send(bytes).await;
    raw.read_to_end().await
}

/// The status of an answer's text; 0 when it is none.
pub fn status(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}
