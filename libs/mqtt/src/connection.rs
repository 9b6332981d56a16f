//! One connection: messages in, answers out, in order.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use bytes::{Buf, BytesMut};
use rumqttc::{
    Connect, ConnectReturnCode, Login, Packet, PubRel, Publish, QoS,
    mqttbytes::{Error as CodecError, v4::PubComp},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{CONNECT_WITHIN, MAX_MESSAGE, Message, PublishError, Qos, Server, stream::Stream};

/// Messages that wait to be written.
const QUEUE: usize = 1000;
/// Messages whose answer is awaited. Far fewer than there are packet ids.
const IN_FLIGHT: usize = 100;
/// Largest packet that a server may send: to a client that subscribes to nothing it sends answers only.
const MAX_ANSWER: usize = 64 * 1024;
/// What is written at once, about.
const MAX_WRITE: usize = 256 * 1024;
/// What the server is told: a client that is silent for longer (and half of it) is gone.
const KEEP_ALIVE_S: u16 = 30;
/// How often a server that says nothing is asked whether it is there; it has as long to answer.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// A server that takes nothing for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

type Done = oneshot::Sender<Result<(), PublishError>>;

pub(crate) struct Connection {
    requests: mpsc::Sender<(Message, Done)>,
}

impl Connection {
    /// Connects and is let in.
    pub(crate) async fn open(
        address: SocketAddr,
        server: &Server,
        tls: Option<&tokio_rustls::TlsConnector>,
        max_idle: Duration,
        tasks: &TaskTracker,
    ) -> Result<Self, PublishError> {
        let opened = async {
            let stream = Stream::open(address, &server.host, tls).await?;
            let mut wire = Wire { stream, incoming: BytesMut::new(), outgoing: BytesMut::new() };
            wire.log_in(server).await?;
            Ok(wire)
        };
        let late = |_| PublishError::Unavailable("not connected in time".to_owned());
        let wire = timeout(CONNECT_WITHIN, opened).await.map_err(late)??;
        let (requests, waiting) = mpsc::channel(QUEUE);
        let driver = Driver {
            wire,
            waiting,
            unanswered: HashMap::new(),
            last_packet: 0,
            last_use: Instant::now(),
            max_idle,
            asked: false,
            heard: true,
        };
        tasks.spawn(driver.run());
        Ok(Self { requests })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    pub(crate) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let (done, answer) = oneshot::channel();
        self.requests.try_send((message, done)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                PublishError::Unavailable("too many messages wait".to_owned())
            }
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> PublishError {
    PublishError::Unavailable("the connection was closed".to_owned())
}

fn broken(error: impl std::fmt::Display) -> PublishError {
    PublishError::Unavailable(error.to_string())
}

/// Packets over a stream.
struct Wire {
    stream: Stream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Wire {
    async fn log_in(&mut self, server: &Server) -> Result<(), PublishError> {
        let mut connect = Connect::new(format!("thingmesh-{:016x}", rand::random::<u64>()));
        connect.keep_alive = KEEP_ALIVE_S;
        connect.clean_session = true;
        connect.login = server.login.as_ref().map(|(user, password)| Login::new(user, password));
        self.put(&Packet::Connect(connect))?;
        self.flush().await?;
        match self.read().await? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => Ok(()),
            Packet::ConnAck(answer) => Err(PublishError::NotAllowed(format!("{:?}", answer.code))),
            other => Err(broken(format!("the server began with {other:?}"))),
        }
    }

    fn put(&mut self, packet: &Packet) -> Result<(), PublishError> {
        packet.write(&mut self.outgoing, MAX_MESSAGE).map(drop).map_err(broken)
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        let written = async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await
        };
        timeout(WRITE_WITHIN, written)
            .await
            .map_err(|_| broken("the server takes nothing"))?
            .map_err(broken)?;
        if self.outgoing.capacity() > 4 * MAX_WRITE {
            // One large message does not hold its memory for ever.
            self.outgoing = BytesMut::new();
        }
        self.outgoing.clear();
        Ok(())
    }

    /// The next packet. Nothing is lost when this is dropped half-way.
    async fn read(&mut self) -> Result<Packet, PublishError> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.incoming).await.map_err(broken)? == 0 {
                return Err(broken("the server closed the connection"));
            }
        }
    }

    /// A packet that has come wholly.
    fn take(&mut self) -> Result<Option<Packet>, PublishError> {
        if !self.incoming.has_remaining() {
            return Ok(None);
        }
        match Packet::read(&mut self.incoming, MAX_ANSWER) {
            Ok(packet) => Ok(Some(packet)),
            Err(CodecError::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(broken(error)),
        }
    }
}

