//! State that may be lost without harm: rate limits, leases, short-lived flags. In memory for one process, in Redis for
//! many.
//!
//! Invariants
//! - An answer, or an error, comes within [`ANSWER_WITHIN`]: a server that hangs never holds up a request longer.
//! - Memory is bounded: buckets and values are evicted, the least recently used first; live leases never are.
//! - What belongs to a tenant is reached only with that tenant.

mod config;
mod memory;
mod redis;

pub use config::{RedisConfig, SoftStateConfig};
pub use memory::MemorySoftState;
pub use redis::RedisSoftState;

use std::time::Duration;

use async_trait::async_trait;
use scope::Tenant;

#[derive(Debug, thiserror::Error)]
#[error("soft state unavailable: {0}")]
pub struct SoftStateError(pub String);

/// Longest time that any call takes.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(100);
/// Longest value, bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest wait that a bucket tells, also when it never fills.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// A token bucket: `per_second` on average, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Refused; the bucket holds enough after this long.
    RetryAfter(Duration),
}

#[async_trait]
pub trait SoftState: Send + Sync + 'static {
    /// Takes `cost` tokens from the bucket `name` of `tenant`. A cost above the burst counts as the whole burst.
    async fn take(
        &self,
        tenant: &Tenant,
        name: &str,
        rate: Rate,
        cost: f64,
    ) -> Result<Verdict, SoftStateError>;

    /// Gets or renews the lease `name` for `owner`; false when another owner holds it. System-wide, not per tenant.
    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> Result<bool, SoftStateError>;
    /// Gives the lease back if `owner` holds it.
    async fn release_lease(&self, name: &str, owner: &str) -> Result<(), SoftStateError>;

    /// A short-lived value under a tenant's key.
    async fn put(&self, tenant: &Tenant, key: &str, value: &str, ttl: Duration)
    -> Result<(), SoftStateError>;
    async fn get(&self, tenant: &Tenant, key: &str) -> Result<Option<String>, SoftStateError>;
    async fn remove(&self, tenant: &Tenant, key: &str) -> Result<(), SoftStateError>;

    /// For readiness.
    async fn check(&self) -> Result<(), SoftStateError>;
}
