//! State that may be lost without harm: rate limits, leases, short-lived flags. In memory for one process, in Redis for
//! many.

mod memory;

pub use memory::MemorySoftState;

use std::time::Duration;

use async_trait::async_trait;
use scope::Tenant;

#[derive(Debug, thiserror::Error)]
#[error("soft state unavailable: {0}")]
pub struct SoftStateError(pub String);

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
    /// Takes `cost` tokens from the bucket `name` of `tenant`.
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
