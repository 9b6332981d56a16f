//! The schedule of an open loop: request `n` is due at `start + n / rate`, whatever the server does.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::{
    fd::OwnedFd,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};
use tokio::{io::unix::AsyncFd, sync::Semaphore};

/// Requests that are due within this of each other may be released together.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);

/// A constant rate of arrivals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    /// Seconds between arrivals.
    interval: f64,
    pub(super) total: u64,
}

impl Schedule {
    pub(super) fn new(start: Instant, rate: f64, duration: Duration) -> Self {
        let total = (rate * duration.as_secs_f64()).ceil().max(1.0) as u64;
        Self { start, interval: 1.0 / rate, total }
    }

    /// When request `n` is due.
    pub(super) fn due(&self, n: u64) -> Instant {
        self.start + Duration::from_secs_f64(n as f64 * self.interval)
    }

    /// How many requests are due at `now`.
    fn arrived(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.start) else { return 0 };
        ((since.as_secs_f64() / self.interval) as u64 + 1).min(self.total)
    }
}

/// Opens the gate once for each arrival; at the end once more for each connection, so that all see the end.
/// The kernel's timer is used directly: the runtime's own has steps of a millisecond.
pub(super) async fn pace(schedule: Schedule, gate: &Semaphore, connections: usize) -> io::Result<()> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = watched(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
    let mut released = 0;
    loop {
        let now = Instant::now();
        let arrived = schedule.arrived(now);
        gate.add_permits(usize::try_from(arrived - released).unwrap_or(usize::MAX));
        released = arrived;
        if released == schedule.total {
            gate.add_permits(connections);
            return Ok(());
        }
        let pause = schedule.due(released).saturating_duration_since(now).max(SHORTEST_PAUSE);
        wait(&timer, pause).await?;
    }
}

#[allow(deprecated, reason = "its successor is unsafe; an OwnedFd always names the same descriptor")]
fn watched(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(timer)
}

async fn wait(timer: &AsyncFd<OwnedFd>, pause: Duration) -> io::Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    let once = Itimerspec { it_interval: zero, it_value: value };
    rustix::time::timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        if let Ok(read) = read {
            return read.map(|_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_from_the_first_at_the_start() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 1000.0, Duration::from_secs(2));
        assert_eq!(schedule.total, 2000);
        for (millis, arrived) in [(0, 1), (10, 11), (1999, 2000), (5000, 2000)] {
            let now = start + Duration::from_millis(millis) + Duration::from_micros(1);
            assert_eq!(schedule.arrived(now), arrived, "after {millis} ms");
        }
        assert_eq!(schedule.due(500), start + Duration::from_millis(500));
    }
}
