//! A row on its way into the history.

use scope::Scope;
use serde_json::Value;

/// What one notification says about one entity: all attributes share one time index.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub scope: Scope,
    pub entity_id: String,
    pub entity_type: String,
    /// Microseconds since 1970.
    pub time_us: i64,
    /// Of the change, when the row comes from the event stream: a row is stored once for (entity, version). A
    /// notification has none, and is never taken for a repetition.
    pub version: Option<i64>,
    pub attributes: Vec<NewAttribute>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NewAttribute {
    pub name: String,
    /// Declared NGSI type; empty when there is none.
    pub declared: String,
    pub value: Value,
}

/// Where a batch of stream records ends: stored with the rows, if the stored position still is `expected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    pub expected: Option<i64>,
    pub next: i64,
}
