//! An entity's row: what it holds beside the entity itself, and its encoding.

use std::sync::Arc;

use ngsi::{Attributes, Entity};
use scope::{PathPattern, ServicePath, Tenant};
use store::StoreError;

use crate::{
    subscription::{StoredSubscription, SubscriptionId},
    update::{MEASURE_IDS_KEPT, MeasureId, Stored},
};

/// Columns in the order of [`Row`].
pub(super) const COLUMNS: &str =
    "tenant, id, path, type, attributes, version, created_us, modified_us, expires_us, measures, cell";

/// JSON that is parsed in well under half a millisecond.
const INLINE_BYTES: usize = 32 * 1024;

#[derive(sqlx::FromRow, Debug)]
pub(super) struct Row {
    pub(super) tenant: String,
    pub(super) id: String,
    pub(super) path: String,
    #[sqlx(rename = "type")]
    pub(super) entity_type: String,
    pub(super) attributes: Vec<u8>,
    pub(super) version: i64,
    pub(super) created_us: i64,
    pub(super) modified_us: i64,
    pub(super) expires_us: Option<i64>,
    pub(super) measures: Vec<u8>,
    pub(super) cell: Option<i64>,
}

impl Row {
    pub(super) fn decode(self) -> Result<Stored, StoreError> {
        let damaged = |what: &str| StoreError::Internal(format!("entity {} has unreadable {what}", self.id));
        let attributes: Attributes =
            serde_json::from_slice(&self.attributes).map_err(|_| damaged("attributes"))?;
        let path = ServicePath::parse(&self.path).map_err(|_| damaged("service path"))?;
        let measures = self.measures.chunks_exact(16).filter_map(|id| MeasureId::try_from(id).ok()).collect();
        Ok(Stored {
            entity: Arc::new(Entity {
                id: self.id,
                entity_type: self.entity_type,
                path,
                attributes,
                created_us: self.created_us,
                modified_us: self.modified_us,
                version: self.version,
            }),
            expires_us: self.expires_us,
            cell: self.cell,
            measures,
            size: self.attributes.len(),
        })
    }
}

/// Decodes many rows, off the runtime's workers when they are more than a few.
pub(super) async fn decode_all(rows: Vec<Row>) -> Result<Vec<Stored>, StoreError> {
    let bytes: usize = rows.iter().map(|row| row.attributes.len()).sum();
    let work = move || rows.into_iter().map(Row::decode).collect();
    if bytes < INLINE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Internal(error.to_string()))?
}

/// The column `measures`: ids of 16 bytes, oldest first.
pub(super) fn encode_measures(measures: &[MeasureId]) -> Vec<u8> {
    debug_assert!(measures.len() <= MEASURE_IDS_KEPT);
    measures.concat()
}

/// Epochs by tenant.
pub(super) fn tenants(rows: Vec<(String, i64)>) -> Vec<(Tenant, i64)> {
    rows.into_iter()
        .filter_map(|(tenant, epoch)| Some((Tenant::from_header(Some(&tenant)).ok()?, epoch)))
        .collect()
}

#[derive(sqlx::FromRow, Debug)]
pub(super) struct SubscriptionRow {
    id: String,
    path: String,
    body: String,
    since_epoch: i64,
    revision: i64,
    created_us: i64,
}

impl SubscriptionRow {
    pub(super) fn decode(self) -> Result<StoredSubscription, StoreError> {
        let damaged =
            |what: &str| StoreError::Internal(format!("subscription {} has an unreadable {what}", self.id));
        Ok(StoredSubscription {
            id: SubscriptionId::parse(&self.id).map_err(|_| damaged("id"))?,
            path: PathPattern::parse(&self.path).map_err(|_| damaged("path"))?,
            body: self.body,
            since_epoch: self.since_epoch,
            revision: self.revision,
            created_us: self.created_us,
        })
    }
}
