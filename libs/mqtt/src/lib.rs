//! Publishes messages on MQTT servers (3.1.1), over TCP or TLS: connections are made at first use, shared, and closed after idling.
//!
//! ```text
//! publish(server, message) ─► one connection per server and login ─► answered when the server has it (QoS 1, 2),
//!                                                                   or when it is written (QoS 0)
//! ```
//!
//! A connection that fails fails all that is on its way over it, and the next message makes a new one: whoever publishes
//! decides what to send again, so no message is ever repeated behind its back.

mod connection;
mod stream;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_rustls::{TlsConnector, rustls::ClientConfig};
use tokio_util::task::TaskTracker;

use connection::Connection;

/// Largest message, bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where to publish, and as whom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub host: String,
    pub port: u16,
    /// Whether it is reached over TLS (`mqtts`).
    pub secure: bool,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Server");
        shown.field("host", &self.host).field("port", &self.port).field("secure", &self.secure);
        shown.finish_non_exhaustive()
    }
}

/// How surely a message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The server is away, or went away: try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The server does not let this client in.
    #[error("connection refused: {0}")]
    NotAllowed(String),
    /// Nobody vouches for the server's certificate, or it is another's.
    #[error("certificate refused: {0}")]
    Untrusted(String),
    /// TLS can not be used: this end's settings are wrong.
    #[error("no TLS: {0}")]
    Tls(String),
    /// This message can never be published.
    #[error("{0}")]
    Refused(String),
    #[error("no answer in time")]
    Timeout,
}

/// Finds the addresses of a host, those that may be reached.
pub type Resolve =
    Arc<dyn Fn(String, u16) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Whom to trust, asked for at each TLS connection; the error says why there is none.
pub type Trust = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<ClientConfig>, String>> + Send + Sync>;

/// Publishes on any number of servers. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    resolve: Resolve,
    trust: Trust,
    /// A connection that nobody used for this long is closed.
    max_idle: Duration,
    connections: Mutex<HashMap<Server, Slot>>,
    tasks: TaskTracker,
}

type Slot = Arc<OnceCell<Connection>>;

impl Publisher {
    pub fn new(resolve: Resolve, trust: Trust, max_idle: Duration) -> Self {
        let (connections, tasks) = (Mutex::default(), TaskTracker::new());
        let shared = Shared { resolve, trust, max_idle, connections, tasks };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes one message; connecting and the server's answer are waited for, at most `timeout` in all.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        server: &Server,
        message: Message,
        timeout: Duration,
    ) -> Result<(), PublishError> {
        check(&message)?;
        let published = async {
            let slot = self.slot(server);
            let connection = slot.get_or_try_init(|| self.connect(server)).await?;
            let done = connection.publish(message).await;
            if connection.is_closed() {
                self.forget(server, &slot);
            }
            done
        };
        tokio::time::timeout(timeout, published).await.unwrap_or(Err(PublishError::Timeout))
    }

    /// The server's connection, or the place for it.
    fn slot(&self, server: &Server) -> Slot {
        let mut connections = self.shared.connections.lock();
        connections.retain(|_, slot| slot.get().is_none_or(|connection| !connection.is_closed()));
        connections.entry(server.clone()).or_default().clone()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        let connections = self.shared.connections.lock();
        connections.values().filter(|slot| slot.get().is_some_and(|open| !open.is_closed())).count()
    }

    fn forget(&self, server: &Server, slot: &Slot) {
        let mut connections = self.shared.connections.lock();
        if connections.get(server).is_some_and(|own| Arc::ptr_eq(own, slot)) {
            connections.remove(server);
        }
    }

    async fn connect(&self, server: &Server) -> Result<Connection, PublishError> {
        let away = |error: std::io::Error| PublishError::Unavailable(error.to_string());
        let addresses = (self.shared.resolve)(server.host.clone(), server.port).await.map_err(away)?;
        let tls = match server.secure {
            true => Some(TlsConnector::from((self.shared.trust)().await.map_err(PublishError::Tls)?)),
            false => None,
        };
        let (tls, max_idle) = (tls.as_ref(), self.shared.max_idle);
        let mut last = PublishError::Unavailable("no address".to_owned());
        for address in addresses {
            match Connection::open(address, server, tls, max_idle, &self.shared.tasks).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn check(message: &Message) -> Result<(), PublishError> {
    let topic = &message.topic;
    if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.contains(['+', '#', '\0']) {
        return Err(PublishError::Refused("the topic can not be published to".to_owned()));
    }
    if message.payload.len() + topic.len() + 16 > MAX_MESSAGE {
        return Err(PublishError::Refused("the message is too large".to_owned()));
    }
    Ok(())
}
