use std::{collections::HashMap, hash::Hash, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use scope::Tenant;
use tokio::time::Instant;

use crate::{MAX_RETRY_AFTER, MAX_VALUE_BYTES, Rate, SoftState, SoftStateError, Verdict};

/// Entries of each kind, at most.
const MAX_ENTRIES: usize = 100_000;

/// Soft state of one process.
pub struct MemorySoftState {
    buckets: Mutex<Bounded<(Tenant, Box<str>), Bucket>>,
    values: Mutex<Bounded<(Tenant, Box<str>), Value>>,
    leases: Mutex<HashMap<Box<str>, Lease>>,
    max_entries: usize,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Value {
    text: Box<str>,
    until: Instant,
}

struct Lease {
    owner: Box<str>,
    until: Instant,
}

impl MemorySoftState {
    pub fn new() -> Self {
        Self::with_capacity(MAX_ENTRIES)
    }

    /// Keeps at most `max_entries` buckets, as many values and as many leases.
    pub fn with_capacity(max_entries: usize) -> Self {
        Self {
            buckets: Mutex::new(Bounded::new(max_entries)),
            values: Mutex::new(Bounded::new(max_entries)),
            leases: Mutex::default(),
            max_entries,
        }
    }

    /// Buckets, values and leases that are kept, and how many of each may be.
    pub fn fill(&self) -> ([usize; 3], usize) {
        let counts =
            [self.buckets.lock().entries.len(), self.values.lock().entries.len(), self.leases.lock().len()];
        (counts, self.max_entries)
    }
}

impl Default for MemorySoftState {
    fn default() -> Self {
        Self::new()
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
        let full = || Bucket { tokens: rate.burst, at: now };
        let bucket = buckets.entry((tenant.clone(), name.into()), now, full);
        let gained = now.duration_since(bucket.at).as_secs_f64() * rate.per_second;
        bucket.tokens = (bucket.tokens + gained).min(rate.burst);
        bucket.at = now;
        let cost = cost.min(rate.burst);
        if cost <= bucket.tokens {
            bucket.tokens -= cost;
            return Ok(Verdict::Allowed);
        }
        let seconds = (cost - bucket.tokens) / rate.per_second;
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER);
        // One microsecond more, so that rounding never makes the caller come too early.
        Ok(Verdict::RetryAfter((wait + Duration::from_micros(1)).min(MAX_RETRY_AFTER)))
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> Result<bool, SoftStateError> {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        if leases.get(name).is_some_and(|lease| lease.until > now && *lease.owner != *owner) {
            return Ok(false);
        }
        if leases.len() >= self.max_entries {
            leases.retain(|_, lease| lease.until > now);
            if leases.len() >= self.max_entries {
                return Err(SoftStateError("too many leases".into()));
            }
        }
        leases.insert(name.into(), Lease { owner: owner.into(), until: now + ttl });
        Ok(true)
    }

    async fn release_lease(&self, name: &str, owner: &str) -> Result<(), SoftStateError> {
        let mut leases = self.leases.lock();
        if leases.get(name).is_some_and(|lease| *lease.owner == *owner) {
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
        check_size(value)?;
        let now = Instant::now();
        let mut values = self.values.lock();
        let kept = || Value { text: "".into(), until: now };
        *values.entry((tenant.clone(), key.into()), now, kept) =
            Value { text: value.into(), until: now + ttl };
        Ok(())
    }

    async fn get(&self, tenant: &Tenant, key: &str) -> Result<Option<String>, SoftStateError> {
        let now = Instant::now();
        let mut values = self.values.lock();
        let key = (tenant.clone(), key.into());
        match values.entries.get_mut(&key) {
            Some((used, value)) if value.until > now => {
                *used = now;
                Ok(Some(value.text.to_string()))
            }
            Some(_) => {
                values.entries.remove(&key);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn remove(&self, tenant: &Tenant, key: &str) -> Result<(), SoftStateError> {
        self.values.lock().entries.remove(&(tenant.clone(), key.into()));
        Ok(())
    }

    async fn check(&self) -> Result<(), SoftStateError> {
        Ok(())
    }
}

pub(crate) fn check_size(value: &str) -> Result<(), SoftStateError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(SoftStateError(format!(
            "a value may have {MAX_VALUE_BYTES} bytes, this has {}",
            value.len()
        )));
    }
    Ok(())
}

/// A map that forgets a tenth of its entries, the least recently used, when it is full.
struct Bounded<K, V> {
    entries: HashMap<K, (Instant, V)>,
    max: usize,
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), max: max.max(1) }
    }

    fn entry(&mut self, key: K, now: Instant, new: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.max && !self.entries.contains_key(&key) {
            self.forget();
        }
        let (used, value) = self.entries.entry(key).or_insert_with(|| (now, new()));
        *used = now;
        value
    }

    fn forget(&mut self) {
        let mut used: Vec<Instant> = self.entries.values().map(|(used, _)| *used).collect();
        let count = used.len().div_ceil(10);
        let (_, limit, _) = used.select_nth_unstable(count - 1);
        let limit = *limit;
        // Several entries may share the limit: no more go than were to go.
        let mut left = count;
        self.entries.retain(|_, (used, _)| {
            let keep = *used > limit || left == 0;
            left -= usize::from(!keep);
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_stays_bounded_and_what_is_in_use_stays() {
        let state = MemorySoftState::with_capacity(100);
        let (tenant, rate) = (Tenant::default(), Rate { per_second: 0.001, burst: 1.0 });
        assert_eq!(state.take(&tenant, "used", rate, 1.0).await.unwrap(), Verdict::Allowed);
        for n in 0..10_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            state.take(&tenant, &format!("device{n}"), rate, 1.0).await.unwrap();
            state.put(&tenant, &format!("key{n}"), "v", Duration::from_secs(60)).await.unwrap();
            let still_empty = state.take(&tenant, "used", rate, 1.0).await.unwrap();
            assert_ne!(still_empty, Verdict::Allowed, "after {n} others");
        }
        let ([buckets, values, _], max) = state.fill();
        assert!(buckets <= max && values <= max, "{buckets} buckets, {values} values");
    }

    #[tokio::test(start_paused = true)]
    async fn live_leases_are_never_forgotten() {
        let state = MemorySoftState::with_capacity(10);
        for n in 0..10 {
            let name = format!("lease{n}");
            assert!(state.acquire_lease(&name, "a", Duration::from_secs(10)).await.unwrap());
        }
        assert!(state.acquire_lease("one more", "a", Duration::from_secs(10)).await.is_err());
        assert!(!state.acquire_lease("lease0", "b", Duration::from_secs(10)).await.unwrap());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(state.acquire_lease("one more", "a", Duration::from_secs(10)).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_fills_at_its_rate() {
        let state = MemorySoftState::new();
        let (tenant, rate) = (Tenant::default(), Rate { per_second: 10.0, burst: 5.0 });
        for _ in 0..5 {
            assert_eq!(state.take(&tenant, "b", rate, 1.0).await.unwrap(), Verdict::Allowed);
        }
        let Verdict::RetryAfter(wait) = state.take(&tenant, "b", rate, 1.0).await.unwrap() else { panic!() };
        assert!((99..=101).contains(&wait.as_millis()), "{wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(state.take(&tenant, "b", rate, 1.0).await.unwrap(), Verdict::Allowed);
    }
}
