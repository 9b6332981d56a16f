//! Fire and forget: each notification is tried once, from memory, at once. What comes of it is counted, nothing is kept.

use std::{collections::HashMap, sync::Arc};

use service_kit::Tasks;
use store::StoreError;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    delivery::Delivery,
    pending::{Fate, Pending},
};

/// Batches that wait for the sender; the notifier waits beyond it.
const BATCHES: usize = 64;
/// Notifications on their way at once, in all; further ones are dropped.
const IN_FLIGHT: usize = 10_000;
/// With those whose drop is being recorded; beyond it the next batch waits.
const UNFINISHED: usize = 2 * IN_FLIGHT;

/// Takes notifications that are not kept.
#[derive(Clone)]
pub(super) struct Immediate(mpsc::Sender<Vec<Pending>>);

impl Immediate {
    pub(super) fn spawn(delivery: Arc<Delivery>, tasks: &Tasks) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES);
        let stop = tasks.stop_token();
        let worker = Worker { delivery, on_their_way: HashMap::new(), sending: JoinSet::new() };
        tasks.spawn("context-broker.immediate", worker.run(batches, stop));
        Self(sender)
    }

    pub(super) async fn send(&self, batch: Vec<Pending>) {
        if !batch.is_empty() && self.0.send(batch).await.is_err() {
            tracing::debug!("notifications not sent, the broker stops");
        }
    }
}

struct Worker {
    delivery: Arc<Delivery>,
    /// Notifications on their way, by endpoint: one that hangs must not use up all of them.
    on_their_way: HashMap<String, usize>,
    sending: JoinSet<String>,
}

impl Worker {
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<Vec<Pending>>,
        stop: CancellationToken,
    ) -> Result<(), StoreError> {
        loop {
            tokio::select! {
                Some(batch) = batches.recv(), if self.sending.len() < UNFINISHED => batch.into_iter().for_each(|pending| self.start(pending)),
                Some(ended) = self.sending.join_next() => self.ended(ended),
                () = stop.cancelled() => break,
            }
        }
        while self.sending.join_next().await.is_some() {}
        Ok(())
    }

    fn start(&mut self, pending: Pending) {
        let endpoint = pending.target.endpoint().into_owned();
        let own = self.on_their_way.entry(endpoint.clone()).or_default();
        let is_full = *own >= self.delivery.options.transient_concurrency || self.sending.len() >= IN_FLIGHT;
        *own += 1;
        let delivery = self.delivery.clone();
        self.sending.spawn(async move {
            let fate = match is_full {
                true => Fate::Dropped { reason: "too many notifications at once".to_owned() },
                false => delivery.attempt(&pending).await,
            };
            delivery.record(&pending, fate).await;
            endpoint
        });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        let Ok(endpoint) = ended else {
            tracing::error!("a notification's task ended early");
            return;
        };
        if let Some(own) = self.on_their_way.get_mut(&endpoint) {
            *own -= 1;
            if *own == 0 {
                self.on_their_way.remove(&endpoint);
            }
        }
    }
}
