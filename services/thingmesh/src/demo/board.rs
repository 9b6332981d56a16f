//! What the demo has seen so far, for the terminal.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::scenario::Check;

/// Counts of one tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct TenantCounts {
    pub(crate) measures: u64,
    pub(crate) failed: u64,
    /// Cross-tenant tries that were refused with 403, and those that were not.
    pub(crate) refused: u64,
    pub(crate) leaked: u64,
    /// What the tenant's entities hold now: id, and its attributes as one text.
    pub(crate) values: Vec<(String, String)>,
    /// What an earlier run on the same data left.
    pub(crate) before: Totals,
    /// What there is now, `before` included.
    pub(crate) now: Totals,
}

/// What the mesh counts itself, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) points: u64,
    pub(crate) notifications: u64,
}

impl Totals {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            points: self.points.saturating_sub(before.points),
            notifications: self.notifications.saturating_sub(before.notifications),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) tenants: BTreeMap<&'static str, TenantCounts>,
    pub(crate) checks_passed: usize,
    pub(crate) faults: Vec<Check>,
    pub(crate) elapsed_s: f64,
}

/// Shared between the scenario that counts and the view that shows.
pub(crate) struct Board {
    started: Instant,
    state: Mutex<Snapshot>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let state =
            Snapshot { tenants: BTreeMap::new(), checks_passed: 0, faults: Vec::new(), elapsed_s: 0.0 };
        Self { started: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, Snapshot> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checked(&self, check: &Check) {
        let mut state = self.state();
        if check.fault.is_some() {
            state.faults.push(check.clone());
        } else {
            state.checks_passed += 1;
        }
    }

    pub(crate) fn measured(&self, tenant: &'static str, taken: bool) {
        let mut state = self.state();
        let counts = state.tenants.entry(tenant).or_default();
        if taken {
            counts.measures += 1;
        } else {
            counts.failed += 1;
        }
    }

    pub(crate) fn refused(&self, tenant: &'static str, status: u16) {
        let mut state = self.state();
        let counts = state.tenants.entry(tenant).or_default();
        if status == 403 {
            counts.refused += 1;
        } else {
            counts.leaked += 1;
        }
    }

    pub(crate) fn watch(&self, tenant: &'static str, update: impl FnOnce(&mut TenantCounts)) {
        update(self.state().tenants.entry(tenant).or_default());
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { elapsed_s: self.started.elapsed().as_secs_f64(), ..self.state().clone() }
    }
}
