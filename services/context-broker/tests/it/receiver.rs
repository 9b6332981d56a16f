//! A server that is notified.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore, mpsc},
    task::JoinHandle,
};

use crate::started::DEADLINE;

pub(crate) struct Notified {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Mutex<mpsc::Receiver<Notified>>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    sender: mpsc::Sender<Notified>,
    status: AtomicU16,
    /// A request is answered only with a permit.
    gate: Semaphore,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Semaphore::MAX_PERMITS)
    }

    /// Takes requests and answers none until [`Receiver::open`].
    pub(crate) async fn silent() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), 0)
    }

    #[allow(clippy::disallowed_methods, reason = "a server of the test, ended with it")]
    pub(crate) fn on(listener: TcpListener, permits: usize) -> Self {
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let (sender, received) = mpsc::channel(10_000);
        let shared = Arc::new(Shared { sender, status: AtomicU16::new(204), gate: Semaphore::new(permits) });
        let router = Router::new().fallback(any(take)).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, received: Mutex::new(received), shared, server }
    }

    pub(crate) fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.shared.gate.add_permits(1000);
    }

    pub(crate) async fn next(&self) -> Notified {
        let mut received = self.received.lock().await;
        tokio::time::timeout(DEADLINE, received.recv()).await.expect("a notification in time").unwrap()
    }

    /// What has come and was not taken yet.
    pub(crate) async fn is_empty(&self) -> bool {
        self.received.lock().await.is_empty()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    shared.sender.send(Notified { headers, body }).await.unwrap();
    shared.gate.acquire().await.unwrap().forget();
    StatusCode::from_u16(shared.status.load(Ordering::SeqCst)).unwrap()
}
