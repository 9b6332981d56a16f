//! Where registrations are kept: a file of their own when embedded, beside the broker's tables on PostgreSQL.

mod postgres;
mod row;
mod schema;
mod sqlite;
#[cfg(test)]
mod suite;

use ::store::StoreError;
use async_trait::async_trait;
use ngsi::registration::ForwardingCounters;
use scope::{ServicePath, Tenant};

use super::{RegistrationId, StoredRegistration};

pub(crate) use postgres::PostgresRegistrationStore;
pub(crate) use sqlite::SqliteRegistrationStore;

/// What was counted for one registration and is not stored yet.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) tenant: Tenant,
    pub(crate) id: RegistrationId,
    pub(crate) counters: ForwardingCounters,
}

/// The registrations of all tenants. Each change of a tenant's registrations gives the tenant a higher epoch.
#[async_trait]
pub(crate) trait RegistrationStore: Send + Sync + 'static {
    async fn insert(
        &self,
        tenant: &Tenant,
        path: &ServicePath,
        id: &RegistrationId,
        body: &str,
        created_us: i64,
    ) -> Result<(), StoreError>;

    /// Replaces the body of a registration that still has this revision; false when it has not.
    async fn replace(
        &self,
        tenant: &Tenant,
        id: &RegistrationId,
        revision: i64,
        body: &str,
    ) -> Result<bool, StoreError>;

    /// False when there is none.
    async fn delete(&self, tenant: &Tenant, id: &RegistrationId) -> Result<bool, StoreError>;

    async fn find(
        &self,
        tenant: &Tenant,
        id: &RegistrationId,
    ) -> Result<Option<StoredRegistration>, StoreError>;

    /// All of a tenant, oldest first, with the epoch that they are complete for.
    async fn all(&self, tenant: &Tenant) -> Result<(i64, Vec<StoredRegistration>), StoreError>;

    /// The epoch of every tenant that has one.
    async fn epochs(&self) -> Result<Vec<(Tenant, i64)>, StoreError>;

    /// Adds to the counters of registrations that still exist.
    async fn count(&self, counted: &[Counted]) -> Result<(), StoreError>;
}
