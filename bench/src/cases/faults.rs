//! Updates beside subscriptions to many endpoints, of which some hang and some are away.
//!
//! The same endpoints are well in all phases, and what they are told is what is compared: first nobody else is subscribed,
//! then the others are and answer too, then they hang or are away. So the last phase does all of the first and, on top, what
//! bad endpoints cost: their subscriptions match, their notifications are kept, tried again and dropped.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{Router, extract::State, http::StatusCode};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::{net::TcpListener, sync::mpsc};

use super::{Bench, seed, sink::changed_value, until};
use crate::{
    load::{Load, Outcome, Requests, call, drive, histogram, request},
    machine,
    mesh::{FILLING, Mesh, json_headers, tenant_headers},
};

/// Subscriptions that match each update, each to another endpoint.
const RECEIVERS: u64 = 5;
/// Of those: the first hangs, the second is away.
const BAD: u64 = 2;
/// Rooms that share their subscriptions.
const GROUP: u64 = 10;
/// Notifications that are kept for one endpoint: few, so that the bound is reached.
const KEPT: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What bad endpoints cost the others.
pub struct Faults {
    pub entities: u64,
    pub subscriptions: u64,
    pub endpoints: u64,
    /// Of the endpoints, so many hang and as many are away in the last phase.
    pub bad: u64,
    /// How long it took to make the subscriptions one by one, over so many connections.
    pub subscribing: Duration,
    pub connections: usize,
    /// Updates per second.
    pub rate: f64,
    pub phases: Vec<Phase>,
    /// Notifications that the broker counts as dropped, and as waiting, at the end.
    pub dropped: u64,
    pub pending: u64,
    /// Of the first thousand subscriptions those that say of themselves that their receiver fails.
    pub failing: usize,
    pub listed: usize,
}

/// The same load beside other subscriptions.
pub struct Phase {
    pub title: &'static str,
    pub updates: Outcome,
    /// From an update's sending to its arrival at an endpoint that is well in all phases; nanoseconds.
    pub deliveries: Histogram<u64>,
    /// Of the server, per update.
    pub cpu: Duration,
    pub resident: u64,
    pub load_average: f64,
}

impl Faults {
    /// CPU per update with bad endpoints, as a multiple of that while all of them answer.
    pub fn growth(&self) -> f64 {
        self.last_beside(1)
    }

    /// CPU per update with bad endpoints, as a multiple of that with the good ones alone, when less is to be told.
    pub fn growth_of_the_good(&self) -> f64 {
        self.last_beside(0)
    }

    fn last_beside(&self, phase: usize) -> f64 {
        match (self.phases.get(phase), self.phases.last()) {
            (Some(without), Some(with)) => with.cpu.as_secs_f64() / without.cpu.as_secs_f64().max(1e-9),
            _ => f64::NAN,
        }
    }

    /// Subscriptions made per second.
    pub fn subscribed_per_second(&self) -> f64 {
        self.subscriptions as f64 / self.subscribing.as_secs_f64().max(1e-9)
    }
}

pub(super) fn faults(bench: &Bench) -> Result<Faults> {
    let entities = bench.sizes.million;
    let groups = (entities / (GROUP * RECEIVERS)).max(1);
    let is_quick = bench.effort.steady < Duration::from_secs(2);
    let (endpoints, rate, duration) =
        if is_quick { (25, 20.0, Duration::from_secs(1)) } else { (500, 200.0, Duration::from_secs(20)) };
    let mesh = bench.mesh_with(&format!("[context-broker.notification]\nmax_per_endpoint = {KEPT}\n"))?;
    mesh.fill(mesh.broker(), seed::batches(0, entities), "making entities", &seed::rooms(0, entities))?;
    let receivers = Receivers::start(endpoints)?;
    let good = RECEIVERS - BAD;
    let subscribe = |first: u64, per_group: u64, what: &str| {
        let requests = subscribe(receivers.addresses.clone(), first, per_group);
        mesh.fill(mesh.broker(), groups * per_group, what, &requests)
    };
    let mut phases = Vec::new();
    let run = Run { bench, mesh: &mesh, receivers: &receivers, rooms: groups * GROUP, rate };
    let warm_up = Duration::from_secs(1);

    let mut subscribing = subscribe(BAD, good, "subscribing the good")?;
    run.phase("warm-up", 0, warm_up, good)?;
    phases.push(run.phase("the good alone", 1, duration, good)?);
    subscribing += subscribe(0, BAD, "subscribing the others")?;
    run.phase("warm-up", 2, warm_up, RECEIVERS)?;
    phases.push(run.phase("the others too, all answer", 3, duration, RECEIVERS)?);
    receivers.spoil()?;
    phases.push(run.phase("the others hang or are away", 4, duration, good)?);

    let metric = |name: &str| metric(&mesh, &format!("thingmesh_context_broker_{name}"));
    let bad = endpoints / RECEIVERS;
    let (failing, listed) = failing(&mesh)?;
    Ok(Faults {
        entities,
        subscriptions: groups * RECEIVERS,
        endpoints,
        bad,
        subscribing,
        connections: FILLING,
        rate,
        phases,
        dropped: metric("notifications_dropped_total")?,
        pending: metric("pending_deliveries")?,
        failing,
        listed,
    })
}

