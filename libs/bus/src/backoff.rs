use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Pauses between attempts: doubling from `first` to `max`, each with a random part so that readers do not march in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits; false when `stop` came first.
    pub(crate) async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let pause = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(self.max);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = stop.cancelled() => false,
        }
    }
}
