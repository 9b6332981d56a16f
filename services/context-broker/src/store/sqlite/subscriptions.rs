//! Subscriptions and their epochs in SQLite. They go through the one writer connection, so that a change committed
//! after a subscription was created carries the new epoch.

use scope::{PathPattern, Tenant};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use store::{SqlitePools, StoreError};

use super::SqliteStore;
use crate::{
    store::{
        DELETIONS_KEPT, Replacement,
        row::{SubscriptionRow, subscription_changes, tenants},
    },
    subscription::{Known, StoredSubscription, SubscriptionChanges, SubscriptionId},
};

pub(super) async fn load_epochs(pools: &SqlitePools) -> Result<Vec<(Tenant, i64)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT tenant, epoch FROM subscription_epoch").fetch_all(&pools.reader).await?;
    Ok(tenants(rows))
}

async fn next_epoch(transaction: &mut Transaction<'_, Sqlite>, tenant: &Tenant) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO subscription_epoch (tenant, epoch) VALUES (?, 1) \
         ON CONFLICT (tenant) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **transaction)
    .await?)
}

impl SqliteStore {
    async fn commit_epoch(
        &self,
        transaction: Transaction<'_, Sqlite>,
        tenant: &Tenant,
        epoch: i64,
    ) -> Result<(), StoreError> {
        transaction.commit().await?;
        let mut epochs = self.epochs.write();
        let known = epochs.entry(tenant.clone()).or_insert(0);
        *known = epoch.max(*known);
        Ok(())
    }

    pub(super) async fn insert_subscription_row(
        &self,
        tenant: &Tenant,
        path: &PathPattern,
        id: &SubscriptionId,
        body: &str,
    ) -> Result<StoredSubscription, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let epoch = next_epoch(&mut transaction, tenant).await?;
        let created_us = self.clock.now_us();
        sqlx::query(
            "INSERT INTO subscription (tenant, id, path, body, since_epoch, revision, created_us) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(path.to_string())
        .bind(body)
        .bind(epoch)
        .bind(epoch)
        .bind(created_us)
        .execute(&mut *transaction)
        .await?;
        self.commit_epoch(transaction, tenant, epoch).await?;
        Ok(StoredSubscription {
            id: id.clone(),
            path: path.clone(),
            body: body.to_owned(),
            since_epoch: epoch,
            revision: epoch,
            created_us,
        })
    }

    pub(super) async fn replace_subscription_row(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
        replacement: Replacement<'_>,
    ) -> Result<Option<StoredSubscription>, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let epoch = next_epoch(&mut transaction, tenant).await?;
        let row: Option<SubscriptionRow> = sqlx::query_as(
            "UPDATE subscription SET body = ?1, revision = ?2, \
             since_epoch = CASE WHEN ?3 THEN ?2 ELSE since_epoch END \
             WHERE tenant = ?4 AND id = ?5 AND revision = ?6 \
             RETURNING id, path, body, since_epoch, revision, created_us",
        )
        .bind(replacement.body)
        .bind(epoch)
        .bind(replacement.reactivated)
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(replacement.expected)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        self.commit_epoch(transaction, tenant, epoch).await?;
        row.decode().map(Some)
    }

    pub(super) async fn delete_subscription_row(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let epoch = next_epoch(&mut transaction, tenant).await?;
        let deleted = sqlx::query("DELETE FROM subscription WHERE tenant = ? AND id = ?")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO subscription_deletion (tenant, epoch, id) VALUES (?, ?, ?)")
            .bind(tenant.as_str())
            .bind(epoch)
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM subscription_deletion WHERE tenant = ? AND epoch <= ?")
            .bind(tenant.as_str())
            .bind(epoch - DELETIONS_KEPT)
            .execute(&mut *transaction)
            .await?;
        self.commit_epoch(transaction, tenant, epoch).await?;
        Ok(true)
    }

    pub(super) async fn find_subscription_row(
        &self,
        tenant: &Tenant,
        id: &SubscriptionId,
    ) -> Result<Option<StoredSubscription>, StoreError> {
        let row: Option<SubscriptionRow> = sqlx::query_as(
            "SELECT id, path, body, since_epoch, revision, created_us FROM subscription \
             WHERE tenant = ? AND id = ?",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.pools.reader)
        .await?;
        row.map(SubscriptionRow::decode).transpose()
    }

    pub(super) async fn subscription_page_rows(
        &self,
        tenant: &Tenant,
        path: Option<&PathPattern>,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<StoredSubscription>, u64), StoreError> {
        let place = if path.is_some() { "path = ?2" } else { "?2 IS NULL" };
        let those = format!("FROM subscription WHERE tenant = ?1 AND {place}");
        let count = format!("SELECT count(*) {those}");
        // Sorted by what is short; the bodies are read for the page alone.
        let page = format!(
            "SELECT s.id, s.path, s.body, s.since_epoch, s.revision, s.created_us FROM \
             (SELECT tenant, id {those} ORDER BY created_us, id LIMIT ?3 OFFSET ?4) AS page \
             JOIN subscription s ON s.tenant = page.tenant AND s.id = page.id ORDER BY s.created_us, s.id"
        );
        let path = path.map(PathPattern::to_string);
        let total: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .bind(tenant.as_str())
            .bind(&path)
            .fetch_one(&self.pools.reader)
            .await?;
        let rows: Vec<SubscriptionRow> = sqlx::query_as(AssertSqlSafe(page))
            .bind(tenant.as_str())
            .bind(&path)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .fetch_all(&self.pools.reader)
            .await?;
        let page = rows.into_iter().map(SubscriptionRow::decode).collect::<Result<_, _>>()?;
        Ok((page, total.unsigned_abs()))
    }

    pub(super) async fn changed_subscription_rows(
        &self,
        tenant: &Tenant,
        known: Known,
        limit: u32,
    ) -> Result<SubscriptionChanges, StoreError> {
        let mut snapshot = self.pools.reader.begin().await?;
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM subscription_epoch WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_optional(&mut *snapshot)
            .await?;
        let epoch = epoch.unwrap_or(0);
        let deleted: Option<Vec<String>> = match known.deletions {
            None => Some(Vec::new()),
            Some(since) if since < epoch - DELETIONS_KEPT => None,
            Some(since) => {
                let ids = "SELECT id FROM subscription_deletion WHERE tenant = ? AND epoch > ?";
                Some(
                    sqlx::query_scalar(ids)
                        .bind(tenant.as_str())
                        .bind(since)
                        .fetch_all(&mut *snapshot)
                        .await?,
                )
            }
        };
        let rows: Vec<SubscriptionRow> = sqlx::query_as(
            "SELECT id, path, body, since_epoch, revision, created_us FROM subscription \
             WHERE tenant = ? AND revision > ? ORDER BY revision LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(known.revision)
        .bind(limit)
        .fetch_all(&mut *snapshot)
        .await?;
        subscription_changes(epoch, rows, deleted)
    }

    pub(super) async fn count_subscription_rows(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM subscription WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_one(&self.pools.reader)
            .await?;
        Ok(count.unsigned_abs())
    }
}
