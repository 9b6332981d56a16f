//! Request bodies (ngsi-v2.md 2, 4, 5 and 6).

mod attribute;
mod batch;
mod entity;
mod geo;
mod json;
mod listed;
mod names;
mod notification;
mod plain_text;
#[cfg(test)]
mod property_test;
mod value;

pub use attribute::{attribute, value_from_json};
pub use batch::{Batch, BatchQuery, QueryExpression, batch, batch_query};
pub(crate) use entity::template_entity;
pub use entity::{BodyFormat, attributes, entity};
pub(crate) use geo::check as check_location;
pub use json::{MAX_NESTING, Members, Node, members};
pub(crate) use listed::ListedEntity;
pub use names::{
    IdentifierKind, MAX_IDENTIFIER, check_attribute_name, check_entity_id, check_entity_type, has_forbidden,
    identifier,
};
pub use notification::notification;
pub use plain_text::value_from_text;
pub use value::{canonical_number, date_value, type_of_value};
