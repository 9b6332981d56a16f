use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::BusCounters;

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    published: AtomicU64,
    dead: AtomicU64,
    lost: AtomicU64,
    relay_failures: AtomicU64,
}

impl Counters {
    pub(super) fn published(&self, records: usize) {
        self.published.fetch_add(records as u64, Relaxed);
    }

    pub(super) fn dead_letter(&self) {
        self.dead.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self, records: u64) {
        self.lost.fetch_add(records, Relaxed);
    }

    pub(super) fn relay_failed(&self) {
        self.relay_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> BusCounters {
        BusCounters {
            published: self.published.load(Relaxed),
            dead: self.dead.load(Relaxed),
            lost: self.lost.load(Relaxed),
            relay_failures: self.relay_failures.load(Relaxed),
        }
    }
}
