//! A context provider on loopback that keeps what it was asked.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Barrier, task::JoinSet};

/// What it does with a request.
#[derive(Clone)]
pub enum Behaviour {
    Answer(String),
    Status(u16),
    /// So many bytes of JSON white space.
    Blank(usize),
    /// Nothing, for ever.
    Never,
    /// The answer, once all others of the barrier were asked too.
    Together(Arc<Barrier>, String),
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
struct Shared {
    behaviour: Behaviour,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub struct Provider {
    address: std::net::SocketAddr,
    shared: Shared,
    _serving: JoinSet<()>,
}

impl Provider {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { behaviour, seen: Arc::default() };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, _serving: serving }
    }

    pub async fn answering(json: &str) -> Self {
        Self::start(Behaviour::Answer(json.to_owned())).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/v2", self.address)
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// The one request that it got.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

async fn answer(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    shared.seen.lock().push(Seen { path: uri.path().to_owned(), headers, body });
    match shared.behaviour {
        Behaviour::Answer(json) => json.into_response(),
        Behaviour::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::Blank(bytes) => " ".repeat(bytes).into_response(),
        Behaviour::Never => std::future::pending().await,
        Behaviour::Together(barrier, json) => {
            barrier.wait().await;
            json.into_response()
        }
    }
}
