//! The store of one process: a journal and a SQLite file that nobody else writes, with entities kept in memory.
//!
//! ```text
//! apply ─► GroupCommit ─► writer ─► journal: durable ─► overlay ─► answers
//!                                                        └─► applier ─► one transaction of many changes ─► cache
//! find ──► overlay, else cache, else Finder ─► reader connection, one statement for all who wait
//! list, scan, count ─► overlay.settle() ─────► reader connection
//! ```
//!
//! Invariants
//! - The rows are what the journal made of them up to its entry `sequence.journal`, in the same transaction.
//! - What is newer is in the overlay; so is what a start finds in the journal and not in the rows.

mod applier;
mod cache;
mod condition;
mod finder;
mod index;
#[cfg(test)]
mod journal_tests;
mod overlay;
mod packed;
#[cfg(test)]
mod plans;
mod reader;
mod recovery;
mod sorted;
mod subscriptions;
mod writer;

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use bus::{Journal, OutboxDb};
use ngsi::{EntityText, geo::CellRange, query::OrderKey};
use parking_lot::RwLock;
use scope::{PathPattern, QueryScope, Tenant};
use service_kit::{Clock, Tasks};
use store::{GroupCommit, SqlitePools, StoreError, group_commit::GroupCommitOptions};
use tokio_util::sync::CancellationToken;

use super::{
    AttributeIndex, ContextStore, Cursor, Opened, Place, Replacement, Selection, StoreGauges, SystemStore,
    WakeSlot, schema,
};
use crate::{
    error::WriteError,
    subscription::{Known, StoredSubscription, SubscriptionChanges, SubscriptionId},
    update::{Applied, BoxedWrite, Limits},
};
use applier::{Applier, Relayed};
use cache::EntityCache;
use finder::Finder;
use overlay::Overlay;
use writer::Writer;

/// How the store is opened.
#[derive(Clone)]
pub struct SqliteOptions {
    /// Bytes of entities kept in memory, about.
    pub cache_bytes: u64,
    /// Bytes of one entity's attributes, at most.
    pub max_entity_bytes: usize,
    /// Indexes on attributes.
    pub indexes: Vec<AttributeIndex>,
    pub group_commit: GroupCommitOptions,
    /// Whether the bus reads events from the journal; they go to the outbox otherwise.
    pub reads_journal: bool,
}

/// The epochs of all tenants, as committed.
type Epochs = Arc<RwLock<HashMap<Tenant, i64>>>;

pub struct SqliteStore {
    pools: SqlitePools,
    cache: Arc<EntityCache>,
    overlay: Arc<Overlay>,
    journal: Journal,
    commit: GroupCommit<Writer>,
    finder: GroupCommit<Finder>,
    epochs: Epochs,
    clock: Arc<dyn Clock>,
    indexes: Vec<AttributeIndex>,
}

impl SqliteStore {
    /// Opens `file`; its group commit runs in `tasks`.
    pub async fn open(
        file: &Path,
        options: SqliteOptions,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Opened<Self>, StoreError> {
        let orders = [sorted::VALUES];
        let pools = store::open_sqlite_with(file, schema::COMPONENT, schema::MIGRATIONS, &orders).await?;
        index::prepare(&pools, &options.indexes).await?;
        let cache = Arc::new(EntityCache::new(options.cache_bytes));
        let known = subscriptions::load_epochs(&pools).await?;
        let epochs: Epochs = Arc::new(RwLock::new(known.into_iter().collect()));
        let wake = WakeSlot::default();
        let limits = Limits { max_entity_bytes: options.max_entity_bytes };
        let recovered = recovery::open(file, &pools, options.reads_journal).await?;
        let (journal, overlay) = (recovered.journal, Arc::new(recovered.overlay));
        let applier = Applier {
            pools: pools.clone(),
            cache: cache.clone(),
            overlay: overlay.clone(),
            journal: journal.clone(),
            relayed: (!options.reads_journal).then(|| Relayed { wake: wake.clone() }),
        };
        applier.apply().await?;
        let parts = writer::Parts {
            pools: pools.clone(),
            cache: cache.clone(),
            overlay: overlay.clone(),
            epochs: epochs.clone(),
            clock: clock.clone(),
            wake: options.reads_journal.then(|| wake.clone()),
            limits,
        };
        let writer = Writer::new(parts, recovered.appender);
        let (commit, work) = GroupCommit::new(Arc::new(writer), options.group_commit);
        let stop = tasks.stop_token();
        let last_commit = CancellationToken::new();
        let committed = last_commit.clone();
        tasks.spawn("context-broker.commit", async move {
            work.run(stop).await;
            last_commit.cancel();
            Ok::<_, StoreError>(())
        });
        tasks.spawn("context-broker.apply", async move {
            applier.run(committed).await;
            Ok::<_, StoreError>(())
        });
        let finder = Finder { pools: pools.clone(), cache: cache.clone() };
        let (finder, work) = GroupCommit::new(Arc::new(finder), GroupCommitOptions::default());
        let stop = tasks.stop_token();
        tasks.spawn("context-broker.find", async move {
            work.run(stop).await;
            Ok::<_, StoreError>(())
        });
        let outbox = match options.reads_journal {
            true => OutboxDb::Journal(journal.clone(), pools.clone()),
            false => OutboxDb::Sqlite(pools.clone()),
        };
        let store =
            Self { pools, cache, overlay, journal, commit, finder, epochs, clock, indexes: options.indexes };
        Ok(Opened { store, outbox, wake })
    }
}

#[async_trait]
impl ContextStore for SqliteStore {
    async fn apply(&self, write: BoxedWrite) -> Result<Applied, WriteError> {
        self.commit.submit(write).await
    }

