//! Many requests, one transaction.
//!
//! A request that finds the executor idle starts at once; while a batch runs, the next one gathers. So a lone caller pays
//! no waiting time, and under load the batches grow by themselves. (No timer is involved: tokio's timer ticks in
//! milliseconds, longer than a commit.) Where nobody waits for the answers, batches may be kept apart, so that few commits do
//! for many requests. Where an executor can do it, a batch begins while the one before waits for its disk.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Applies batches, each in one transaction.
#[async_trait]
pub trait BatchExecutor: Send + Sync + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// Must be able to say that the group commit itself failed.
    type Error: From<GroupCommitError> + Send + 'static;

    /// Applies `batch` and answers each request, in order. One bad request must not fail the others.
    async fn execute(&self, batch: Vec<Self::Request>) -> Vec<Result<Self::Response, Self::Error>>;
}

/// Why a request was not executed, or why its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupCommitError {
    /// The queue is full; nothing was done.
    #[error("too many requests are waiting for the store")]
    Overloaded,
    /// The service stops; nothing was done.
    #[error("the store is stopping")]
    Stopped,
    /// The executor panicked or did not answer this request: it may have been applied or not.
    #[error("the outcome of the write is not known")]
    Unknown,
}

/// What a finished batch looked like: for metrics.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    pub requests: usize,
    pub took: Duration,
    /// Requests that were waiting when the batch ended.
    pub queued: usize,
    pub panicked: bool,
}

/// Called after each batch; must be quick.
pub type Observer = Arc<dyn Fn(BatchReport) + Send + Sync>;

#[derive(Clone)]
pub struct GroupCommitOptions {
    /// Requests in one transaction, at most.
    pub max_batch: usize,
    /// Requests that may wait; beyond it callers get [`GroupCommitError::Overloaded`].
    pub queue: usize,
    /// From the begin of one batch to that of the next, at least; full batches don't wait for it.
    pub apart: Duration,
    /// A batch of at least so many requests, and half as many as the one that is under way, begins beside it: two at once,
    /// never three, and `execute` is first polled in their order. `None`: one after the other; so it has to be where batches are
    /// kept apart.
    pub overlap: Option<usize>,
    pub observer: Option<Observer>,
}

impl Default for GroupCommitOptions {
    fn default() -> Self {
        Self { max_batch: 500, queue: 8192, apart: Duration::ZERO, overlap: None, observer: None }
    }
}

struct Waiting<E: BatchExecutor> {
    request: E::Request,
    answer: oneshot::Sender<Result<E::Response, E::Error>>,
}

/// The callers' end. Cheap to clone.
pub struct GroupCommit<E: BatchExecutor> {
    queue: mpsc::Sender<Waiting<E>>,
}

impl<E: BatchExecutor> Clone for GroupCommit<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// The executing end: [`GroupCommitLoop::run`] is a background task of the service.
pub struct GroupCommitLoop<E: BatchExecutor> {
    executor: Arc<E>,
    queue: mpsc::Receiver<Waiting<E>>,
    options: GroupCommitOptions,
}

impl<E: BatchExecutor> GroupCommit<E> {
    pub fn new(executor: Arc<E>, options: GroupCommitOptions) -> (Self, GroupCommitLoop<E>) {
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        (Self { queue: sender }, GroupCommitLoop { executor, queue: receiver, options })
    }

    /// Has `request` applied in the next batch. When the caller goes away before the batch starts, nothing is done.
    pub async fn submit(&self, request: E::Request) -> Result<E::Response, E::Error> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Waiting { request, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GroupCommitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => GroupCommitError::Stopped,
        })?;
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(GroupCommitError::Unknown.into()),
        }
    }

    /// Requests that wait, and how many may.
    pub fn fill(&self) -> (usize, usize) {
        let max = self.queue.max_capacity();
        (max - self.queue.capacity(), max)
    }
}

