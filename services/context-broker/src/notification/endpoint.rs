//! The queue of one endpoint: sends in order within each lane, many lanes at once, and waits when the receiver is away.
//!
//! ```text
//! store ─ window of the oldest ─► lanes (subscription and entity) ─► at most `concurrency` requests ─► one Fate each
//!          ▲                                                                    │
//!          └──────────────── recorded, lane goes on ◄───────────────────────────┘
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    delivery::Delivery,
    pending::{Completion, Fate, Pending},
};

/// Deliveries held in memory per endpoint.
const WINDOW: u32 = 512;
/// First pause after a failure; doubled up to the configured longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Endpoint {
    delivery: Arc<Delivery>,
    url: String,
    lanes: HashMap<String, VecDeque<Pending>>,
    /// Lanes with something to send and nothing in flight.
    ready: VecDeque<String>,
    /// Lanes with a request in flight.
    busy: HashSet<String>,
    /// Everything in memory, in flight or not.
    known: HashSet<i64>,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// The store may hold more than the window.
    more: bool,
    failures: u32,
    not_before: Option<Instant>,
}

struct Sent {
    pending: Pending,
    fate: Fate,
    recorded: bool,
}

impl Endpoint {
    pub(super) fn new(delivery: Arc<Delivery>, url: String) -> Self {
        Self {
            delivery,
            url,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            busy: HashSet::new(),
            known: HashSet::new(),
            in_flight: FuturesUnordered::new(),
            more: true,
            failures: 0,
            not_before: None,
        }
    }

    /// Works until nothing waits and nobody has called for `idle`, or until `stop`; what is in flight then is finished.
    /// Answers the last call that it saw.
    pub(super) async fn run(
        mut self,
        mut calls: watch::Receiver<u64>,
        stop: CancellationToken,
        idle: Duration,
    ) -> u64 {
        loop {
            let call = *calls.borrow_and_update();
            if !self.delivery.store.owns(&self.url) {
                self.let_go();
            } else if !stop.is_cancelled() {
                self.fill().await;
                self.start();
            }
            if self.in_flight.is_empty() && stop.is_cancelled() {
                return call;
            }
            let is_idle = self.in_flight.is_empty() && self.known.is_empty() && !self.more;
            let pause = self.not_before.filter(|_| !stop.is_cancelled());
            tokio::select! {
                Some(sent) = self.in_flight.next() => self.finish(sent),
                Ok(()) = calls.changed() => self.more = true,
                () = until(pause), if pause.is_some() => self.not_before = None,
                () = tokio::time::sleep(idle), if is_idle => return call,
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Another process delivers from here on; what is in flight is finished.
    fn let_go(&mut self) {
        self.lanes.clear();
        self.ready.clear();
        self.known.clear();
        self.more = false;
        self.not_before = None;
    }

    /// Loads the oldest deliveries that are not in memory yet.
    async fn fill(&mut self) {
        if !self.more || self.known.len() >= WINDOW as usize / 2 {
            return;
        }
        let waiting = match self.delivery.store.waiting(&self.url, WINDOW).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(endpoint = self.url, %error, "deliveries not read");
                self.back_off();
                return;
            }
        };
        self.more = waiting.len() >= WINDOW as usize;
        for pending in waiting {
            if self.known.insert(pending.seq) {
                let key = pending.lane.clone();
                let lane = self.lanes.entry(key.clone()).or_default();
                lane.push_back(pending);
                // A busy lane becomes ready when its request comes back.
                if lane.len() == 1 && !self.busy.contains(&key) {
                    self.ready.push_back(key);
                }
            }
        }
    }

    /// Sends what may be sent. While the receiver is failing one request at a time tries whether it is back.
    fn start(&mut self) {
        let concurrency = if self.failures > 0 { 1 } else { self.delivery.options.concurrency };
        while self.not_before.is_none() && self.in_flight.len() < concurrency {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(pending) = self.lanes.get_mut(&key).and_then(VecDeque::pop_front) else { continue };
            self.busy.insert(key);
            let delivery = self.delivery.clone();
            self.in_flight.push(
                async move {
                    let fate = delivery.attempt(&pending).await;
                    let recorded = delivery.record(&pending, fate.clone()).await;
                    Sent { pending, fate, recorded }
                }
                .boxed(),
            );
        }
    }

    fn finish(&mut self, sent: Sent) {
        let Sent { mut pending, fate, recorded } = sent;
        let key = pending.lane.clone();
        self.busy.remove(&key);
        let again = matches!(fate, Fate::Failed { .. });
        if again || !recorded {
            self.back_off();
            if again {
                pending.attempts += 1;
                self.lanes.entry(key.clone()).or_default().push_front(pending);
            } else {
                // Sent but not recorded: it stays in the store and comes again with the next window.
                self.known.remove(&pending.seq);
                self.more = true;
            }
        } else {
            self.failures = 0;
            self.not_before = None;
            self.known.remove(&pending.seq);
        }
        match self.lanes.get(&key).map(VecDeque::is_empty) {
            Some(false) => self.ready.push_back(key),
            _ => drop(self.lanes.remove(&key)),
        }
    }

    fn back_off(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let longest = self.delivery.options.longest_pause;
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16).saturating_sub(1)).min(longest);
        // Between half and all of it, so that replicas and endpoints do not march in step.
        let jittered = doubled.mul_f64(rand::random_range(0.5..=1.0));
        self.not_before = Some(Instant::now() + jittered);
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What is recorded of a try.
pub(super) fn completion(pending: &Pending, fate: Fate, at_us: i64, max_fails: Option<i64>) -> Completion {
    Completion {
        seq: pending.seq,
        subscription: pending.subscription.clone(),
        revision: pending.revision,
        first: pending.attempts == 0,
        fate,
        at_us,
        max_fails,
    }
}