struct Run<'a> {
    bench: &'a Bench,
    mesh: &'a Mesh,
    receivers: &'a Receivers,
    rooms: u64,
    rate: f64,
}

impl Run<'_> {
    /// Updates at the fixed rate; ends when each was told to `told` endpoints. `number` keeps the values of phases apart.
    fn phase(&self, title: &'static str, number: u64, duration: Duration, told: u64) -> Result<Phase> {
        self.receivers.forget();
        let server = &self.mesh.server;
        let before = server.cpu()?;
        let requests = self.receivers.noting(&seed::patches(self.rooms), number * 10_000_000);
        let target = self.bench.target(self.mesh.broker());
        let started = Instant::now();
        let updates = drive(target, &requests, Load::Open { rate: self.rate, duration })?.all_well(title)?;
        let wanted = updates.done * told;
        while self.receivers.arrived() < wanted {
            anyhow::ensure!(
                started.elapsed() < duration + PATIENCE,
                "{title}: {} of {wanted} notifications arrived",
                self.receivers.arrived()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Phase {
            title,
            cpu: server.cpu()?.saturating_sub(before).div_f64(updates.done.max(1) as f64),
            updates,
            deliveries: self.receivers.latency(),
            resident: server.resident()?,
            load_average: machine::load_average(),
        })
    }
}

/// Request `n` subscribes one of the endpoints `first..first + per_group`, of the five of its group, to the rooms of the group,
/// which have the begin of their names in common.
fn subscribe(addresses: Vec<SocketAddr>, first: u64, per_group: u64) -> Requests {
    Arc::new(move |n, out| {
        let group = n / per_group;
        let endpoint = group * RECEIVERS + first + n % per_group;
        let room = seed::room(group * GROUP);
        let begin = room.strip_suffix('0').unwrap_or(&room);
        let address = addresses[usize::try_from(endpoint).unwrap_or_default() % addresses.len()];
        let body = format!(
            r#"{{"subject":{{"entities":[{{"idPattern":"^{begin}","type":"Room"}}],"condition":{{"attrs":["temperature"]}}}},"notification":{{"http":{{"url":"http://{address}/"}},"attrs":["temperature"]}}}}"#
        );
        request(out, "POST", "/v2/subscriptions", &json_headers(), body.as_bytes());
    })
}

/// How many of the first thousand subscriptions say that their receiver fails.
fn failing(mesh: &Mesh) -> Result<(usize, usize)> {
    let path = "/v2/subscriptions?options=deliveryHealth&limit=1000";
    let headers = tenant_headers();
    let list = || -> Result<Vec<serde_json::Value>> {
        let (status, _, body) = call(mesh.broker(), |out| request(out, "GET", path, &headers, &[]))?;
        anyhow::ensure!(status == 200, "{path}: {status}");
        Ok(serde_json::from_slice(&body)?)
    };
    let all = list()?;
    let bad = |one: &&serde_json::Value| {
        matches!(one["deliveryHealth"]["state"].as_str(), Some("failing" | "retrying"))
    };
    Ok((all.iter().filter(bad).count(), all.len()))
}