    async fn find(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.find_cached(scope, id, entity_type).await
    }

    async fn list(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.overlay.settle().await?;
        self.list_rows(scope, selection, offset, limit).await
    }

    async fn scan(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.overlay.settle().await?;
        self.scan_rows(scope, selection, after, limit).await
    }

    async fn located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.overlay.settle().await?;
        self.located_rows(scope, selection, cells, limit).await
    }

    async fn count_located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.overlay.settle().await?;
        self.count_located_rows(scope, selection, cells, limit).await
    }

    fn knows_places(&self) -> bool {
        true
    }

    async fn places(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Place>, StoreError> {
        self.overlay.settle().await?;
        self.places_of_rows(scope, selection, cells, limit).await
    }

    async fn placed(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        rows: &[i64],
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.placed_rows(scope, selection, rows).await
    }

    async fn indexed(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        limit: u32,
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        self.overlay.settle().await?;
        self.indexed_rows(scope, selection, limit).await
    }

    async fn sorted(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        page: (u64, u32),
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        self.overlay.settle().await?;
        self.sorted_rows(scope, selection, order, page).await
    }

    async fn count(&self, scope: &QueryScope, selection: &Selection) -> Result<u64, StoreError> {
        self.overlay.settle().await?;
        self.count_rows(scope, selection).await
    }

    async fn insert_subscription(
        &self,
        tenant: &Tenant,
        path: &PathPattern,
        id: &SubscriptionId,
        body: &str,
    ) -> Result<StoredSubscription, StoreError> {
        self.insert_subscription_row(tenant, path, id, body).await
    }

    async fn replace_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        replacement: Replacement<'_>,
    ) -> Result<Option<StoredSubscription>, StoreError> {
        self.replace_subscription_row(tenant, id, replacement).await
    }

    async fn delete_subscription(&self, tenant: &Tenant, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.delete_subscription_row(tenant, id).await
    }

    async fn find_subscription(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
    ) -> Result<Option<StoredSubscription>, StoreError> {
        self.find_subscription_row(tenant, id).await
    }

    async fn subscription_page(
        &self,
        tenant: &Tenant,
        path: Option<&PathPattern>,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<StoredSubscription>, u64), StoreError> {
        self.subscription_page_rows(tenant, path, offset, limit).await
    }

    async fn subscription_changes(
        &self,
        tenant: &Tenant,
        known: Known,
        limit: u32,
    ) -> Result<SubscriptionChanges, StoreError> {
        self.changed_subscription_rows(tenant, known, limit).await
    }

    async fn count_subscriptions(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        self.count_subscription_rows(tenant).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pools.reader).await?;
        // Whoever reads rows would be refused.
        self.overlay.failure().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl SystemStore for SqliteStore {
    async fn sweep_expired(&self, now_us: i64) -> Result<u64, StoreError> {
        self.sweep_rows(now_us).await
    }

    async fn subscription_epochs(&self) -> Result<Vec<(Tenant, i64)>, StoreError> {
        Ok(self.epochs.read().iter().map(|(tenant, epoch)| (tenant.clone(), *epoch)).collect())
    }

    fn gauges(&self) -> Option<StoreGauges> {
        Some(StoreGauges {
            cache_bytes: self.cache.bytes(),
            journal_bytes: self.journal.bytes(),
            unapplied: self.overlay.waiting(),
        })
    }
}
