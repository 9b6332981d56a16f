//! Sends what waits: one task per endpoint that has something, so that a slow one delays no other.

use std::{collections::HashMap, sync::Arc, time::Duration};

use service_kit::{Clock, Tasks};
use store::{GroupCommit, StoreError};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    client::Answer,
    completion::Recorder,
    endpoint::{Endpoint, completion},
    pending::{Fate, Pending},
    reveal::reveal,
    sender::Sender,
    store::NotificationStore,
};
use crate::{metrics::BrokerMetrics, subscription::Registry, tokens::Tokens};

/// How deliveries are made.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOptions {
    /// Whether notifications are kept and tried again; if not, each is tried once.
    pub durable: bool,
    /// Requests to one endpoint at once where notifications are not kept; further ones are dropped.
    pub transient_concurrency: usize,
    /// Requests to one endpoint at once.
    pub concurrency: usize,
    /// Between two tries, at most.
    pub longest_pause: Duration,
    /// Waiting longer than this it is dropped.
    pub max_age: Duration,
    /// Timeout of a try where the subscription names none.
    pub default_timeout: Duration,
}

/// What all endpoint tasks share.
pub(super) struct Delivery {
    pub(super) store: Arc<dyn NotificationStore>,
    pub(super) options: DeliveryOptions,
    pub(super) registry: Arc<Registry>,
    pub(super) recorder: GroupCommit<Recorder>,
    /// Turns in its queue: what does not fit waits here instead of being refused.
    pub(super) turns: Semaphore,
    pub(super) sender: Sender,
    pub(super) tokens: Arc<Tokens>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: BrokerMetrics,
}

impl Delivery {
    /// One try.
    pub(super) async fn attempt(&self, pending: &Pending) -> Fate {
        let now_us = self.clock.now_us();
        if !self.registry.wants(&pending.subscription, pending.revision, now_us).await {
            return Fate::Cancelled;
        }
        let max_age_us = i64::try_from(self.options.max_age.as_micros()).unwrap_or(i64::MAX);
        if now_us.saturating_sub(pending.commit_time_us) > max_age_us {
            return Fate::Dropped { reason: "waited for too long".to_owned() };
        }
        let timeout = match pending.target.timeout_ms {
            0 => self.options.default_timeout,
            given => Duration::from_millis(given),
        };
        let entry = self.registry.known(&pending.subscription);
        let answer = match &pending.target.token {
            None => self.sender.send(pending, entry.as_deref(), timeout).await,
            Some(sealed) => {
                let revealed = reveal(pending, sealed, &self.tokens, now_us);
                self.sender.send(&revealed, entry.as_deref(), timeout).await
            }
        };
        self.metrics.notification(answer.outcome());
        match answer {
            // Fire and forget takes any status for a success.
            Answer::Status(code) if !self.options.durable || !answer.is_retryable() => {
                Fate::Delivered { code: Some(code) }
            }
            Answer::Accepted => Fate::Delivered { code: None },
            Answer::Status(code) => Fate::Failed { reason: format!("HTTP status {code}") },
            Answer::Failed(reason) => Fate::Failed { reason: reason.to_owned() },
            Answer::Refused(reason) => Fate::Dropped { reason: reason.to_owned() },
        }
    }

    /// Whether what came of a try is stored.
    pub(super) async fn record(&self, pending: &Pending, fate: Fate) -> bool {
        match &fate {
            Fate::Dropped { reason } => {
                self.metrics.dropped(1);
                tracing::warn!(subscription = %pending.subscription.id, reason, "notification dropped");
            }
            Fate::Cancelled => self.metrics.cancelled(1),
            Fate::Delivered { .. } | Fate::Failed { .. } => {}
        }
        let known = self.registry.known(&pending.subscription);
        let limit = known.and_then(|entry| entry.subscription.notification.max_fails_limit);
        let max_fails = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let completion = completion(pending, fate, self.clock.now_us(), max_fails);
        // Never closed.
        let _turn = self.turns.acquire().await.ok();
        match self.recorder.submit(completion).await {
            Ok(closed) => {
                if closed {
                    self.registry.close(&pending.subscription, pending.revision);
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "outcome of a notification not recorded");
                false
            }
        }
    }
}

/// Tells the dispatcher that an endpoint has something to do. Calls are never lost: what does not fit into the queue is
/// found by the next look into the store.
#[derive(Clone)]
pub(super) struct Caller(mpsc::Sender<String>);

impl Caller {
    pub(super) fn call(&self, endpoint: String) {
        if self.0.try_send(endpoint).is_err() {
            tracing::debug!("dispatcher is busy");
        }
    }
}

/// Starts and wakes the tasks of the endpoints.
pub(super) struct Dispatcher {
    delivery: Arc<Delivery>,
    calls: mpsc::Receiver<String>,
    running: HashMap<String, watch::Sender<u64>>,
    tasks: JoinSet<(String, u64)>,
}

/// Calls that may wait.
const CALLS: usize = 10_000;
/// How long an endpoint's task outlives its last delivery.
const IDLE: Duration = Duration::from_secs(10);

impl Dispatcher {
    pub(super) fn spawn(delivery: Arc<Delivery>, tasks: &Tasks) -> Caller {
        let (sender, calls) = mpsc::channel(CALLS);
        let dispatcher = Self { delivery, calls, running: HashMap::new(), tasks: JoinSet::new() };
        let stop = tasks.stop_token();
        tasks.spawn("context-broker.delivery", dispatcher.run(stop));
        Caller(sender)
    }

    async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut look = tokio::time::interval(self.delivery.store.look_every());
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(endpoint) = self.calls.recv() => self.wake(endpoint, &stop),
                _ = look.tick() => match self.delivery.store.endpoints().await {
                    Ok(endpoints) => endpoints.into_iter().for_each(|endpoint| self.wake(endpoint, &stop)),
                    Err(error) => tracing::warn!(%error, "endpoints not read"),
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended, &stop),
                () = stop.cancelled() => break,
            }
        }
        while self.tasks.join_next().await.is_some() {}
        if let Err(error) = self.delivery.store.release().await {
            tracing::debug!(%error, "endpoints not released, their leases end by themselves");
        }
        Ok(())
    }

    fn wake(&mut self, endpoint: String, stop: &CancellationToken) {
        if let Some(running) = self.running.get(&endpoint) {
            running.send_modify(|calls| *calls += 1);
            return;
        }
        let (sender, receiver) = watch::channel(0);
        self.running.insert(endpoint.clone(), sender);
        let worker = Endpoint::new(self.delivery.clone(), endpoint.clone());
        let stop = stop.clone();
        self.tasks.spawn(async move {
            let seen = worker.run(receiver, stop, IDLE).await;
            (endpoint, seen)
        });
    }

    fn ended(&mut self, ended: Result<(String, u64), tokio::task::JoinError>, stop: &CancellationToken) {
        match ended {
            Ok((endpoint, seen)) => {
                // A call that came when the task was already leaving.
                let called = self.running.remove(&endpoint).is_some_and(|calls| *calls.borrow() > seen);
                if called {
                    self.wake(endpoint, stop);
                }
            }
            Err(error) => {
                // Which one is not known: forget those whose task is gone; the next look starts it again.
                tracing::error!(%error, "the task of an endpoint ended");
                self.running.retain(|_, calls| !calls.is_closed());
            }
        }
    }
}
