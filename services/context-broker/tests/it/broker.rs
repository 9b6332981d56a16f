//! A running broker and a client that can also send what no client library would.

use std::sync::Arc;

use context_broker::{Config, Deps, Started};
use service_kit::{Clock, ManualClock, Readiness, metrics::Metrics};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// 2026-01-31T10:00:00Z.
pub const NOW_US: i64 = 1_769_853_600_000_000;

pub struct Broker {
    started: Started,
    pub clock: Arc<ManualClock>,
    metrics: Metrics,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// What follows the number in the first line.
    pub reason: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// `request("GET /v2/entities")`.
pub fn request(line: &str) -> Request {
    Request { line: line.to_owned(), headers: Vec::new(), body: None }
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A JSON body with its headers.
    pub fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// A body with its length, but no type.
    pub fn body(mut self, body: &str) -> Self {
        self.headers.push(("Content-Length".to_owned(), body.len().to_string()));
        self.body = Some(body.as_bytes().to_vec());
        self
    }

    /// Bytes after the head, with no length named.
    pub fn raw_body(mut self, bytes: &[u8]) -> Self {
        self.body = Some(bytes.to_vec());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n", self.line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

impl Broker {
    pub async fn start() -> Self {
        let bus = bus::EmbeddedBus::new(bus::EmbeddedOptions::default());
        Self::start_with(Config::default(), Arc::new(bus)).await
    }

    /// With another configuration, over the embedded bus.
    pub async fn configured(config: Config) -> Self {
        Self::start_with(config, Arc::new(bus::EmbeddedBus::default())).await
    }

    /// With some settings changed, over the embedded bus.
    pub async fn with(set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        set(&mut config);
        Self::configured(config).await
    }

    /// With another configuration; ports and data folder are chosen here.
    pub async fn start_with(config: Config, bus: Arc<dyn bus::Bus>) -> Self {
        Self::start_at(config, bus, Arc::new(ManualClock::at_us(NOW_US))).await
    }

    /// The same with a clock that others have too.
    pub async fn start_at(config: Config, bus: Arc<dyn bus::Bus>, clock: Arc<ManualClock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { port: 0, grpc_port: 0, data_dir: dir.path().to_owned(), ..config };
        let metrics = Metrics::new();
        let deps = Deps {
            bus,
            soft_state: Arc::new(soft_state::MemorySoftState::default()),
            clock: clock.clone(),
            readiness: Readiness::new(),
            metrics: metrics.clone(),
        };
        let started = context_broker::start(config, deps).await.unwrap();
        Self { started, clock, metrics, dir }
    }

    /// Where its REST API is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.started.running.addresses()["http"])
    }

    /// Its metrics as text.
    pub fn metrics(&self) -> String {
        self.metrics.encode()
    }

    pub fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Sends one request on a connection of its own.
    pub async fn send(&self, request: Request) -> Reply {
        let address = self.started.running.addresses()["http"];
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The broker may answer and close before it has taken all.
        let _unread = stream.write_all(&request.bytes()).await;
        let mut bytes = Vec::new();
        let _reset = stream.read_to_end(&mut bytes).await;
        parse(&String::from_utf8(bytes).unwrap(), &request)
    }

    /// Sends a head, then all of a body in parts, and reads how the answer begins. An error: the connection broke before.
    pub async fn raw_slowly(&self, head: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.started.running.addresses()["http"]).await?;
        stream.write_all(head.as_bytes()).await?;
        for part in body.as_bytes().chunks(50_000) {
            stream.write_all(part).await?;
            tokio::task::yield_now().await;
        }
        let mut begin = [0; 64];
        let length = stream.read(&mut begin).await?;
        Ok(String::from_utf8_lossy(&begin[..length]).into_owned())
    }

    /// Sends a request and compares status and body to the letter.
    pub async fn expect(&self, request: Request, status: u16, body: &str) -> Reply {
        let reply = self.send(request.clone()).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{request:?}");
        reply
    }

    /// Sends a request and compares status and error body.
    pub async fn refuses(&self, request: Request, status: u16, error: &str, description: &str) {
        let body = format!(r#"{{"error":"{error}","description":"{description}"}}"#);
        self.expect(request, status, &body).await;
    }

    /// Reads `path` until `holds`; at most ten seconds.
    pub async fn until(&self, path: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let reply = self.send(request(&format!("GET {path}"))).await;
            let body = serde_json::from_str(&reply.body).unwrap();
            if holds(&body) {
                return body;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {body}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Creates an entity, later than the ones before.
    pub async fn given(&self, entity: &str) {
        self.clock.set_us(self.clock.now_us() + 1);
        let reply = self.send(request("POST /v2/entities").json(entity)).await;
        assert_eq!(reply.status, 201, "{entity}: {}", reply.body);
    }
}

fn parse(text: &str, request: &Request) -> Reply {
    let (head, body) =
        text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}: {text:?}"));
    let mut lines = head.lines();
    let (_, line) = lines.next().unwrap().split_once(' ').unwrap();
    let (status, reason) = line.split_once(' ').unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Reply { status: status.parse().unwrap(), reason: reason.to_owned(), headers, body: body.to_owned() }
}