impl<E: BatchExecutor> GroupCommitLoop<E> {
    /// Executes batches until `stop`, then what is already queued, and returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let max = self.options.max_batch.max(1);
        let mut batch = Vec::new();
        let mut next = Instant::now();
        let mut under_way = FuturesUnordered::new();
        // Requests of the batch that began last.
        let mut last = 0;
        let mut is_open = true;
        while is_open || !batch.is_empty() || !under_way.is_empty() {
            // What waits stays in the queue, and counts there, until a batch may begin with it.
            let gathers =
                is_open && batch.len() < max && (under_way.is_empty() || self.options.overlap.is_some());
            let room = max - batch.len();
            if gathers || !under_way.is_empty() {
                tokio::select! {
                    biased;
                    Some(report) = under_way.next(), if !under_way.is_empty() => self.report(report),
                    received = self.queue.recv_many(&mut batch, room), if gathers => is_open = received > 0,
                    () = stop.cancelled(), if gathers && !self.queue.is_closed() => self.queue.close(),
                }
            }
            let may_begin = match under_way.len() {
                0 => true,
                1 => self.options.overlap.is_some_and(|least| batch.len() >= least.max(last / 2).min(max)),
                _ => false,
            };
            if batch.is_empty() || !may_begin {
                continue;
            }
            if !self.options.apart.is_zero() {
                self.gather(&mut batch, next, &stop).await;
                next = Instant::now() + self.options.apart;
            }
            // Callers that are ready to run get one chance to join.
            if batch.len() < max && !self.queue.is_closed() {
                tokio::task::yield_now().await;
                while batch.len() < max
                    && let Ok(waiting) = self.queue.try_recv()
                {
                    batch.push(waiting);
                }
            }
            last = batch.len();
            // The next one is about as large.
            let full = std::mem::replace(&mut batch, Vec::with_capacity(last));
            under_way.push(execute(self.executor.clone(), full));
        }
    }

    /// Takes what comes until `next`, as much as a batch may hold.
    async fn gather(&mut self, batch: &mut Vec<Waiting<E>>, next: Instant, stop: &CancellationToken) {
        let max = self.options.max_batch.max(1);
        while batch.len() < max {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                received = self.queue.recv_many(batch, max - batch.len()) => if received == 0 { return },
                () = tokio::time::sleep_until(next) => return,
            }
        }
    }

    fn report(&self, report: Option<BatchReport>) {
        if let Some((observer, report)) = self.options.observer.as_ref().zip(report) {
            observer(BatchReport { queued: self.queue.len(), ..report });
        }
    }
}

/// `None`: nobody waited for it any more.
async fn execute<E: BatchExecutor>(executor: Arc<E>, batch: Vec<Waiting<E>>) -> Option<BatchReport> {
    let (requests, answers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .filter(|waiting| !waiting.answer.is_closed())
        .map(|waiting| (waiting.request, waiting.answer))
        .unzip();
    if requests.is_empty() {
        return None;
    }
    let started = Instant::now();
    let outcomes = AssertUnwindSafe(executor.execute(requests)).catch_unwind().await;
    let panicked = outcomes.is_err();
    if panicked {
        tracing::error!(requests = answers.len(), "a batch panicked");
    }
    let report = BatchReport { requests: answers.len(), took: started.elapsed(), queued: 0, panicked };
    // A missing answer drops its sender, which the caller sees as `Unknown`.
    for (answer, outcome) in answers.into_iter().zip(outcomes.unwrap_or_default()) {
        answer.send(outcome).ok();
    }
    Some(report)
}

/// Several group commits side by side. Requests with the same key meet in the same one, so that two batches never wait
/// for each other's rows.
pub struct GroupCommitShards<E: BatchExecutor> {
    shards: Arc<[GroupCommit<E>]>,
}

impl<E: BatchExecutor> Clone for GroupCommitShards<E> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone() }
    }
}

impl<E: BatchExecutor> GroupCommitShards<E> {
    /// One loop per shard, all with the same executor; `shards` is at least 1.
    pub fn new(
        executor: Arc<E>,
        shards: usize,
        options: GroupCommitOptions,
    ) -> (Self, Vec<GroupCommitLoop<E>>) {
        let (shards, loops): (Vec<_>, Vec<_>) =
            (0..shards.max(1)).map(|_| GroupCommit::new(executor.clone(), options.clone())).unzip();
        (Self { shards: shards.into() }, loops)
    }

    /// See [`GroupCommit::submit`]; `hash` is any even hash of the key.
    pub async fn submit(&self, hash: u64, request: E::Request) -> Result<E::Response, E::Error> {
        let shard = usize::try_from(hash % self.shards.len() as u64).unwrap_or_default();
        self.shards[shard].submit(request).await
    }

    /// Requests that wait in all shards, and how many may.
    pub fn fill(&self) -> (usize, usize) {
        self.shards.iter().map(GroupCommit::fill).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}
