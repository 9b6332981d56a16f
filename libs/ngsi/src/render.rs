//! Entities as response bodies, written straight to bytes (ngsi-v2.md 5 and 6).

mod attribute;
mod entity;
mod selection;

pub use attribute::{AttributeExtras, shown_value, write_attribute};
pub(crate) use entity::builtin as entity_builtin;
pub use entity::{Format, write_attributes, write_entity};
pub use selection::{Names, Selection};

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string in memory always serializes");
}

/// Appends a JSON value.
pub fn write_value(out: &mut Vec<u8>, value: &serde_json::Value) {
    serde_json::to_writer(out, value).expect("a value in memory always serializes");
}
