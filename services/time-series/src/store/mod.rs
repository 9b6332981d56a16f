//! Where the history lives: one trait, two engines.

pub mod embedded;
pub mod postgres;

use async_trait::async_trait;
use scope::{QueryScope, Tenant};

use crate::{
    query::{AttributeInfo, Attributes, Deletion, EntitySummary, Query, Selection, TypeRows, Window, fold},
    row::{Position, Row},
};

pub use ::store::StoreError;

/// What became of a batch of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Durable and readable. `repeated` rows were there already, `nulled` values did not fit their attribute.
    Stored { rows: u64, repeated: u64, nulled: u64 },
    /// The stream position had moved: nothing was stored.
    Moved,
}

/// The history of all tenants. Every call names the tenant.
#[async_trait]
pub trait HistoryStore: Send + Sync + 'static {
    /// Stores the rows, and with them the position of the stream they come from, in one transaction.
    async fn append(&self, rows: Vec<Row>, position: Option<Position>) -> Result<Appended, StoreError>;

    /// The stored position of a stream.
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError>;

    /// Rows or aggregates, type by type in order of their names; types without any matching row are left out.
    async fn query(&self, query: &Query) -> Result<Vec<TypeRows>, StoreError>;

    /// The entities that have rows in the selection, newest first, then by type and id.
    async fn entities(&self, selection: &Selection, window: Window)
    -> Result<Vec<EntitySummary>, StoreError>;

    /// The types in which the scope holds rows of this id.
    async fn types_of(&self, scope: &QueryScope, id: &str) -> Result<Vec<String>, StoreError>;

    /// Deletes rows; answers how many there were.
    async fn delete(&self, deletion: &Deletion) -> Result<u64, StoreError>;

    /// Deletes all rows of a type at every path, and what is known of its attributes.
    async fn drop_type(&self, tenant: &Tenant, entity_type: &str) -> Result<(), StoreError>;

    /// Deletes what is older than `before_us` in one type, or in all types of the tenant that `keep` does not name.
    async fn expire(
        &self,
        tenant: &Tenant,
        only: Option<&str>,
        keep: &[String],
        before_us: i64,
    ) -> Result<u64, StoreError>;

    /// The tenants that have a history: for retention.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Whether the store can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;

    /// Ends background work; what was acknowledged is durable already.
    async fn close(&self);
}

/// One error for each of the requests that shared a transaction.
pub(crate) fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(text.clone()),
        StoreError::Full(text) => StoreError::Full(text.clone()),
        StoreError::Corrupt { file, reason } => {
            StoreError::Corrupt { file: file.clone(), reason: reason.clone() }
        }
        StoreError::Retry(text) => StoreError::Retry(text.clone()),
        other => StoreError::Internal(other.to_string()),
    }
}

/// The attributes that the query asks for, by name; `None` when the type lacks what it must have.
pub(crate) fn choose<'a>(
    known: impl Iterator<Item = &'a AttributeInfo>,
    asked: &Attributes,
) -> Option<Vec<AttributeInfo>> {
    let mut known: Vec<AttributeInfo> = known.cloned().collect();
    if let Attributes::AllOf(names) | Attributes::AnyOf(names) = asked {
        let names: Vec<String> = names.iter().map(|name| fold(name)).collect();
        let all = matches!(asked, Attributes::AllOf(_));
        let has = |name: &String| known.iter().any(|info| fold(&info.name) == *name);
        if !names.is_empty() && ((all && !names.iter().all(has)) || !names.iter().any(has)) {
            return None;
        }
        known.retain(|info| names.contains(&fold(&info.name)));
    }
    known.sort_by(|a, b| a.name.cmp(&b.name));
    Some(known)
}
