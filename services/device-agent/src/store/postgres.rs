use ::store::{PostgresConfig, StoreError, open_postgres, position};
use async_trait::async_trait;
use bus::{Waker, outbox};
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};
use sqlx::PgPool;

use super::{
    Diverted, Mark, Page, Store, SystemStore, rows,
    schema::{COMPONENT, MIGRATIONS},
};
use crate::device::{ApiKey, Device, DeviceKey, Group};

/// Database schema of the agent.
pub(crate) const SCHEMA: &str = "device_agent";

/// The agent's state in PostgreSQL, shared by all replicas.
pub(crate) struct PostgresStore {
    pool: PgPool,
    waker: Waker,
}

impl PostgresStore {
    pub(crate) async fn open(config: &PostgresConfig, schema: &str) -> Result<PgPool, StoreError> {
        open_postgres(config, schema, COMPONENT, MIGRATIONS).await
    }

    /// `waker` is told after measures were appended.
    pub(crate) fn new(pool: PgPool, waker: Waker) -> Self {
        Self { pool, waker }
    }
}

/// `LIMIT` of a page.
fn limit(page: Page) -> i64 {
    i64::from(page.limit)
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert_groups(&self, groups: &[Group]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for group in groups {
            sqlx::query(
                "INSERT INTO device_group (resource, api_key, tenant, path, id, body, created_us) \
                 VALUES ($1,$2,$3,$4,$5,$6,$7)",
            )
            .bind(&group.resource)
            .bind(group.api_key.expose())
            .bind(group.scope.tenant.as_str())
            .bind(group.scope.path.as_str())
            .bind(&group.id)
            .bind(rows::body_text(&group.body))
            .bind(group.created_us)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn list_groups(
        &self,
        tenant: &Tenant,
        path: Option<&ServicePath>,
        page: Page,
    ) -> Result<(Vec<Group>, u64), StoreError> {
        let path = path.map(ServicePath::as_str);
        let found: Vec<rows::GroupRow> = sqlx::query_as(
            "SELECT resource, api_key, tenant, path, id, body, created_us FROM device_group \
             WHERE tenant = $1 AND ($2::text IS NULL OR path = $2) ORDER BY created_us, id LIMIT $3 OFFSET $4",
        )
        .bind(tenant.as_str())
        .bind(path)
        .bind(limit(page))
        .bind(i64::from(page.offset))
        .fetch_all(&self.pool)
        .await?;
        let total: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM device_group WHERE tenant = $1 AND ($2::text IS NULL OR path = $2)",
        )
        .bind(tenant.as_str())
        .bind(path)
        .fetch_one(&self.pool)
        .await?;
        Ok((found.into_iter().map(rows::group).collect::<Result<_, _>>()?, total.unsigned_abs()))
    }

    async fn replace_group(&self, resource: &str, key: &ApiKey, changed: &Group) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE device_group SET resource = $1, api_key = $2, body = $3 \
             WHERE resource = $4 AND api_key = $5 AND tenant = $6 AND path = $7",
        )
        .bind(&changed.resource)
        .bind(changed.api_key.expose())
        .bind(rows::body_text(&changed.body))
        .bind(resource)
        .bind(key.expose())
        .bind(changed.scope.tenant.as_str())
        .bind(changed.scope.path.as_str())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_group(
        &self,
        scope: &Scope,
        resource: &str,
        key: &ApiKey,
        with_devices: bool,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let done = sqlx::query(
            "DELETE FROM device_group WHERE resource = $1 AND api_key = $2 AND tenant = $3 AND path = $4",
        )
        .bind(resource)
        .bind(key.expose())
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .execute(&mut *transaction)
        .await?;
        let found = done.rows_affected() == 1;
        if found && with_devices {
            sqlx::query("DELETE FROM device WHERE tenant = $1 AND path = $2")
                .bind(scope.tenant.as_str())
                .bind(scope.path.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(found)
    }

    async fn insert_device(&self, device: &Device) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // No unique key says that a device without a key is alone: two inserts of one id come one after the other.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("device {:?}", device.key()))
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(
            "INSERT INTO device (tenant, path, id, api_key, body, created_us) \
             SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint \
             WHERE NOT EXISTS (SELECT FROM device d WHERE d.tenant = $1 AND d.path = $2 AND d.id = $3 \
             AND ($4 = '' OR d.api_key IN ('', $4)))",
        )
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .bind(rows::key_text(device.api_key.as_ref()))
        .bind(rows::body_text(&device.body))
        .bind(device.created_us)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        rows::inserted(done.rows_affected())
    }

    async fn find_devices(&self, scope: &Scope, id: &str) -> Result<Vec<Device>, StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device \
             WHERE tenant = $1 AND path = $2 AND id = $3 ORDER BY created_us, api_key",
        )
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .bind(id)
        .fetch_all(&self.pool)
        .await?;
        found.into_iter().map(rows::device).collect()
    }

    async fn list_devices(&self, scope: &Scope, page: Page) -> Result<(Vec<Device>, u64), StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device \
             WHERE tenant = $1 AND path = $2 ORDER BY created_us, id, api_key LIMIT $3 OFFSET $4",
        )
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .bind(limit(page))
        .bind(i64::from(page.offset))
        .fetch_all(&self.pool)
        .await?;
        let total: i64 = sqlx::query_scalar("SELECT count(*) FROM device WHERE tenant = $1 AND path = $2")
            .bind(scope.tenant.as_str())
            .bind(scope.path.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok((found.into_iter().map(rows::device).collect::<Result<_, _>>()?, total.unsigned_abs()))
    }

    async fn update_device(&self, device: &Device, body: &Map<String, Value>) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE device SET body = $1 WHERE tenant = $2 AND path = $3 AND id = $4 AND api_key = $5",
        )
        .bind(rows::body_text(body))
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .bind(rows::key_text(device.api_key.as_ref()))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_device(&self, device: &Device) -> Result<bool, StoreError> {
        let done =
            sqlx::query("DELETE FROM device WHERE tenant = $1 AND path = $2 AND id = $3 AND api_key = $4")
                .bind(device.scope.tenant.as_str())
                .bind(device.scope.path.as_str())
                .bind(&device.id)
                .bind(rows::key_text(device.api_key.as_ref()))
                .execute(&self.pool)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn claim_key(&self, device: &Device, key: &ApiKey) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE device SET api_key = $1 WHERE tenant = $2 AND path = $3 AND id = $4 AND api_key = '' \
             AND NOT EXISTS (SELECT FROM device d WHERE d.tenant = $2 AND d.path = $3 AND d.id = $4 AND d.api_key = $1)",
        )
        .bind(key.expose())
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

