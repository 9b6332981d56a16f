//! NGSIv2 as pure functions: the data model, what an update does to an entity, the query language, subscriptions.
//! No I/O, no clock, no runtime.
//!
//! ```text
//! request body ─ parse ─► EntityUpdate ─ update::apply(&mut Option<Entity>) ─► Outcome   (what the event says)
//! URL, body ─ query::parse ─► EntityQuery ─ matches(&Entity)                             (what a store can't push down)
//! body ─ subscription::parse ─► Subscription ─ matches(&ChangeView) ─► notification body
//! georel, geometry, coords ─ geo::GeoQuery ─ holds(&Shape)                               (and where to look for it)
//! Entity ─ render ─► bytes
//! EntityText: an entity whose attributes are still text, mostly shown and changed as such
//! ```
//!
//! Invariants: a parser never panics and bounds what it builds; attribute values hold numbers in one form (1.0 is 1) and
//! DateTime values as `YYYY-MM-DDThh:mm:ss.sssZ`, so that equal values are equal JSON.

pub mod error;
pub mod geo;
pub mod model;
pub mod parse;
pub mod query;
pub mod registration;
pub mod render;
pub mod subscription;
pub mod text;
pub mod time;
pub mod update;

pub use error::{Error, ErrorWord, Failed};
pub use model::{Attribute, Attributes, Entity, Metadata, MetadataMap};
pub use query::{EntityQuery, EntitySelector, Expression, Pattern};
pub use text::{EntityText, Spliced, apply_to_text};
pub use update::{
    Alteration, AttributeUpdate, AttributeUpdates, EntityUpdate, Outcome, UpdateAction, UpdateOptions,
    ValueUpdate, WriteContext, apply,
};
