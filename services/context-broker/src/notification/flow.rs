//! Flow control: an update that asks for it is answered when what is due to receivers has drained (ngsi-v2.md 11).
//!
//! ```text
//! before the update: target = waiting + (queue - waiting) * (1 - gauge)
//! after it: until not more than target wait, look again each step, at most so long
//! ```
//!
//! What waits is every change that nobody has looked for receivers of, and every notification that is kept. Pausing who
//! writes is the writer's own choice: nobody else is held up.

use std::{sync::Arc, time::Duration};

use bus::{Bus, CONTEXT_CHANGES};
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};

use super::NOTIFIER_GROUP;
use crate::subscription::Registry;

/// `gauge:stepDelay:maxInterval`, as the original's flag has it; times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FlowControl {
    /// From 0, any backlog that the queue has room for is fine, to 1, none may be left that was not there before.
    gauge: f64,
    step: Duration,
    longest: Duration,
}

impl FlowControl {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let gauge = parts.next()?.parse().ok().filter(|gauge| (0.0..=1.0).contains(gauge))?;
        let mut milliseconds =
            || parts.next()?.parse::<u32>().ok().map(|ms| Duration::from_millis(ms.into()));
        let (step, longest) = (milliseconds()?, milliseconds()?);
        parts.next().is_none().then_some(Self { gauge, step: step.max(Duration::from_millis(1)), longest })
    }

    /// How much may wait after an update before which so much waited.
    fn target(&self, waiting: u64, queue: u64) -> u64 {
        let room = queue.saturating_sub(waiting) as f64;
        waiting.saturating_add((room * (1.0 - self.gauge)) as u64)
    }
}

/// What an update will wait for.
pub(crate) struct Pause {
    target: u64,
    /// When it is answered in any case.
    until: Instant,
}

/// Holds up those who ask for it.
pub(crate) struct Flow {
    control: FlowControl,
    /// How much may wait at all, by this account.
    queue: u64,
    registry: Arc<Registry>,
    bus: Arc<dyn Bus>,
    /// Within so long of its beginning a request is answered, whatever the control says.
    at_most: Duration,
    /// Requests that may be held up at once: they take places that others need.
    places: Semaphore,
    /// What waited when it was looked up last: all who wait share one look in each step.
    looked: Mutex<Option<(Instant, u64)>>,
}

impl Flow {
    /// `at_most`: from the beginning of a request to the end of its pause. Beyond `places` requests at once, nobody is held up.
    pub(crate) fn new(
        control: FlowControl,
        queue: u32,
        at_most: Duration,
        places: usize,
        registry: Arc<Registry>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        let places = Semaphore::new(places.min(Semaphore::MAX_PERMITS));
        Self { control, queue: queue.into(), registry, bus, at_most, places, looked: Mutex::default() }
    }

    /// To be asked before an update; none when that is not known.
    pub(crate) async fn begin(&self) -> Option<Pause> {
        let until = Instant::now() + self.at_most;
        let waiting = self.waiting(Duration::ZERO).await?;
        Some(Pause { target: self.control.target(waiting, self.queue), until })
    }

    /// Returns when not more than the target wait, at the latest after the longest pause.
    pub(crate) async fn drained(&self, Pause { target, until }: Pause) {
        let Ok(_place) = self.places.try_acquire() else { return };
        let until = until.min(Instant::now() + self.control.longest);
        // The first look is at what came after the update.
        let mut age = Duration::ZERO;
        while let Some(waiting) = self.waiting(age).await {
            if waiting <= target {
                return;
            }
            let next = Instant::now() + self.control.step;
            tokio::time::sleep_until(next.min(until)).await;
            if next >= until {
                return;
            }
            age = self.control.step / 2;
        }
    }

    /// How much waits; what was looked up less than `age` ago will do. None, and so no pause, while that cannot be told.
    async fn waiting(&self, age: Duration) -> Option<u64> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        // Somebody else may have looked while this one waited for the lock.
        if let Some((when, waiting)) = *looked
            && (when >= asked || asked.duration_since(when) < age)
        {
            return Some(waiting);
        }
        let begun = Instant::now();
        let waiting = match self.count().await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::debug!(error, "what waits is not known, nobody is held up");
                return None;
            }
        };
        *looked = Some((begun, waiting));
        Some(waiting)
    }

    async fn count(&self) -> Result<u64, String> {
        let unseen =
            self.bus.lag(CONTEXT_CHANGES, NOTIFIER_GROUP).await.map_err(|error| error.to_string())?;
        // Beyond the queue it does not matter how much.
        let kept = self.registry.deliveries.pending(self.queue.saturating_add(1)).await;
        Ok(unseen.saturating_add(kept.map_err(|error| error.to_string())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_takes_is_read() {
        let read = FlowControl::parse("0.3:500:20000").unwrap();
        let expected =
            FlowControl { gauge: 0.3, step: Duration::from_millis(500), longest: Duration::from_secs(20) };
        assert_eq!(read, expected);
        assert_eq!(
            FlowControl::parse("1:0:0").unwrap().step,
            Duration::from_millis(1),
            "never in a tight loop"
        );
        for wrong in
            ["", "1", "1:2", "1:2:3:4", "1.1:2:3", "-0.1:2:3", "NaN:2:3", "x:2:3", "1:x:3", "1:2:-3", "1:2:"]
        {
            assert_eq!(FlowControl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_target_is_between_what_waits_and_the_queue() {
        for (gauge, waiting, queue, target) in [
            ("0", 200, 1_000, 1_000),
            ("1", 200, 1_000, 200),
            ("0.3", 200, 1_000, 760),
            ("0.5", 2_000, 1_000, 2_000),
            ("0", u64::MAX, 1_000, u64::MAX),
        ] {
            let control = FlowControl::parse(&format!("{gauge}:1:1")).unwrap();
            assert_eq!(control.target(waiting, queue), target, "{gauge}");
        }
    }
}
