//! Registrations in the file `registrations.db`, written by one process.

use ::store::{SqlitePools, StoreError};
use async_trait::async_trait;
use scope::{ServicePath, Tenant};
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use super::{
    Counted, RegistrationStore,
    row::{COLUMNS, RegistrationRow, sent, tenants},
    schema::{COMPONENT, MIGRATIONS},
};
use crate::registration::{RegistrationId, StoredRegistration};

pub(crate) struct SqliteRegistrationStore {
    pools: SqlitePools,
}

impl SqliteRegistrationStore {
    pub(crate) async fn open(file: &std::path::Path) -> Result<Self, StoreError> {
        Ok(Self { pools: ::store::open_sqlite(file, COMPONENT, MIGRATIONS).await? })
    }
}

/// The tenant's next epoch, which is also the revision of what changed.
async fn next_epoch(transaction: &mut Transaction<'_, Sqlite>, tenant: &Tenant) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO registration_epoch (tenant, epoch) VALUES ($1, 1) \
         ON CONFLICT (tenant) DO UPDATE SET epoch = registration_epoch.epoch + 1 RETURNING epoch",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **transaction)
    .await?)
}

#[async_trait]
impl RegistrationStore for SqliteRegistrationStore {
    async fn insert(
        &self,
        tenant: &Tenant,
        path: &ServicePath,
        id: &RegistrationId,
        body: &str,
        created_us: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pools.begin().await?;
        let epoch = next_epoch(&mut transaction, tenant).await?;
        sqlx::query(
            "INSERT INTO registration (tenant, id, path, body, revision, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(path.as_str())
        .bind(body)
        .bind(epoch)
        .bind(created_us)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    async fn replace(
        &self,
        tenant: &Tenant,
        id: &RegistrationId,
        revision: i64,
        body: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pools.begin().await?;
        let epoch = next_epoch(&mut transaction, tenant).await?;
        let replaced = sqlx::query(
            "UPDATE registration SET body = $1, revision = $2 WHERE tenant = $3 AND id = $4 AND revision = $5",
        )
        .bind(body)
        .bind(epoch)
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(revision)
        .execute(&mut *transaction)
        .await?;
        if replaced.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn delete(&self, tenant: &Tenant, id: &RegistrationId) -> Result<bool, StoreError> {
        let mut transaction = self.pools.begin().await?;
        next_epoch(&mut transaction, tenant).await?;
        let deleted = sqlx::query("DELETE FROM registration WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn find(
        &self,
        tenant: &Tenant,
        id: &RegistrationId,
    ) -> Result<Option<StoredRegistration>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM registration WHERE tenant = $1 AND id = $2");
        let row: Option<RegistrationRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(&self.pools.reader)
            .await?;
        row.map(RegistrationRow::decode).transpose()
    }

    async fn all(&self, tenant: &Tenant) -> Result<(i64, Vec<StoredRegistration>), StoreError> {
        let mut snapshot = self.pools.reader.begin().await?;
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM registration_epoch WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *snapshot)
            .await?;
        let statement =
            format!("SELECT {COLUMNS} FROM registration WHERE tenant = $1 ORDER BY created_us, id");
        let rows: Vec<RegistrationRow> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(tenant.as_str()).fetch_all(&mut *snapshot).await?;
        let registrations = rows.into_iter().map(RegistrationRow::decode).collect::<Result<_, _>>()?;
        Ok((epoch.unwrap_or(0), registrations))
    }

    async fn epochs(&self) -> Result<Vec<(Tenant, i64)>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT tenant, epoch FROM registration_epoch")
            .fetch_all(&self.pools.reader)
            .await?;
        Ok(tenants(rows))
    }

    async fn count(&self, counted: &[Counted]) -> Result<(), StoreError> {
        let mut transaction = self.pools.begin().await?;
        for Counted { tenant, id, counters } in counted {
            // max() of SQLite is NULL as soon as one of its values is.
            sqlx::query(
                "UPDATE registration SET times_sent = times_sent + $1, \
                 last_forwarding_us = max(coalesce(last_forwarding_us, $2), coalesce($2, last_forwarding_us)), \
                 last_success_us = max(coalesce(last_success_us, $3), coalesce($3, last_success_us)), \
                 last_failure_us = max(coalesce(last_failure_us, $4), coalesce($4, last_failure_us)) \
                 WHERE tenant = $5 AND id = $6",
            )
            .bind(sent(counters))
            .bind(counters.last_forwarding_us)
            .bind(counters.last_success_us)
            .bind(counters.last_failure_us)
            .bind(tenant.as_str())
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }
}
