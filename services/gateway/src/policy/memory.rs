//! Decisions that still hold: what was allowed stays allowed for the same request until its token ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ring::digest::{Context, SHA256};

use super::{Decision, input::Projection};

/// The longest a decision is remembered; a rule that looks at the time for another reason than a token's end is late by
/// this much.
const LONGEST: Duration = Duration::from_secs(10);

type RequestHash = [u8; 32];

/// An allowed request.
struct Held {
    decision: Decision,
    /// Seconds since 1970.
    until: f64,
}

/// Bounded memory of what one generation of the policy allowed. Refusals are not kept: they would let strangers fill it.
pub(super) struct DecisionMemory(moka::sync::Cache<RequestHash, Arc<Held>>);

struct AtItsEnd;

impl moka::Expiry<RequestHash, Arc<Held>> for AtItsEnd {
    fn expire_after_create(&self, _: &RequestHash, held: &Arc<Held>, _: Instant) -> Option<Duration> {
        let left = Duration::try_from_secs_f64(held.until - now()).unwrap_or_default();
        Some(left.min(LONGEST))
    }
}

impl DecisionMemory {
    pub(super) fn new(capacity: u64) -> Self {
        Self(moka::sync::Cache::builder().max_capacity(capacity).expire_after(AtItsEnd).build())
    }

    pub(super) fn recall(&self, request: &RequestHash) -> Option<Decision> {
        // The wall clock has the last word: it may have been set since.
        self.0.get(request).filter(|held| now() < held.until).map(|held| held.decision.clone())
    }

    /// Keeps an allowed decision that holds until `until`, in seconds since 1970.
    pub(super) fn keep(&self, request: RequestHash, decision: &Decision, until: f64) {
        if decision.allowed && now() < until {
            self.0.insert(request, Arc::new(Held { decision: decision.clone(), until }));
        }
    }
}

/// Each value goes in with its length, so that no two requests run into one another.
pub(super) fn hash(projection: &Projection<'_>) -> RequestHash {
    let mut context = Context::new(&SHA256);
    for value in projection.values() {
        let length = value.map_or(u64::MAX, |value| value.len() as u64);
        context.update(&length.to_le_bytes());
        context.update(value.unwrap_or_default().as_bytes());
    }
    let mut hash = RequestHash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn now() -> f64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs_f64()
}
