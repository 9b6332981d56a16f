//! The store of many replicas: PostgreSQL. Nothing is kept in memory; rows are locked while a batch changes them.
//!
//! ```text
//! apply ─► one of N group commits, by entity ─► reserve missing rows, lock sorted, apply, write back, outbox ─► answers
//! ```

mod condition;
mod index;
mod reader;
mod sorted;
mod subscriptions;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use bus::OutboxDb;
use ngsi::{EntityText, geo::CellRange, query::OrderKey};
use scope::{PathPattern, QueryScope, Tenant};
use service_kit::{Clock, Tasks};
use sqlx::PgPool;
use store::{GroupCommitShards, PostgresConfig, StoreError, group_commit::GroupCommitOptions};

use super::{
    AttributeIndex, ContextStore, Cursor, Opened, Replacement, Selection, StoreGauges, SystemStore, WakeSlot,
    schema,
};
use crate::{
    error::WriteError,
    subscription::{Known, StoredSubscription, SubscriptionChanges, SubscriptionId},
    update::{Applied, BoxedWrite, Limits},
};
use writer::Writer;

/// How the store is opened.
#[derive(Clone)]
pub struct PostgresOptions {
    pub config: PostgresConfig,
    /// Schema of all tables; made if it is missing.
    pub schema: String,
    /// Bytes of one entity's attributes, at most.
    pub max_entity_bytes: usize,
    /// Transactions at once.
    pub shards: usize,
    /// Indexes on attributes.
    pub indexes: Vec<AttributeIndex>,
    pub group_commit: GroupCommitOptions,
}

pub struct PostgresStore {
    pool: PgPool,
    commit: GroupCommitShards<Writer>,
    clock: Arc<dyn Clock>,
    indexes: Vec<AttributeIndex>,
}

impl PostgresStore {
    /// Connects; its group commits run in `tasks`.
    pub async fn open(
        options: PostgresOptions,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Opened<Self>, StoreError> {
        let pool =
            store::open_postgres(&options.config, &options.schema, schema::COMPONENT, schema::MIGRATIONS)
                .await?;
        index::prepare(&pool, &options.indexes).await?;
        let wake = WakeSlot::default();
        let writer = Writer {
            pool: pool.clone(),
            clock: clock.clone(),
            wake: wake.clone(),
            limits: Limits { max_entity_bytes: options.max_entity_bytes },
        };
        let (commit, loops) = GroupCommitShards::new(Arc::new(writer), options.shards, options.group_commit);
        for work in loops {
            let stop = tasks.stop_token();
            tasks.spawn("context-broker.commit", async move {
                work.run(stop).await;
                Ok::<_, StoreError>(())
            });
        }
        let outbox = OutboxDb::Postgres(pool.clone());
        Ok(Opened { store: Self { pool, commit, clock, indexes: options.indexes }, outbox, wake })
    }
}

#[async_trait]
impl ContextStore for PostgresStore {
    async fn apply(&self, write: BoxedWrite) -> Result<Applied, WriteError> {
        self.commit.submit(write.key().even_hash(), write).await
    }

    async fn find(
        &self,
        scope: &QueryScope,
        id: &str,
        entity_type: Option<&str>,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.find_rows(scope, id, entity_type).await
    }

    async fn list(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.list_rows(scope, selection, offset, limit).await
    }

    async fn scan(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.scan_rows(scope, selection, after, limit).await
    }

    async fn located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<Vec<Arc<EntityText>>, StoreError> {
        self.located_rows(scope, selection, cells, limit).await
    }

    async fn count_located(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        cells: &[CellRange],
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.count_located_rows(scope, selection, cells, limit).await
    }

    async fn indexed(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        limit: u32,
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        self.indexed_rows(scope, selection, limit).await
    }

    async fn sorted(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        page: (u64, u32),
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        self.sorted_rows(scope, selection, order, page).await
    }

    async fn count(&self, scope: &QueryScope, selection: &Selection) -> Result<u64, StoreError> {
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
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}

#[async_trait]
impl SystemStore for PostgresStore {
    async fn sweep_expired(&self, now_us: i64) -> Result<u64, StoreError> {
        self.sweep_rows(now_us).await
    }

    async fn subscription_epochs(&self) -> Result<Vec<(Tenant, i64)>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT tenant, epoch FROM subscription_epoch").fetch_all(&self.pool).await?;
        Ok(super::row::tenants(rows))
    }

    fn gauges(&self) -> Option<StoreGauges> {
        None
    }
}