fn metric(mesh: &Mesh, name: &str) -> Result<u64> {
    let mut found = None;
    until(Instant::now(), || {
        let (_, _, body) = call(mesh.admin(), |out| request(out, "GET", "/metrics", "", &[]))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found = line.and_then(|number| number.trim().parse::<f64>().ok());
        Ok(found.is_some())
    })?;
    Ok(found.with_context(|| format!("no {name}"))? as u64)
}

/// Endpoints, each with a port of its own, on a thread of their own.
struct Receivers {
    addresses: Vec<SocketAddr>,
    seen: Arc<Mutex<Seen>>,
    is_spoilt: Arc<AtomicBool>,
    spoil: mpsc::Sender<()>,
}

#[derive(Default)]
struct Seen {
    /// When the update to a value was sent.
    sent: HashMap<u64, Instant>,
    arrived: u64,
    latency: Option<Histogram<u64>>,
}

/// One of them.
#[derive(Clone)]
struct Endpoint {
    number: u64,
    seen: Arc<Mutex<Seen>>,
    is_spoilt: Arc<AtomicBool>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receivers {
    fn start(count: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (seen, is_spoilt) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (spoil, mut spoilt) = mpsc::channel::<()>(1);
        let listeners = (0..count).map(|_| runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
        let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
        let endpoint = Endpoint { number: 0, seen: seen.clone(), is_spoilt: is_spoilt.clone() };
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let mut leaving = Vec::new();
                for (number, listener) in (0..).zip(listeners) {
                    let endpoint = Endpoint { number, ..endpoint.clone() };
                    let is_leaving = endpoint.goes_away();
                    let router = Router::new().fallback(receive).with_state(endpoint);
                    let served = tokio::spawn(axum::serve(listener, router).into_future());
                    leaving.extend(is_leaving.then_some(served));
                }
                // Closing their ports refuses connections; the other ones stay until this side ends.
                if spoilt.recv().await.is_some() {
                    leaving.iter().for_each(tokio::task::JoinHandle::abort);
                }
                while spoilt.recv().await.is_some() {}
            });
        });
        Ok(Self { addresses, seen, is_spoilt, spoil })
    }

    /// From here on the bad ones are bad.
    fn spoil(&self) -> Result<()> {
        self.is_spoilt.store(true, Ordering::SeqCst);
        self.spoil.blocking_send(()).context("the receivers have ended")
    }

    fn forget(&self) {
        *lock(&self.seen) = Seen::default();
    }

    fn arrived(&self) -> u64 {
        lock(&self.seen).arrived
    }

    fn latency(&self) -> Histogram<u64> {
        lock(&self.seen).latency.take().unwrap_or_else(histogram)
    }

    /// The same requests with values from `first` on; notes when each was handed to its connection.
    fn noting(&self, requests: &Requests, first: u64) -> Requests {
        let (requests, seen) = (requests.clone(), self.seen.clone());
        Arc::new(move |n, out| {
            let value = first + n;
            lock(&seen).sent.insert(value, Instant::now());
            requests(value, out);
        })
    }
}

impl Endpoint {
    fn hangs(&self) -> bool {
        self.number.is_multiple_of(RECEIVERS)
    }

    fn goes_away(&self) -> bool {
        self.number % RECEIVERS == 1
    }
}

async fn receive(State(endpoint): State<Endpoint>, body: Bytes) -> StatusCode {
    let now = Instant::now();
    if endpoint.is_spoilt.load(Ordering::SeqCst) {
        if endpoint.hangs() {
            return std::future::pending().await;
        }
        // On a connection from before: new ones are refused.
        if endpoint.goes_away() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    let mut seen = lock(&endpoint.seen);
    // What is left over from the phase before is not known any more.
    let sent = changed_value(&body).and_then(|value| seen.sent.get(&value).copied());
    if let Some(sent) = sent {
        seen.arrived += 1;
        if !endpoint.hangs() && !endpoint.goes_away() {
            let nanos = u64::try_from(now.duration_since(sent).as_nanos()).unwrap_or(u64::MAX);
            seen.latency.get_or_insert_with(histogram).saturating_record(nanos.max(1));
        }
    }
    StatusCode::NO_CONTENT
}
