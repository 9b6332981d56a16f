//! Registrations in PostgreSQL, shared by all replicas.

use ::store::{PostgresConfig, StoreError};
use async_trait::async_trait;
use scope::{ServicePath, Tenant};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use super::{
    Counted, RegistrationStore,
    row::{COLUMNS, RegistrationRow, sent, tenants},
    schema::{COMPONENT, MIGRATIONS},
};
use crate::registration::{RegistrationId, StoredRegistration};

pub(crate) struct PostgresRegistrationStore {
    pool: PgPool,
}

impl PostgresRegistrationStore {
    /// Opens the tables in the broker's schema. A few connections do: registrations change seldom.
    pub(crate) async fn open(config: &PostgresConfig, schema: &str) -> Result<Self, StoreError> {
        let few = PostgresConfig { max_connections: config.max_connections.min(4), ..config.clone() };
        Ok(Self { pool: ::store::open_postgres(&few, schema, COMPONENT, MIGRATIONS).await? })
    }
}

/// The tenant's next epoch, which is also the revision of what changed.
async fn next_epoch(transaction: &mut Transaction<'_, Postgres>, tenant: &Tenant) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO registration_epoch (tenant, epoch) VALUES ($1, 1) \
         ON CONFLICT (tenant) DO UPDATE SET epoch = registration_epoch.epoch + 1 RETURNING epoch",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **transaction)
    .await?)
}

#[async_trait]
impl RegistrationStore for PostgresRegistrationStore {
    async fn insert(
        &self,
        tenant: &Tenant,
        path: &ServicePath,
        id: &RegistrationId,
        body: &str,
        created_us: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
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
        let mut transaction = self.pool.begin().await?;
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
        let mut transaction = self.pool.begin().await?;
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
            .fetch_optional(&self.pool)
            .await?;
        row.map(RegistrationRow::decode).transpose()
    }

    async fn all(&self, tenant: &Tenant) -> Result<(i64, Vec<StoredRegistration>), StoreError> {
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
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
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT tenant, epoch FROM registration_epoch").fetch_all(&self.pool).await?;
        Ok(tenants(rows))
    }

    async fn count(&self, counted: &[Counted]) -> Result<(), StoreError> {
        // Replicas lock the rows in one order.
        let mut rows: Vec<&Counted> = counted.iter().collect();
        rows.sort_by(|a, b| (a.tenant.as_str(), &a.id).cmp(&(b.tenant.as_str(), &b.id)));
        let mut transaction = self.pool.begin().await?;
        for Counted { tenant, id, counters } in rows {
            sqlx::query(
                "UPDATE registration SET times_sent = times_sent + $1, \
                 last_forwarding_us = greatest(last_forwarding_us, $2), \
                 last_success_us = greatest(last_success_us, $3), \
                 last_failure_us = greatest(last_failure_us, $4) WHERE tenant = $5 AND id = $6",
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
