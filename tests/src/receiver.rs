//! Receivers of notifications that keep every arrival whole, and are as trying as real ones.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// 204, at once.
    Steady,
    /// 204, after a few milliseconds that differ.
    Slow,
    /// Now and then 503, and now and then it hangs up without an answer; what it got then, it keeps all the same.
    Fickle,
}

/// One notification as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub correlator: String,
    pub body: Bytes,
}

#[derive(Clone)]
struct Desk {
    temper: Temper,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    /// Arrivals that got no 204.
    refused: Arc<AtomicU64>,
}

/// Listens on a port of its own, so that it is an endpoint of its own, until drop of the runtime.
pub struct Receiver {
    address: SocketAddr,
    desk: Desk,
}

impl Receiver {
    /// # Panics
    /// When no port is to be had.
    pub async fn start(temper: Temper) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), temper)
    }

    /// Receives on a port that is open already.
    ///
    /// # Panics
    /// When the port is none.
    pub fn on(listener: TcpListener, temper: Temper) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let desk = Desk { temper, arrivals: Arc::default(), refused: Arc::default() };
        tokio::spawn(serve(listener, desk.clone()));
        Self { address, desk }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// All that came, in order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.desk.arrivals.lock().expect("no receiver panics here").clone()
    }

    pub fn count(&self) -> usize {
        self.desk.arrivals.lock().expect("no receiver panics here").len()
    }

    /// Arrivals that it did not say yes to: each may come once more.
    pub fn refused(&self) -> u64 {
        self.desk.refused.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, desk: Desk) {
    while let Ok((socket, _)) = listener.accept().await {
        let desk = desk.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| receive(desk.clone(), request));
            // Ends with an error when the sender is killed, or when this side hangs up.
            http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

/// An error ends the connection without an answer.
async fn receive(desk: Desk, request: Request<Incoming>) -> io::Result<Response<Empty<Bytes>>> {
    let correlator = request.headers().get("fiware-correlator").and_then(|value| value.to_str().ok());
    let correlator = correlator.unwrap_or_default().to_owned();
    // Half a request is none: its sender was killed in the middle.
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let number = {
        let mut arrivals = desk.arrivals.lock().expect("no receiver panics here");
        arrivals.push(Arrival { correlator, body });
        arrivals.len()
    };
    let is_fickle = desk.temper == Temper::Fickle;
    if is_fickle && (number.is_multiple_of(29) || number.is_multiple_of(11)) {
        desk.refused.fetch_add(1, Ordering::SeqCst);
    }
    if is_fickle && number.is_multiple_of(29) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if desk.temper == Temper::Slow {
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..8))).await;
    }
    let busy = is_fickle && number.is_multiple_of(11);
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = if busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT };
    Ok(answer)
}
