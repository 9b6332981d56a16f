use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use scope::Tenant;
use tokio::time::Instant;

use crate::{Rate, SoftState, SoftStateError, Verdict};

/// Entries of one kind, at most; beyond it what is stale goes first, then whatever is there.
const MAX_ENTRIES: usize = 100_000;

/// Soft state of one process.
#[derive(Default)]
pub struct MemorySoftState {
    buckets: Mutex<HashMap<(Tenant, String), Bucket>>,
    leases: Mutex<HashMap<String, Lease>>,
    values: Mutex<HashMap<(Tenant, String), Held>>,
}

struct Bucket {
    tokens: f64,
    filled_at: Instant,
    /// When it is full again: from then on it need not be remembered.
    full_at: Instant,
}

struct Lease {
    owner: String,
    until: Instant,
}

struct Held {
    value: String,
    until: Instant,
}

/// Makes room in a full map: drops what is over, and if that is nothing, everything (soft state may be lost).
fn make_room<K, V>(map: &mut HashMap<K, V>, over: impl Fn(&V) -> bool) {
    if map.len() >= MAX_ENTRIES {
        map.retain(|_, entry| !over(entry));
        if map.len() >= MAX_ENTRIES {
            map.clear();
        }
    }
}

#[async_trait]
impl SoftState for MemorySoftState {
    async fn take(
        &self,
        tenant: &Tenant,
        name: &str,
        rate: Rate,
        cost: f64,
    ) -> Result<Verdict, SoftStateError> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        make_room(&mut buckets, |bucket| bucket.full_at <= now);
        let bucket = buckets.entry((tenant.clone(), name.to_owned())).or_insert(Bucket {
            tokens: rate.burst,
            filled_at: now,
            full_at: now,
        });
        let elapsed = now.duration_since(bucket.filled_at).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate.per_second).min(rate.burst);
        bucket.filled_at = now;
        let verdict = if bucket.tokens >= cost {
            bucket.tokens -= cost;
            Verdict::Allowed
        } else {
            Verdict::RetryAfter(seconds((cost - bucket.tokens) / rate.per_second))
        };
        bucket.full_at = now + seconds((rate.burst - bucket.tokens) / rate.per_second);
        Ok(verdict)
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> Result<bool, SoftStateError> {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        make_room(&mut leases, |lease| lease.until <= now);
        let held_by_other = leases.get(name).is_some_and(|lease| lease.owner != owner && lease.until > now);
        if !held_by_other {
            leases.insert(name.to_owned(), Lease { owner: owner.to_owned(), until: now + ttl });
        }
        Ok(!held_by_other)
    }

    async fn release_lease(&self, name: &str, owner: &str) -> Result<(), SoftStateError> {
        let mut leases = self.leases.lock();
        if leases.get(name).is_some_and(|lease| lease.owner == owner) {
            leases.remove(name);
        }
        Ok(())
    }

    async fn put(
        &self,
        tenant: &Tenant,
        key: &str,
        value: &str,
        ttl: Duration,
    ) -> Result<(), SoftStateError> {
        let now = Instant::now();
        let mut values = self.values.lock();
        make_room(&mut values, |held| held.until <= now);
        values.insert((tenant.clone(), key.to_owned()), Held { value: value.to_owned(), until: now + ttl });
        Ok(())
    }

    async fn get(&self, tenant: &Tenant, key: &str) -> Result<Option<String>, SoftStateError> {
        let values = self.values.lock();
        let held = values.get(&(tenant.clone(), key.to_owned())).filter(|held| held.until > Instant::now());
        Ok(held.map(|held| held.value.clone()))
    }

    async fn remove(&self, tenant: &Tenant, key: &str) -> Result<(), SoftStateError> {
        self.values.lock().remove(&(tenant.clone(), key.to_owned()));
        Ok(())
    }

    async fn check(&self) -> Result<(), SoftStateError> {
        Ok(())
    }
}

/// A pause of so many seconds; at most a day, so that a rate of zero does not overflow.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(86_400.0)).unwrap_or(Duration::from_secs(86_400))
}