#[async_trait]
impl SystemStore for PostgresStore {
    async fn group_of_key(&self, resource: &str, key: &ApiKey) -> Result<Option<Group>, StoreError> {
        let found: Option<rows::GroupRow> = sqlx::query_as(
            "SELECT resource, api_key, tenant, path, id, body, created_us FROM device_group \
             WHERE resource = $1 AND api_key = $2",
        )
        .bind(resource)
        .bind(key.expose())
        .fetch_optional(&self.pool)
        .await?;
        found.map(rows::group).transpose()
    }

    async fn devices_anywhere(&self, id: &str, limit: u32) -> Result<Vec<Device>, StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device WHERE id = $1 LIMIT $2",
        )
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        found.into_iter().map(rows::device).collect()
    }

    async fn divert(&self, measures: &[Diverted]) -> Result<(), StoreError> {
        let marks = rows::last_marks(measures);
        let mut transaction = self.pool.begin().await?;
        // The device's row is locked before its record gets a place in the log: so records keep the order of commits.
        sqlx::query(
            "INSERT INTO diverted_device (tenant, path, id, mark) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) \
             ON CONFLICT (tenant, id, path) DO UPDATE SET mark = excluded.mark",
        )
        .bind(marks.keys().map(|device| device.tenant.as_str()).collect::<Vec<_>>())
        .bind(marks.keys().map(|device| device.path.as_str()).collect::<Vec<_>>())
        .bind(marks.keys().map(|device| &*device.device_id).collect::<Vec<_>>())
        .bind(marks.values().map(|mark| &mark[..]).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        outbox::append_postgres(&mut transaction, bus::MEASURES, &rows::outgoing(measures)).await?;
        transaction.commit().await?;
        self.waker.wake();
        Ok(())
    }

    async fn diverted_of(&self, devices: &[DeviceKey]) -> Result<Vec<DeviceKey>, StoreError> {
        let found: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT d.tenant, d.path, d.id FROM unnest($1::text[], $2::text[], $3::text[]) k(tenant, path, id) \
             JOIN diverted_device d ON d.tenant = k.tenant AND d.id = k.id AND d.path = k.path",
        )
        .bind(devices.iter().map(|device| device.tenant.as_str()).collect::<Vec<_>>())
        .bind(devices.iter().map(|device| device.path.as_str()).collect::<Vec<_>>())
        .bind(devices.iter().map(|device| &*device.device_id).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        found.into_iter().map(|(tenant, path, id)| rows::device_key(&tenant, &path, &id)).collect()
    }

    async fn all_diverted(&self) -> Result<Vec<(DeviceKey, Mark)>, StoreError> {
        let found: Vec<(String, String, String, Vec<u8>)> =
            sqlx::query_as("SELECT tenant, path, id, mark FROM diverted_device")
                .fetch_all(&self.pool)
                .await?;
        found
            .into_iter()
            .map(|(tenant, path, id, mark)| Ok((rows::device_key(&tenant, &path, &id)?, rows::mark(&mark)?)))
            .collect()
    }

    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        position::load_postgres(&mut connection, topic, partition).await
    }

    async fn drained(
        &self,
        topic: &str,
        partition: i32,
        expected: Option<i64>,
        next: i64,
        devices: &[(DeviceKey, Mark)],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        if !position::advance_postgres(&mut transaction, topic, partition, expected, next).await? {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM diverted_device d USING \
             unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) k(tenant, path, id, mark) \
             WHERE d.tenant = k.tenant AND d.id = k.id AND d.path = k.path AND d.mark = k.mark",
        )
        .bind(devices.iter().map(|(device, _)| device.tenant.as_str()).collect::<Vec<_>>())
        .bind(devices.iter().map(|(device, _)| device.path.as_str()).collect::<Vec<_>>())
        .bind(devices.iter().map(|(device, _)| &*device.device_id).collect::<Vec<_>>())
        .bind(devices.iter().map(|(_, mark)| &mark[..]).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }
}
