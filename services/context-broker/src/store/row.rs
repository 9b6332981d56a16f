//! An entity's row: what it holds beside the entity itself, and its encoding.

use std::sync::Arc;

use ngsi::{Entity, EntityText};
use scope::{PathPattern, ServicePath, Tenant};
use sqlx::{Decode, Type};
use store::StoreError;

use crate::{
    subscription::{StoredSubscription, SubscriptionChanges, SubscriptionId},
    update::{MEASURE_IDS_KEPT, MeasureId, Stored},
};

/// Columns in the order of [`Row`].
pub(super) const COLUMNS: &str =
    "tenant, id, path, type, attributes, version, created_us, modified_us, expires_us, measures, cell";

/// JSON that is parsed in well under half a millisecond.
const INLINE_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Row {
    pub(super) tenant: String,
    pub(super) id: String,
    pub(super) path: String,
    pub(super) entity_type: String,
    pub(super) attributes: Vec<u8>,
    pub(super) version: i64,
    pub(super) created_us: i64,
    pub(super) modified_us: i64,
    pub(super) expires_us: Option<i64>,
    pub(super) measures: Vec<u8>,
    pub(super) cell: Option<i64>,
}

/// By place, not by name.
impl<'r, R> sqlx::FromRow<'r, R> for Row
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tenant: row.try_get(0)?,
            id: row.try_get(1)?,
            path: row.try_get(2)?,
            entity_type: row.try_get(3)?,
            attributes: row.try_get(4)?,
            version: row.try_get(5)?,
            created_us: row.try_get(6)?,
            modified_us: row.try_get(7)?,
            expires_us: row.try_get(8)?,
            measures: row.try_get(9)?,
            cell: row.try_get(10)?,
        })
    }
}

impl Row {
    /// The attributes stay text.
    pub(super) fn decode(self) -> Result<Stored, StoreError> {
        let path = ServicePath::parse(&self.path).map_err(|_| damaged(&self.id, "service path"))?;
        let measures = self.measures.chunks_exact(16).filter_map(|id| MeasureId::try_from(id).ok()).collect();
        Ok(Stored {
            entity: Arc::new(EntityText {
                id: self.id.into(),
                entity_type: self.entity_type.into(),
                path,
                attributes: self.attributes.into(),
                created_us: self.created_us,
                modified_us: self.modified_us,
                version: self.version,
            }),
            expires_us: self.expires_us,
            cell: self.cell,
            measures,
        })
    }
}

fn damaged(id: &str, what: &str) -> StoreError {
    StoreError::Internal(format!("entity {id} has unreadable {what}"))
}

/// Decodes one entity.
pub(crate) fn decode(entity: &EntityText) -> Result<Arc<Entity>, StoreError> {
    entity.decode().map(Arc::new).map_err(|_| damaged(&entity.id, "attributes"))
}

/// Decodes many entities, off the runtime's workers when they are more than a few.
pub(crate) async fn decode_all(entities: Vec<Arc<EntityText>>) -> Result<Vec<Arc<Entity>>, StoreError> {
    let bytes: usize = entities.iter().map(|entity| entity.attributes.len()).sum();
    let work = move || entities.iter().map(|entity| decode(entity)).collect();
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

pub(super) fn subscription_changes(
    epoch: i64,
    changed: Vec<SubscriptionRow>,
    deleted: Option<Vec<String>>,
) -> Result<SubscriptionChanges, StoreError> {
    let id = |text: String| {
        let damaged = |_| StoreError::Internal(format!("the deletion of {text:?} has an unreadable id"));
        SubscriptionId::parse(&text).map_err(damaged)
    };
    Ok(SubscriptionChanges {
        epoch,
        changed: changed.into_iter().map(SubscriptionRow::decode).collect::<Result<_, _>>()?,
        deleted: deleted.map(|ids| ids.into_iter().map(id).collect::<Result<_, _>>()).transpose()?,
    })
}
