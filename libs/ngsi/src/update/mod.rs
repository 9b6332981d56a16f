//! What an update does to an entity (ngsi-v2.md 6). Pure: the store holds the row's lock, calls [`apply`], writes back.

mod apply;
mod attribute;
mod location;

#[cfg(test)]
mod model_test;
mod operator;

use indexmap::IndexMap;
use scope::ServicePath;
use serde_json::Value;

pub use apply::apply;
pub(crate) use attribute::flag as is_flagged;
pub(crate) use location::{is_location, is_location_type};
pub use operator::{OperatorName, UpdateOperator};

use crate::{Attributes, Entity, Error, MetadataMap};

/// Type of an entity that was created without one.
pub const DEFAULT_ENTITY_TYPE: &str = "Thing";

/// What to do with the attributes of an [`EntityUpdate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpdateAction {
    /// The entity must be new: `POST /v2/entities`.
    Create,
    /// Create, or add and overwrite attributes: upsert, `POST …/attrs`, batch `append`.
    Append,
    /// Create, or add attributes that must be new.
    AppendStrict,
    /// Overwrite attributes that must exist: PATCH, `PUT …/attrs/A`, `PUT …/value`, batch `update`.
    Update,
    /// These attributes and no others: `PUT …/attrs`, batch `replace`. The entity must exist.
    Replace,
    /// Remove the named attributes, or the entity when none is named.
    Delete,
    /// Create, or add the attributes that are not there yet: never overwrites (decision 16).
    Ensure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateOptions {
    /// Metadata not in the request is removed.
    pub override_metadata: bool,
    /// What is written counts as changed, also when nothing differs.
    pub forced_update: bool,
}

/// One entity of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityUpdate {
    pub id: String,
    /// As the request named it. None: the one entity with this id, or `Thing` for a new one.
    pub entity_type: Option<String>,
    pub attributes: AttributeUpdates,
}

pub type AttributeUpdates = IndexMap<String, AttributeUpdate>;

/// One attribute of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeUpdate {
    /// None: the existing type stays; a new attribute gets the one of its value.
    pub attribute_type: Option<String>,
    pub value: ValueUpdate,
    /// None: existing metadata stays, whatever the options (`PUT …/value`).
    pub metadata: Option<MetadataMap>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ValueUpdate {
    Set(Value),
    /// One operator, or `$set` and `$unset` together.
    Operate(Vec<UpdateOperator>),
}

/// Where and when a write happens.
#[derive(Clone, Copy, Debug)]
pub struct WriteContext<'a> {
    /// Service path of an entity that is created.
    pub path: &'a ServicePath,
    /// Microseconds since 1970.
    pub now_us: i64,
}

/// What happened to the entity: the strongest that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alteration {
    Create,
    /// At least one value, type or metadata differs.
    Change,
    /// Written, nothing differs.
    Update,
    Delete,
}

impl Alteration {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "entityCreate",
            Self::Change => "entityChange",
            Self::Update => "entityUpdate",
            Self::Delete => "entityDelete",
        }
    }
}

/// What [`apply`] did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// None: nothing was written, and no event is due.
    pub alteration: Option<Alteration>,
    /// Attributes that the request named and that were written, in the order of the request.
    pub updated: Vec<String>,
    /// Those of `updated` whose value, type or metadata differ (all of them under `forced_update`).
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// What changed and removed attributes were before; names that did not exist are absent.
    pub previous: Attributes,
    /// The entity as it was, when it was deleted.
    pub deleted: Option<Entity>,
    /// A part of the request was refused (`PartialUpdate`): the answer is this error, what is above was done.
    pub partial: Option<Error>,
}
