//! A receiver of notifications that answers 200 and keeps what it got.

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
};

/// Longest wait for a notification.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

pub struct Sink {
    address: std::net::SocketAddr,
    received: mpsc::Receiver<Received>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
pub struct Received {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Sink {
    pub async fn start() -> Self {
        Self::answering("200 OK").await
    }

    /// Answers with another status.
    pub async fn answering(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::channel(100);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, sender.clone(), status, ""));
            }
        });
        Self { address, received, _accepting: accepting }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Takes what has come; whether there was anything.
    pub fn took(&mut self) -> bool {
        std::iter::from_fn(|| self.received.try_recv().ok()).count() > 0
    }

    /// The next notification.
    pub async fn next(&mut self) -> Received {
        tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("no notification came").unwrap()
    }
}

/// Takes requests from `stream` and answers each with `status` and `body`.
pub async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    sender: mpsc::Sender<Received>,
    status: &str,
    body: &str,
) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = read(&mut stream).await {
        sender.send(received).await.unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut received = Received { line: line.trim_end().to_owned(), headers, body: String::new() };
    let length = received.header("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    received.body = String::from_utf8(body).unwrap();
    Some(received)
}
