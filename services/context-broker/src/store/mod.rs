//! Where entities and subscriptions live. One trait, two implementations beside each other, one suite for both.
//!
//! ```text
//! apply ─► group commit ─► PostgreSQL: one transaction: rows locked, operations applied in order, rows and events written
//!                      └─► SQLite: operations applied in order, events appended to the journal; rows follow
//! find, list, scan, count ─► all committed state, and nothing else
//! ```
//!
//! Invariants
//! - A change and its event are durable together; its version comes from a sequence that never restarts.
//! - Operations on one entity are applied in the order they were given; one bad operation harms no other.
//! - What has expired is invisible, whether it is swept already or not.

mod bulk;
mod index;
pub mod postgres;
mod row;
mod schema;
mod selection;
mod sorted;
pub mod sqlite;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod suite_queries;
#[cfg(test)]
mod suite_subscriptions;

use std::sync::Arc;

use async_trait::async_trait;
use bus::{OutboxDb, Waker};
use ngsi::{EntityText, geo::CellRange, query::OrderKey};
use scope::{PathPattern, QueryScope, Tenant};
use store::StoreError;

use crate::{
    error::WriteError,
    subscription::{Known, StoredSubscription, SubscriptionChanges, SubscriptionId},
    update::{Applied, BoxedWrite},
};

pub(crate) use bulk::Bulk;
pub use index::AttributeIndex;
pub(crate) use row::{decode, decode_all};
pub use selection::{Cursor, Selection};

/// The store and what the rest of the service needs of it.
pub struct Opened<S> {
    pub store: S,
    /// Where the outbox of `context.changes` is.
    pub outbox: OutboxDb,
    /// Give it the waker of the bus once that is known.
    pub wake: WakeSlot,
}

/// Holds the waker that is called after each commit.
pub type WakeSlot = Arc<std::sync::OnceLock<Waker>>;

/// The committed state of all tenants, one call at a time within a scope.
#[async_trait]
pub trait ContextStore: Send + Sync + 'static {
    /// Applies one operation as part of a group commit; when it returns, the change is durable and readable.
    async fn apply(&self, write: BoxedWrite) -> Result<Applied, WriteError>;

    /// The entities with this id (and type, if given), oldest first.
    async fn find(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError>;

    /// Entities of the selection in order of creation, then id: `limit` of them after the first `offset`.
    async fn list(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError>;

    /// The next `limit` entities after `after`, in the order of [`ContextStore::list`].
    async fn scan(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError>;

    /// Entities of the selection whose location is in one of these cells, in no order: `limit` of them at most.
    async fn located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError>;

    /// How many [`ContextStore::located`] would find.
    async fn count_located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Whether [`ContextStore::places`] says anything.
    fn knows_places(&self) -> bool {
        false
    }

    /// Where the entities of [`ContextStore::located`] are, without reading them: `limit` of them at most.
    async fn places(
        &self,
        _scope: &QueryScope,
        _selection: &Selection,
        _cells: &[CellRange],
        _limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        Ok(Vec::new())
    }

    /// Entities of the selection by what [`ContextStore::places`] said, in no order. What changed meanwhile may be missing, or
    /// be elsewhere.
    async fn placed(
        &self,
        _scope: &QueryScope,
        _selection: &Selection,
        _rows: &[i64],
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        Ok(Vec::new())
    }

    /// Entities of the selection that an index on an attribute finds, in no order: `limit` of them at most. `None`: no
    /// index serves its conditions.
    async fn indexed(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        limit: u32,
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError>;

    /// Entities of the selection in another order, ties by creation: `limit` of them after the first `offset`. They are the
    /// right ones, but come as they like. `None`: the store knows no such order.
    async fn sorted(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        page: (u64, u32),
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError>;

    async fn count(&self, scope: &QueryScope, selection: &Selection) -> Result<u64, StoreError>;

    /// Creates a subscription; its epoch is above that of every change committed before.
    async fn insert_subscription(
        &self,
        tenant: &Tenant,
        path: &PathPattern,
        id: &SubscriptionId,
        body: &str,
    ) -> Result<StoredSubscription, StoreError>;

    /// Replaces the body of a subscription that still has the expected revision; `None` when it has not.
    async fn replace_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        replacement: Replacement<'_>,
    ) -> Result<Option<StoredSubscription>, StoreError>;

    /// False when there is none.
    async fn delete_subscription(&self, tenant: &Tenant, id: &SubscriptionId) -> Result<bool, StoreError>;

    async fn find_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
    ) -> Result<Option<StoredSubscription>, StoreError>;

    /// Some of the subscriptions whose path is exactly `path`, or of all of the tenant, oldest first, and how many there are.
    async fn subscription_page(
        &self,
        tenant: &Tenant,
        path: Option<&PathPattern>,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<StoredSubscription>, u64), StoreError>;

    /// The next of the tenant's subscriptions that are not `known`, `limit` of them at most, and what was deleted since.
    async fn subscription_changes(
        &self,
        tenant: &Tenant,
        known: Known,
        limit: u32,
    ) -> Result<SubscriptionChanges, StoreError>;

    async fn count_subscriptions(&self, tenant: &Tenant) -> Result<u64, StoreError>;

    /// For readiness.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Deletions of subscriptions are remembered for this many changes of the tenant's subscriptions; whoever is farther behind
/// reads them all.
pub(crate) const DELETIONS_KEPT: i64 = 100_000;

/// Where an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub cell: i64,
    /// What the store finds it by.
    pub row: i64,
}

/// What a PATCH of a subscription stores.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// The revision that the new body was made from.
    pub expected: i64,
    pub body: &'a str,
    /// It was inactive and becomes active: changes before this one are none of its business.
    pub reactivated: bool,
}

/// Work that belongs to no tenant's request (decision 23).
#[async_trait]
pub trait SystemStore: Send + Sync + 'static {
    /// Deletes some of the entities that expired before `now_us`; how many.
    async fn sweep_expired(&self, now_us: i64) -> Result<u64, StoreError>;

    /// The subscription epoch of every tenant that has one.
    async fn subscription_epochs(&self) -> Result<Vec<(Tenant, i64)>, StoreError>;

    /// What a store keeps outside its rows; `None` where that is nothing.
    fn gauges(&self) -> Option<StoreGauges>;
}

/// For metrics.
#[derive(Clone, Copy, Debug)]
pub struct StoreGauges {
    /// Entities in memory, about.
    pub cache_bytes: u64,
    pub journal_bytes: u64,
    /// Entities that changed in the journal and not yet in the rows.
    pub unapplied: usize,
}
