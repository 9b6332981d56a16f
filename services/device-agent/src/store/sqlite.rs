use std::path::Path;

use ::store::{SqlitePools, StoreConfig, StoreError, open_sqlite, position};
use async_trait::async_trait;
use bus::{Waker, outbox};
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};

use super::{
    Diverted, Mark, Page, Store, SystemStore, rows,
    schema::{COMPONENT, MIGRATIONS},
};
use crate::device::{ApiKey, Device, DeviceKey, Group};

/// The agent's state in `device-agent.db`; this process alone writes to it.
pub(crate) struct SqliteStore {
    pools: SqlitePools,
    waker: Waker,
}

impl SqliteStore {
    /// Opens or makes the file in `data_dir`.
    pub(crate) async fn open(data_dir: &Path) -> Result<SqlitePools, StoreError> {
        open_sqlite(&StoreConfig::sqlite_file(data_dir, COMPONENT), COMPONENT, MIGRATIONS).await
    }

    /// `waker` is told after measures were appended.
    pub(crate) fn new(pools: SqlitePools, waker: Waker) -> Self {
        Self { pools, waker }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn insert_groups(&self, groups: &[Group]) -> Result<(), StoreError> {
        let mut transaction = self.pools.begin().await?;
        for group in groups {
            sqlx::query(
                "INSERT INTO device_group (resource, api_key, tenant, path, id, body, created_us) VALUES (?,?,?,?,?,?,?)",
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
             WHERE tenant = ?1 AND (?2 IS NULL OR path = ?2) ORDER BY created_us, id LIMIT ?3 OFFSET ?4",
        )
        .bind(tenant.as_str())
        .bind(path)
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset))
        .fetch_all(&self.pools.reader)
        .await?;
        let total: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM device_group WHERE tenant = ?1 AND (?2 IS NULL OR path = ?2)",
        )
        .bind(tenant.as_str())
        .bind(path)
        .fetch_one(&self.pools.reader)
        .await?;
        Ok((found.into_iter().map(rows::group).collect::<Result<_, _>>()?, total.unsigned_abs()))
    }

    async fn replace_group(&self, resource: &str, key: &ApiKey, changed: &Group) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE device_group SET resource = ?, api_key = ?, body = ? \
             WHERE resource = ? AND api_key = ? AND tenant = ? AND path = ?",
        )
        .bind(&changed.resource)
        .bind(changed.api_key.expose())
        .bind(rows::body_text(&changed.body))
        .bind(resource)
        .bind(key.expose())
        .bind(changed.scope.tenant.as_str())
        .bind(changed.scope.path.as_str())
        .execute(&self.pools.writer)
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
        let mut transaction = self.pools.begin().await?;
        let done = sqlx::query(
            "DELETE FROM device_group WHERE resource = ? AND api_key = ? AND tenant = ? AND path = ?",
        )
        .bind(resource)
        .bind(key.expose())
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .execute(&mut *transaction)
        .await?;
        let found = done.rows_affected() == 1;
        if found && with_devices {
            sqlx::query("DELETE FROM device WHERE tenant = ? AND path = ?")
                .bind(scope.tenant.as_str())
                .bind(scope.path.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(found)
    }

    async fn insert_device(&self, device: &Device) -> Result<(), StoreError> {
        let done = sqlx::query(
            "INSERT INTO device (tenant, path, id, api_key, body, created_us) SELECT ?1,?2,?3,?4,?5,?6 \
             WHERE NOT EXISTS (SELECT 1 FROM device d WHERE d.tenant = ?1 AND d.path = ?2 AND d.id = ?3 \
             AND (?4 = '' OR d.api_key IN ('', ?4)))",
        )
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .bind(rows::key_text(device.api_key.as_ref()))
        .bind(rows::body_text(&device.body))
        .bind(device.created_us)
        .execute(&self.pools.writer)
        .await?;
        rows::inserted(done.rows_affected())
    }

    async fn find_devices(&self, scope: &Scope, id: &str) -> Result<Vec<Device>, StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device \
             WHERE tenant = ? AND path = ? AND id = ? ORDER BY created_us, api_key",
        )
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .bind(id)
        .fetch_all(&self.pools.reader)
        .await?;
        found.into_iter().map(rows::device).collect()
    }

    async fn list_devices(&self, scope: &Scope, page: Page) -> Result<(Vec<Device>, u64), StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device \
             WHERE tenant = ? AND path = ? ORDER BY created_us, id, api_key LIMIT ? OFFSET ?",
        )
        .bind(scope.tenant.as_str())
        .bind(scope.path.as_str())
        .bind(i64::from(page.limit))
        .bind(i64::from(page.offset))
        .fetch_all(&self.pools.reader)
        .await?;
        let total: i64 = sqlx::query_scalar("SELECT count(*) FROM device WHERE tenant = ? AND path = ?")
            .bind(scope.tenant.as_str())
            .bind(scope.path.as_str())
            .fetch_one(&self.pools.reader)
            .await?;
        Ok((found.into_iter().map(rows::device).collect::<Result<_, _>>()?, total.unsigned_abs()))
    }

    async fn update_device(&self, device: &Device, body: &Map<String, Value>) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE device SET body = ? WHERE tenant = ? AND path = ? AND id = ? AND api_key = ?",
        )
        .bind(rows::body_text(body))
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .bind(rows::key_text(device.api_key.as_ref()))
        .execute(&self.pools.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_device(&self, device: &Device) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM device WHERE tenant = ? AND path = ? AND id = ? AND api_key = ?")
            .bind(device.scope.tenant.as_str())
            .bind(device.scope.path.as_str())
            .bind(&device.id)
            .bind(rows::key_text(device.api_key.as_ref()))
            .execute(&self.pools.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn claim_key(&self, device: &Device, key: &ApiKey) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE OR IGNORE device SET api_key = ? WHERE tenant = ? AND path = ? AND id = ? AND api_key = ''",
        )
        .bind(key.expose())
        .bind(device.scope.tenant.as_str())
        .bind(device.scope.path.as_str())
        .bind(&device.id)
        .execute(&self.pools.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

#[async_trait]
impl SystemStore for SqliteStore {
    async fn group_of_key(&self, resource: &str, key: &ApiKey) -> Result<Option<Group>, StoreError> {
        let found: Option<rows::GroupRow> = sqlx::query_as(
            "SELECT resource, api_key, tenant, path, id, body, created_us FROM device_group \
             WHERE resource = ? AND api_key = ?",
        )
        .bind(resource)
        .bind(key.expose())
        .fetch_optional(&self.pools.reader)
        .await?;
        found.map(rows::group).transpose()
    }

    async fn devices_anywhere(&self, id: &str, limit: u32) -> Result<Vec<Device>, StoreError> {
        let found: Vec<rows::DeviceRow> = sqlx::query_as(
            "SELECT tenant, path, id, api_key, body, created_us FROM device WHERE id = ? LIMIT ?",
        )
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&self.pools.reader)
        .await?;
        found.into_iter().map(rows::device).collect()
    }

    async fn divert(&self, measures: &[Diverted]) -> Result<(), StoreError> {
        let mut transaction = self.pools.begin().await?;
        for (device, mark) in rows::last_marks(measures) {
            sqlx::query(
                "INSERT INTO diverted_device (tenant, path, id, mark) VALUES (?,?,?,?) \
                 ON CONFLICT DO UPDATE SET mark = excluded.mark",
            )
            .bind(device.tenant.as_str())
            .bind(device.path.as_str())
            .bind(&*device.device_id)
            .bind(&mark[..])
            .execute(&mut *transaction)
            .await?;
        }
        outbox::append_sqlite(&mut transaction, bus::MEASURES, &rows::outgoing(measures)).await?;
        transaction.commit().await?;
        self.waker.wake();
        Ok(())
    }

    async fn diverted_of(&self, devices: &[DeviceKey]) -> Result<Vec<DeviceKey>, StoreError> {
        let all = self.all_diverted().await?;
        Ok(all.into_iter().map(|(device, _)| device).filter(|device| devices.contains(device)).collect())
    }

    async fn all_diverted(&self) -> Result<Vec<(DeviceKey, Mark)>, StoreError> {
        let found: Vec<(String, String, String, Vec<u8>)> =
            sqlx::query_as("SELECT tenant, path, id, mark FROM diverted_device")
                .fetch_all(&self.pools.reader)
                .await?;
        found
            .into_iter()
            .map(|(tenant, path, id, mark)| Ok((rows::device_key(&tenant, &path, &id)?, rows::mark(&mark)?)))
            .collect()
    }

    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut connection = self.pools.reader.acquire().await?;
        position::load_sqlite(&mut connection, topic, partition).await
    }

    async fn drained(
        &self,
        topic: &str,
        partition: i32,
        expected: Option<i64>,
        next: i64,
        devices: &[(DeviceKey, Mark)],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pools.begin().await?;
        if !position::advance_sqlite(&mut transaction, topic, partition, expected, next).await? {
            return Ok(false);
        }
        for (device, mark) in devices {
            sqlx::query("DELETE FROM diverted_device WHERE tenant = ? AND path = ? AND id = ? AND mark = ?")
                .bind(device.tenant.as_str())
                .bind(device.path.as_str())
                .bind(&*device.device_id)
                .bind(&mark[..])
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pools.reader).await?;
        Ok(())
    }

    fn is_shared(&self) -> bool {
        false
    }
}
