use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use proto::v1::EntityUpdate;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Broker, Delivered, Diversion, Job, Undelivered,
    batch::{Limits, Room},
    broker::Applied,
};
use crate::metrics::Metrics;

/// How long a request waits for the end of its device's queue on the bus.
const HOLD: Duration = Duration::from_millis(500);
/// How often it is looked at, where another replica may be the one that drains.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// After the stop, requests in flight come within this.
const LINGER: Duration = Duration::from_millis(200);

/// One call to the broker at a time; what comes meanwhile is the next batch. So a lone device waits for nobody, and
/// under load batches grow by themselves.
pub(super) struct Lane {
    receiver: mpsc::Receiver<Job>,
    broker: Arc<Broker>,
    diversion: Arc<Diversion>,
    limits: Limits,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Lane {
    pub(super) fn new(
        receiver: mpsc::Receiver<Job>,
        broker: Arc<Broker>,
        diversion: Arc<Diversion>,
        limits: Limits,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self { receiver, broker, diversion, limits, metrics, stop }
    }

    /// Ends after the stop, when everything taken is answered.
    pub(super) async fn run(mut self) -> Result<(), Infallible> {
        let mut waiting: VecDeque<Job> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(job) = self.next().await else { return Ok(()) };
                waiting.push_back(job);
            }
            for _ in 0..self.limits.updates {
                let Ok(job) = self.receiver.try_recv() else { break };
                waiting.push_back(job);
            }
            if !self.turn(&mut waiting).await {
                tokio::select! {
                    Some(job) = self.receiver.recv() => waiting.push_back(job),
                    () = self.diversion.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }

    /// The next request. After the stop those in flight may still come; when there was none for a while, no more are
    /// taken, and `None` ends the lane.
    async fn next(&mut self) -> Option<Job> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            job = self.receiver.recv() => return job,
            () = stop.cancelled() => {}
        }
        if let Ok(job) = tokio::time::timeout(LINGER, self.receiver.recv()).await {
            return job;
        }
        self.receiver.close();
        self.receiver.recv().await
    }

    /// Sends what may go, or puts it on the bus; false if all that waits is held back.
    async fn turn(&self, waiting: &mut VecDeque<Job>) -> bool {
        let devices = waiting.iter().map(|job| job.device.clone()).collect();
        let diverted = match self.diversion.diverted_of(devices).await {
            Ok(diverted) => diverted,
            Err(error) => {
                tracing::error!(%error, "store away: measures are refused");
                let refused = Undelivered::Unavailable("the store is away: try again later");
                waiting.drain(..).for_each(|job| job.finish(Err(refused.clone())));
                return true;
            }
        };
        let (away, answers) = (self.broker.is_away(), self.broker.answers());
        let (mut divert, mut held) = (Vec::new(), VecDeque::new());
        let mut go = VecDeque::new();
        for job in waiting.drain(..) {
            match diverted.contains(&job.device) {
                // The broker answers again: the device's queue is about to end, and then it goes direct. A device that
                // sends without a pause would else never get off the bus.
                true if answers && !away && job.since.elapsed() < HOLD => held.push_back(job),
                true => divert.push(job),
                false if away => divert.push(job),
                false => go.push_back(job),
            }
        }
        let moved = !divert.is_empty() || !go.is_empty();
        self.divert(divert).await;
        if !go.is_empty() {
            self.send(&mut go).await;
        }
        waiting.extend(go);
        waiting.extend(held);
        moved
    }

    async fn send(&self, waiting: &mut VecDeque<Job>) {
        let (updates, counts) = self.pick(waiting);
        let alone = counts.len() == 1;
        let context = waiting.front().and_then(|job| job.context.clone()).filter(|_| alone);
        let call = self.broker.update(updates);
        let result = match context {
            // A call for one request is a span of its trace; a batch has the traces of its updates.
            Some(context) => context.run(call).await,
            None => call.await,
        };
        let mut divert = Vec::new();
        match result {
            Ok(results) => {
                let mut results = results.into_iter();
                let mut unfinished = Vec::new();
                for count in counts {
                    let Some(mut job) = waiting.pop_front() else { break };
                    let later = job.settle(results.by_ref().take(count));
                    match (later, job.updates.is_empty()) {
                        (true, _) => divert.push(job),
                        (false, true) => job.finish(Ok(Delivered::Committed)),
                        (false, false) => unfinished.push(job),
                    }
                }
                unfinished.into_iter().rev().for_each(|job| waiting.push_front(job));
            }
            Err(away) => {
                tracing::warn!(%away, requests = counts.len(), "measures go to the bus");
                divert.extend(waiting.drain(..counts.len()));
            }
        }
        self.divert(divert).await;
    }

    /// As many updates from the front as fit into one call, and how many of each job.
    fn pick(&self, waiting: &VecDeque<Job>) -> (Vec<EntityUpdate>, Vec<usize>) {
        let mut room = Room::new(self.limits);
        let mut updates = Vec::new();
        let mut counts = Vec::new();
        for job in waiting {
            let taken: Vec<EntityUpdate> =
                job.updates.iter().take_while(|update| room.take(update)).cloned().collect();
            let all = taken.len() == job.updates.len();
            if !taken.is_empty() {
                counts.push(taken.len());
                updates.extend(taken);
            }
            if !all {
                break;
            }
        }
        (updates, counts)
    }

    async fn divert(&self, mut jobs: Vec<Job>) {
        // Nobody waits any more and nothing was promised. Its device may have gone on at another replica: applied later,
        // this measure would overwrite a newer one.
        jobs.retain(|job| {
            let abandoned = job.answer.is_closed();
            if abandoned {
                Metrics::count(&self.metrics.broker_calls, "abandoned");
            }
            !abandoned
        });
        if jobs.is_empty() {
            return;
        }
        match self.diversion.divert(&jobs).await {
            Ok(()) => {
                tracing::debug!(requests = jobs.len(), "diverted to the bus");
                jobs.into_iter().for_each(|job| job.finish(Ok(Delivered::Diverted)));
            }
            Err(refused) => {
                Metrics::count(&self.metrics.broker_calls, "lost_to_both");
                jobs.into_iter().for_each(|job| job.finish(Err(refused.clone())));
            }
        }
    }
}

impl Job {
    /// Takes in what the broker did with the first updates; true when one of them is for later: from there on all goes
    /// to the bus.
    fn settle(&mut self, results: impl Iterator<Item = Applied>) -> bool {
        let mut later = false;
        for result in results {
            later = later || result == Applied::Later;
            if later {
                continue;
            }
            self.updates.pop_front();
            if let Applied::Refused { code, error, description } = result {
                self.refused.get_or_insert(Undelivered::Refused { code, error, description });
            }
        }
        later
    }

    fn finish(self, outcome: Result<Delivered, Undelivered>) {
        let outcome = match self.refused {
            Some(refused) => outcome.and(Err(refused)),
            None => outcome,
        };
        // The client may have gone meanwhile.
        self.answer.send(outcome).ok();
    }
}
