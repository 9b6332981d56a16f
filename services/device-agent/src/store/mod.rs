//! Groups, devices, which devices are diverted, and the outbox of topic `measures`: one trait, SQLite and PostgreSQL
//! behind it.
//!
//! Every call names its tenant, but for [`SystemStore`]: what the south port needs before a tenant is known (an API key
//! decides it), and what belongs to no tenant (positions).

mod postgres;
mod rows;
mod schema;
mod sqlite;

pub(crate) use ::store::StoreError;
pub(crate) use postgres::{PostgresStore, SCHEMA as POSTGRES_SCHEMA};
pub(crate) use sqlite::SqliteStore;

use async_trait::async_trait;
use bytes::Bytes;
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};

use crate::device::{ApiKey, Device, DeviceKey, Group};

/// A part of a list: oldest first, `limit` after `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: u32,
    pub offset: u32,
}

impl Page {
    pub const ALL: Self = Self { limit: u32::MAX, offset: 0 };
}

/// The last measure of one request: a device is drained when its queue has passed it. Sixteen random bytes.
pub(crate) type Mark = [u8; 16];

/// A measure on its way into the topic `measures`.
#[derive(Clone, Debug)]
pub(crate) struct Diverted {
    pub device: DeviceKey,
    pub mark: Mark,
    /// An encoded `DivertedMeasure`.
    pub payload: Bytes,
    pub headers: Vec<bus::Header>,
}

/// The agent's durable state, tenant by tenant. Duplicates answer [`StoreError::Conflict`].
#[async_trait]
pub(crate) trait Store: SystemStore {
    /// Stores all groups or none.
    async fn insert_groups(&self, groups: &[Group]) -> Result<(), StoreError>;
    /// Groups of a tenant, at one path or at all, and how many there are without paging.
    async fn list_groups(
        &self,
        tenant: &Tenant,
        path: Option<&ServicePath>,
        page: Page,
    ) -> Result<(Vec<Group>, u64), StoreError>;
    /// Puts `changed` in the place of the group that had `resource` and `key`; false if it is gone.
    async fn replace_group(&self, resource: &str, key: &ApiKey, changed: &Group) -> Result<bool, StoreError>;
    /// Deletes a group, and if asked all devices of its scope.
    async fn delete_group(
        &self,
        scope: &Scope,
        resource: &str,
        key: &ApiKey,
        with_devices: bool,
    ) -> Result<bool, StoreError>;

    /// A device without a key stands for any key: beside it there is no other of its id in the scope.
    async fn insert_device(&self, device: &Device) -> Result<(), StoreError>;
    /// All devices of this id in the scope: one without a key, or one per API key.
    async fn find_devices(&self, scope: &Scope, id: &str) -> Result<Vec<Device>, StoreError>;
    async fn list_devices(&self, scope: &Scope, page: Page) -> Result<(Vec<Device>, u64), StoreError>;
    /// Replaces the body; false if the device is gone.
    async fn update_device(&self, device: &Device, body: &Map<String, Value>) -> Result<bool, StoreError>;
    async fn delete_device(&self, device: &Device) -> Result<bool, StoreError>;
    /// Gives a device without a key the key of its first measure; false if it has one by now.
    async fn claim_key(&self, device: &Device, key: &ApiKey) -> Result<bool, StoreError>;
}

/// What is asked before a tenant is known, or for all of them.
#[async_trait]
pub(crate) trait SystemStore: Send + Sync + 'static {
    async fn group_of_key(&self, resource: &str, key: &ApiKey) -> Result<Option<Group>, StoreError>;
    /// Devices of this id in every tenant, at most `limit`.
    async fn devices_anywhere(&self, id: &str, limit: u32) -> Result<Vec<Device>, StoreError>;

    /// Appends measures to the outbox and marks their devices as diverted, in one transaction.
    async fn divert(&self, measures: &[Diverted]) -> Result<(), StoreError>;
    /// Which of `devices` are diverted.
    async fn diverted_of(&self, devices: &[DeviceKey]) -> Result<Vec<DeviceKey>, StoreError>;
    /// All diverted devices with their marks.
    async fn all_diverted(&self) -> Result<Vec<(DeviceKey, Mark)>, StoreError>;

    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError>;
    /// Moves the position and ends the diversion of devices whose mark is still the given one, in one transaction.
    /// False, and nothing done, if the position is not `expected`.
    async fn drained(
        &self,
        topic: &str,
        partition: i32,
        expected: Option<i64>,
        next: i64,
        devices: &[(DeviceKey, Mark)],
    ) -> Result<bool, StoreError>;

    /// For readiness.
    async fn check(&self) -> Result<(), StoreError>;
    /// Whether other processes write to the same store.
    fn is_shared(&self) -> bool;
}

#[cfg(test)]
mod tests;
