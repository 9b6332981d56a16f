//! One connection: messages in, answers out, in order.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, QoS,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{CONNECT_WITHIN, MAX_MESSAGE, Message, PublishError, Qos, Server};

/// Messages that wait to be written.
const QUEUE: usize = 1000;
/// Messages whose answer is awaited.
const IN_FLIGHT: u16 = 100;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

type Done = oneshot::Sender<Result<(), PublishError>>;

pub(crate) struct Connection {
    client: AsyncClient,
    shared: Arc<Mutex<Waiting>>,
}

/// Who waits for what.
struct Waiting {
    /// Handed to the client, not written yet; in order.
    unwritten: VecDeque<(Qos, Done)>,
    /// Written, by packet id.
    unanswered: HashMap<u16, Done>,
    last_use: Instant,
    closed: bool,
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.unwritten.is_empty() && self.unanswered.is_empty()
    }

    /// Nothing comes any more.
    fn close(&mut self, error: &PublishError) {
        self.closed = true;
        let unwritten = self.unwritten.drain(..).map(|(_, done)| done);
        for done in unwritten.chain(self.unanswered.drain().map(|(_, done)| done)) {
            done.send(Err(error.clone())).ok();
        }
    }

    fn answered(&mut self, packet: u16) {
        if let Some(done) = self.unanswered.remove(&packet) {
            done.send(Ok(())).ok();
        }
    }

    fn written(&mut self, packet: u16) {
        match self.unwritten.pop_front() {
            Some((Qos::AtMostOnce, done)) => drop(done.send(Ok(()))),
            Some((_, done)) => drop(self.unanswered.insert(packet, done)),
            None => tracing::debug!(packet, "a message was written that nobody waits for"),
        }
    }
}

impl Connection {
    /// Connects and is let in.
    pub(crate) async fn open(
        address: SocketAddr,
        server: &Server,
        max_idle: Duration,
        tasks: &TaskTracker,
    ) -> Result<Self, PublishError> {
        let id = format!("thingmesh-{:016x}", rand::random::<u64>());
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(IN_FLIGHT);
        options.set_max_packet_size(MAX_MESSAGE, MAX_MESSAGE);
        if let Some((user, password)) = &server.login {
            options.set_credentials(user, password);
        }
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_WITHIN.as_secs());
        events.set_network_options(network);
        loop {
            let event = events.poll().await.map_err(|error| unavailable(&error))?;
            if let Event::Incoming(Packet::ConnAck(_)) = event {
                break;
            }
        }
        let waiting = Waiting {
            unwritten: VecDeque::new(),
            unanswered: HashMap::new(),
            last_use: Instant::now(),
            closed: false,
        };
        let shared = Arc::new(Mutex::new(waiting));
        tasks.spawn(run(events, shared.clone(), max_idle));
        Ok(Self { client, shared })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    pub(crate) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let Message { topic, payload, qos, retain } = message;
        let level = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        let (done, answer) = oneshot::channel();
        {
            // Both queues grow under one lock: what is written next is always what waits first.
            let mut waiting = self.shared.lock();
            if waiting.closed {
                return Err(closed());
            }
            waiting.last_use = Instant::now();
            let taken = self.client.try_publish(topic, level, retain, payload);
            taken.map_err(|_| PublishError::Unavailable("too many messages wait".to_owned()))?;
            waiting.unwritten.push_back((qos, done));
        }
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> PublishError {
    PublishError::Unavailable("the connection was closed".to_owned())
}

/// Drives the connection until it fails or nobody used it for long.
async fn run(mut events: EventLoop, shared: Arc<Mutex<Waiting>>, max_idle: Duration) {
    let error = loop {
        let idle_at = shared.lock().last_use + max_idle;
        tokio::select! {
            event = events.poll() => match event {
                Ok(event) => take(&event, &mut shared.lock()),
                Err(error) => break unavailable(&error),
            },
            () = tokio::time::sleep_until(idle_at) => {
                let mut waiting = shared.lock();
                if waiting.is_idle() && waiting.last_use + max_idle <= Instant::now() {
                    waiting.close(&closed());
                    return;
                }
            }
        }
    };
    shared.lock().close(&error);
}

fn take(event: &Event, waiting: &mut Waiting) {
    match event {
        Event::Outgoing(Outgoing::Publish(packet)) => waiting.written(*packet),
        Event::Incoming(Packet::PubAck(answer)) => waiting.answered(answer.pkid),
        Event::Incoming(Packet::PubComp(answer)) => waiting.answered(answer.pkid),
        _ => {}
    }
}

fn unavailable(error: &ConnectionError) -> PublishError {
    match error {
        ConnectionError::ConnectionRefused(code) => PublishError::NotAllowed(format!("{code:?}")),
        other => PublishError::Unavailable(other.to_string()),
    }
}
