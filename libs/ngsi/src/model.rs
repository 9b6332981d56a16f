use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Attributes by name, in order of creation.
pub type Attributes = IndexMap<String, Attribute>;

/// Metadata of one attribute by name, in order of creation.
pub type MetadataMap = IndexMap<String, Metadata>;

/// The builtin attribute that makes an entity transient (ngsi-v2.md 5).
pub const DATE_EXPIRES: &str = "dateExpires";

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

impl Entity {
    /// When a transient entity ends: microseconds since 1970. None: it stays until it is deleted.
    pub fn expires_us(&self) -> Option<i64> {
        let value = self.attributes.get(DATE_EXPIRES)?.value.as_str()?;
        crate::time::parse_us(value)
    }

    /// Where it is: its one location attribute.
    pub fn location(&self) -> Option<crate::geo::Shape> {
        self.attributes.values().find_map(crate::geo::Shape::of)
    }
}

/// An attribute. Its serde form is what the store holds and what events carry:
/// `{"type","value","metadata","dateCreated","dateModified"}`, the two dates in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    #[serde(rename = "type")]
    pub attribute_type: String,
    pub value: Value,
    #[serde(default)]
    pub metadata: MetadataMap,
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
