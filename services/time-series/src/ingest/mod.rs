//! From a notification to rows: reading entities, choosing their time index, casting their values.

mod cast;
mod entity;
mod geo;
mod time_index;

pub use cast::{cast, kind_for};
pub use entity::{EntityError, entity_row};
pub use time_index::Attribute;