/// Drives the connection until it fails, nobody used it for long, or nobody can use it any more.
struct Driver {
    wire: Wire,
    waiting: mpsc::Receiver<(Message, Done)>,
    /// Written, by packet id.
    unanswered: HashMap<u16, (Qos, Done)>,
    last_packet: u16,
    last_use: Instant,
    max_idle: Duration,
    /// A ping is under way.
    asked: bool,
    /// Something came since the last tick.
    heard: bool,
}

impl Driver {
    async fn run(mut self) {
        let error = match self.serve().await {
            Ok(()) => closed(),
            Err(error) => error,
        };
        self.waiting.close();
        while let Ok((_, done)) = self.waiting.try_recv() {
            done.send(Err(error.clone())).ok();
        }
        for (_, (_, done)) in self.unanswered.drain() {
            done.send(Err(error.clone())).ok();
        }
    }

    async fn serve(&mut self) -> Result<(), PublishError> {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.unanswered.len() < IN_FLIGHT;
            let is_idle = self.unanswered.is_empty();
            tokio::select! {
                packet = self.wire.read() => self.take(&packet?).await?,
                request = self.waiting.recv(), if has_room => match request {
                    Some(first) => self.publish(first).await?,
                    None if is_idle => return self.leave().await,
                    // Nobody waits for the answers either.
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.ask().await?,
                () = sleep_until(self.last_use + self.max_idle), if is_idle => return self.leave().await,
            }
        }
    }

    /// Writes a message, and those that wait behind it.
    async fn publish(&mut self, first: (Message, Done)) -> Result<(), PublishError> {
        self.last_use = Instant::now();
        let mut written = Vec::new();
        let mut next = Some(first);
        while let Some((message, done)) = next {
            if message.qos == Qos::AtMostOnce {
                self.put(message, 0)?;
                written.push(done);
            } else {
                let (packet, qos) = (self.free_packet(), message.qos);
                self.put(message, packet)?;
                self.unanswered.insert(packet, (qos, done));
            }
            let is_full = self.unanswered.len() >= IN_FLIGHT || self.wire.outgoing.len() >= MAX_WRITE;
            next = if is_full { None } else { self.waiting.try_recv().ok() };
        }
        self.wire.flush().await?;
        for done in written {
            done.send(Ok(())).ok();
        }
        Ok(())
    }

    fn put(&mut self, message: Message, packet: u16) -> Result<(), PublishError> {
        let Message { topic, payload, qos, retain } = message;
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        let mut publish = Publish::from_bytes(topic, qos, payload);
        publish.retain = retain;
        publish.pkid = packet;
        self.wire.put(&Packet::Publish(publish))
    }

    fn free_packet(&mut self) -> u16 {
        loop {
            self.last_packet = self.last_packet.checked_add(1).unwrap_or(1);
            if !self.unanswered.contains_key(&self.last_packet) {
                return self.last_packet;
            }
        }
    }

    async fn take(&mut self, packet: &Packet) -> Result<(), PublishError> {
        (self.heard, self.asked) = (true, false);
        match packet {
            Packet::PubAck(answer) => self.answered(answer.pkid, Qos::AtLeastOnce),
            // The server has it; what follows only lets it forget the packet.
            Packet::PubRec(answer) => {
                self.wire.put(&Packet::PubRel(PubRel::new(answer.pkid)))?;
                self.wire.flush().await?;
            }
            Packet::PubComp(PubComp { pkid }) => self.answered(*pkid, Qos::ExactlyOnce),
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, packet: u16, qos: Qos) {
        if self.unanswered.get(&packet).is_some_and(|(own, _)| *own == qos)
            && let Some((_, done)) = self.unanswered.remove(&packet)
        {
            done.send(Ok(())).ok();
        }
    }

    /// Asks a silent server whether it is there.
    async fn ask(&mut self) -> Result<(), PublishError> {
        if std::mem::take(&mut self.heard) {
            return Ok(());
        }
        if self.asked {
            return Err(broken("the server is silent"));
        }
        self.asked = true;
        self.wire.put(&Packet::PingReq)?;
        self.wire.flush().await
    }

    async fn leave(&mut self) -> Result<(), PublishError> {
        self.wire.put(&Packet::Disconnect)?;
        self.wire.flush().await?;
        self.wire.stream.shutdown().await.map_err(broken)
    }
}
