use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Attributes by name, in order of creation.
pub type Attributes = IndexMap<String, Attribute>;

/// An entity of one tenant at one service path, as it is held between store and API.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    pub id: String,
    pub entity_type: String,
    pub path: scope::ServicePath,
    pub attributes: Attributes,
    /// Microseconds since 1970.
    pub created_us: i64,
    pub modified_us: i64,
    /// From the store's sequence; 0 = never stored.
    pub version: i64,
}

/// An attribute. Its serde form is what the store holds and what events carry:
/// `{"type","value","metadata","dateCreated","dateModified"}`, the two dates in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    #[serde(rename = "type")]
    pub attribute_type: String,
    pub value: Value,
    #[serde(default)]
    pub metadata: IndexMap<String, Metadata>,
    #[serde(rename = "dateCreated", default)]
    pub created_us: i64,
    #[serde(rename = "dateModified", default)]
    pub modified_us: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(rename = "type")]
    pub metadata_type: String,
    pub value: Value,
}
