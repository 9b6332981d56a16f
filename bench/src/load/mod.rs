//! The load generator: raw HTTP/1.1 over keep-alive connections, one thread, no pipelining.

mod exchange;
mod frame;
mod pace;
mod run;
mod search;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

pub use exchange::{Answer, Exchange, call, request};
use hdrhistogram::Histogram;
pub use run::{Load, drive};
pub use search::{Capacity, Effort, capacity};

/// Writes request number `n` whole into the buffer.
pub type Requests = Arc<dyn Fn(u64, &mut Vec<u8>) + Send + Sync>;

/// Longest latency that is told apart, in nanoseconds; longer ones count as this.
const LONGEST_NANOS: u64 = 120_000_000_000;

/// Where requests go, and over how many connections.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub connections: usize,
}

/// What one run of the generator saw.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the scheduled time (open loop) or the sending (closed loop) to the last byte of the answer; nanoseconds.
    pub latency: Histogram<u64>,
    /// Answered with a status below 300.
    pub done: u64,
    /// Other answers, broken connections, and requests that were not answered before the run's end.
    pub failed: u64,
    pub first_failure: Option<String>,
    pub elapsed: Duration,
    /// CPU time of the generator's process, user and system.
    pub generator_cpu: Duration,
}

impl Outcome {
    fn new() -> Self {
        Self {
            latency: histogram(),
            done: 0,
            failed: 0,
            first_failure: None,
            elapsed: Duration::ZERO,
            generator_cpu: Duration::ZERO,
        }
    }

    /// Requests per second that were answered well.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that a share `quantile` (0 to 1) of the requests did not exceed.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// An error when any request failed.
    pub fn all_well(self, what: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.failed == 0,
            "{what}: {} of {} requests failed: {}",
            self.failed,
            self.failed + self.done,
            self.first_failure.as_deref().unwrap_or("no answer in time")
        );
        Ok(self)
    }

    fn answered(&mut self, since: Instant, status: u16, body: &[u8]) {
        self.record(since.elapsed());
        if status < 300 {
            self.done += 1;
        } else {
            let shown = body.get(..300).unwrap_or(body);
            self.fail(format!("{status} {}", String::from_utf8_lossy(shown)));
        }
    }

    fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NANOS);
        self.latency.saturating_record(nanos.clamp(1, LONGEST_NANOS));
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }
}

/// An empty histogram of nanoseconds, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("bounds and digits are constants that fit")
}
