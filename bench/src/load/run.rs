use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Exchange, Outcome, Requests, Target,
    pace::{Schedule, pace},
};
use crate::process::own_cpu;

/// How long answers are awaited after the last arrival of an open loop, or the end of a closed one.
const PATIENCE: Duration = Duration::from_secs(3);

/// The shape of a run.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Arrivals at a constant rate per second, independent of the answers.
    Open { rate: f64, duration: Duration },
    /// Each connection sends its next request as soon as it has its answer.
    Closed { duration: Duration },
    /// Closed loop over exactly the requests `0..total`.
    All { total: u64 },
}

/// Sends `requests` under the given load and waits for the answers. Blocks; uses one thread.
pub fn drive(target: Target, requests: &Requests, load: Load) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cpu = own_cpu()?;
    let mut outcome = runtime.block_on(run(target, requests.clone(), load))?;
    outcome.generator_cpu = own_cpu()?.saturating_sub(cpu);
    Ok(outcome)
}

struct Shared {
    target: Target,
    requests: Requests,
    next: AtomicU64,
    gate: Semaphore,
    outcome: Mutex<Outcome>,
    end: End,
}

enum End {
    Schedule(Schedule),
    At(Instant),
    Total(u64),
}

impl Shared {
    /// The next request's number and from when its latency counts; `None` = this run is over.
    async fn next(&self) -> Option<(u64, Instant)> {
        if let End::Schedule(schedule) = &self.end {
            self.gate.acquire().await.ok()?.forget();
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            return (n < schedule.total).then(|| (n, schedule.due(n)));
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let more = match self.end {
            End::At(end) => now < end,
            End::Total(total) => n < total,
            End::Schedule(_) => false,
        };
        more.then_some((n, now))
    }

    fn with_outcome(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One connection's life; a broken connection is replaced and its request counts as failed.
    async fn connection(self: Arc<Self>) {
        let mut open = None;
        while let Some((n, since)) = self.next().await {
            let sent = async {
                let mut exchange = match open.take() {
                    Some(exchange) => exchange,
                    None => Exchange::connect(self.target.address).await?,
                };
                let answer = exchange.send(|out| (self.requests)(n, out)).await?;
                self.with_outcome(|outcome| outcome.answered(since, answer.status(), &answer.body()));
                Ok::<_, std::io::Error>(exchange)
            };
            match sent.await {
                Ok(exchange) => open = Some(exchange),
                Err(error) => self.with_outcome(|outcome| {
                    outcome.record(since.elapsed());
                    outcome.fail(error.to_string());
                }),
            }
        }
    }
}

async fn run(target: Target, requests: Requests, load: Load) -> anyhow::Result<Outcome> {
    Exchange::connect(target.address).await.with_context(|| format!("no server at {}", target.address))?;
    let start = Instant::now();
    let (end, patience) = match load {
        Load::Open { rate, duration } => {
            anyhow::ensure!(rate > 0.0, "the rate must be above zero");
            (End::Schedule(Schedule::new(start, rate, duration)), duration + PATIENCE)
        }
        Load::Closed { duration } => (End::At(start + duration), duration + PATIENCE),
        Load::All { total } => (End::Total(total), Duration::from_secs(900)),
    };
    let shared = Arc::new(Shared {
        target,
        requests,
        next: AtomicU64::new(0),
        gate: Semaphore::new(0),
        outcome: Mutex::new(Outcome::new()),
        end,
    });
    let mut connections = JoinSet::new();
    for _ in 0..target.connections {
        connections.spawn(shared.clone().connection());
    }
    let all = async {
        if let End::Schedule(schedule) = &shared.end {
            pace(*schedule, &shared.gate, target.connections).await?;
        }
        while connections.join_next().await.is_some() {}
        Ok::<_, std::io::Error>(())
    };
    if let Ok(paced) = tokio::time::timeout(patience, all).await {
        paced?;
    }
    connections.shutdown().await;
    let mut outcome = shared.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    outcome.elapsed = start.elapsed();
    if let End::Schedule(schedule) = &shared.end {
        count_unanswered(&mut outcome, schedule);
    }
    Ok(outcome)
}

/// What was due and got no answer waited from its time until now.
fn count_unanswered(outcome: &mut Outcome, schedule: &Schedule) {
    for n in outcome.done + outcome.failed..schedule.total {
        outcome.record(schedule.due(n).elapsed());
        outcome.fail("no answer before the end of the run".to_owned());
    }
}
