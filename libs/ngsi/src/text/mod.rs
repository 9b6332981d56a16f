//! Entities whose attributes are still the text that the store holds: shown, and mostly changed, without being parsed.
//!
//! The text is a compact JSON object, `name -> {"type","value","metadata","dateCreated","dateModified"}` with the members
//! in this order, as [`Attribute`](crate::Attribute) is serialized.

mod members;
mod show;
mod splice;

use std::sync::Arc;

use bytes::Bytes;

pub use splice::{Spliced, apply_to_text};

use crate::Entity;

/// An [`Entity`] with its attributes as text. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityText {
    pub id: Arc<str>,
    pub entity_type: Arc<str>,
    pub path: scope::ServicePath,
    pub attributes: Bytes,
    /// Microseconds since 1970.
    pub created_us: i64,
    pub modified_us: i64,
    /// From the store's sequence; 0 = never stored.
    pub version: i64,
}

impl EntityText {
    pub fn of(entity: &Entity) -> Result<Self, serde_json::Error> {
        let attributes = serde_json::to_vec(&entity.attributes)?;
        Ok(Self {
            id: entity.id.as_str().into(),
            entity_type: entity.entity_type.as_str().into(),
            path: entity.path.clone(),
            attributes: attributes.into_boxed_slice().into(),
            created_us: entity.created_us,
            modified_us: entity.modified_us,
            version: entity.version,
        })
    }

    /// Fails when the attributes are not such text: the store is damaged.
    pub fn decode(&self) -> Result<Entity, serde_json::Error> {
        Ok(Entity {
            id: (*self.id).to_owned(),
            entity_type: (*self.entity_type).to_owned(),
            path: self.path.clone(),
            attributes: serde_json::from_slice(&self.attributes)?,
            created_us: self.created_us,
            modified_us: self.modified_us,
            version: self.version,
        })
    }
}
