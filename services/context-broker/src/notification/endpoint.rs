//! The queue of one endpoint: sends in order within each lane, many lanes at once, and waits when the receiver is away.
//!
//! ```text
//! store ─ window of the oldest ─► lanes (subscription and entity) ─► at most `concurrency` requests ─► one Fate each
//!          ▲                              ▲                                     │ delivered: the lane goes on
//!          │                              └─────────────────────────────────────┤
//!          └──────────── recorded ◄─────────────────────────────────────────────┘
//! ```
//!
//! A lane does not wait until its last delivery is recorded. What is sent and not recorded when the process dies is sent
//! again, in order. An endpoint that is away keeps next to nothing in memory.

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
/// While the receiver fails: enough to try whether it is back.
const SMALL_WINDOW: u32 = 8;
/// Deliveries that are made and not recorded yet; beyond it the endpoint waits.
const UNRECORDED: usize = 256;
/// Failures in a row after which nothing is held in memory for it.
const AWAY: u32 = 3;
/// First pause after a failure; doubled up to the configured longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Endpoint {
    delivery: Arc<Delivery>,
    url: String,
    lanes: HashMap<String, VecDeque<Pending>>,
    /// Lanes with something to send and nothing in flight.
    ready: VecDeque<String>,
    /// Lanes with a request in flight, or with a failure that is being recorded.
    busy: HashSet<String>,
    /// What is in the lanes.
    known: HashSet<i64>,
    /// What was taken out of them and is not recorded yet.
    under_way: HashSet<i64>,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    recording: FuturesUnordered<BoxFuture<'static, Recorded>>,
    /// The store may hold more than the window.
    more: bool,
    failures: u32,
    not_before: Option<Instant>,
}

struct Sent {
    pending: Pending,
    fate: Fate,
}

struct Recorded {
    pending: Pending,
    /// It is to be tried again.
    again: bool,
    /// Whether it was really recorded.
    stored: bool,
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
            under_way: HashSet::new(),
            in_flight: FuturesUnordered::new(),
            recording: FuturesUnordered::new(),
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
                // Another process delivers from here on.
                self.let_go();
                (self.more, self.not_before) = (false, None);
            } else if !stop.is_cancelled() {
                self.fill().await;
                self.start();
            }
            let at_rest = self.in_flight.is_empty() && self.recording.is_empty();
            if at_rest && stop.is_cancelled() {
                return call;
            }
            let is_idle = at_rest && self.known.is_empty() && !self.more;
            let pause = self.not_before.filter(|_| !stop.is_cancelled());
            tokio::select! {
                Some(sent) = self.in_flight.next() => self.finish(sent),
                Some(recorded) = self.recording.next() => self.recorded(recorded),
                Ok(()) = calls.changed() => self.more = true,
                () = until(pause), if pause.is_some() => self.not_before = None,
                () = tokio::time::sleep(idle), if is_idle => return call,
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Forgets what is in the lanes; what is under way is finished.
    fn let_go(&mut self) {
        self.lanes.clear();
        self.ready.clear();
        self.known.clear();
    }

    /// Loads the oldest deliveries that are not in memory yet.
    async fn fill(&mut self) {
        let window = if self.failures > 0 { SMALL_WINDOW } else { WINDOW };
        let is_pausing = self.not_before.is_some();
        if !self.more || is_pausing || self.known.len() >= window as usize / 2 {
            return;
        }
        // What is under way comes along.
        let limit = window.saturating_add(u32::try_from(self.under_way.len()).unwrap_or(u32::MAX));
        let waiting = match self.delivery.store.waiting(&self.url, limit).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(receiver = receiver(&self.url), %error, "deliveries not read");
                self.back_off();
                return;
            }
        };
        self.more = waiting.len() >= limit as usize;
        for pending in waiting {
            if !self.under_way.contains(&pending.seq) && self.known.insert(pending.seq) {
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
        while self.not_before.is_none()
            && self.in_flight.len() < concurrency
            && self.recording.len() < UNRECORDED
        {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(pending) = self.lanes.get_mut(&key).and_then(VecDeque::pop_front) else { continue };
            self.busy.insert(key);
            self.known.remove(&pending.seq);
            self.under_way.insert(pending.seq);
            let delivery = self.delivery.clone();
            self.in_flight.push(
                async move {
                    let fate = delivery.attempt(&pending).await;
                    Sent { pending, fate }
                }
                .boxed(),
            );
        }
    }

    fn finish(&mut self, sent: Sent) {
        let Sent { pending, fate } = sent;
        let again = matches!(fate, Fate::Failed { .. });
        if again {
            if let (Fate::Failed { reason }, 0) = (&fate, self.failures) {
                tracing::warn!(
                    receiver = receiver(&self.url),
                    reason,
                    "receiver fails, its notifications wait"
                );
            }
            self.back_off();
        } else {
            if self.failures > 0 {
                tracing::info!(
                    receiver = receiver(&self.url),
                    failures = self.failures,
                    "receiver answers again"
                );
            }
            self.failures = 0;
            self.not_before = None;
            self.free(&pending.lane);
        }
        let delivery = self.delivery.clone();
        self.recording.push(
            async move {
                let stored = delivery.record(&pending, fate).await;
                Recorded { pending, again, stored }
            }
            .boxed(),
        );
    }

    fn recorded(&mut self, recorded: Recorded) {
        let Recorded { mut pending, again, stored } = recorded;
        self.under_way.remove(&pending.seq);
        if again && self.failures >= AWAY {
            // All is read again when the next try is due: this one too, unless it was dropped meanwhile.
            self.busy.remove(&pending.lane);
            self.let_go();
            self.more = true;
        } else if again {
            // The first of its lane, whatever was loaded meanwhile.
            pending.attempts += i64::from(stored);
            self.known.insert(pending.seq);
            let key = pending.lane.clone();
            self.lanes.entry(key.clone()).or_default().push_front(pending);
            self.free(&key);
        } else if !stored {
            // Sent but not recorded: it stays in the store and comes again with the next window.
            self.back_off();
            self.more = true;
        }
    }

    /// The lane may go on.
    fn free(&mut self, key: &str) {
        self.busy.remove(key);
        match self.lanes.get(key).map(VecDeque::is_empty) {
            Some(false) => self.ready.push_back(key.to_owned()),
            _ => drop(self.lanes.remove(key)),
        }
    }

    fn back_off(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let longest = self.delivery.options.longest_pause;
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16).saturating_sub(1)).min(longest);
        // Between half and all of it, so that replicas and endpoints do not march in step.
        let jittered = doubled.mul_f64(rand::random_range(0.5..=1.0));
        self.not_before = Some(Instant::now() + jittered);
        if self.failures >= AWAY {
            self.let_go();
            self.more = true;
        }
    }
}

/// Scheme, host and port: what else is in a URL may be secret.
fn receiver(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
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
