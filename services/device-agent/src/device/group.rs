use scope::Scope;
use serde_json::{Map, Value};

use super::ApiKey;

/// A config group: what devices with its key at its resource have in common. Unique by (resource, key) over all tenants.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// 24 hexadecimal digits; shown as `_id`.
    pub id: String,
    pub scope: Scope,
    /// South path, such as `/iot/d`; may be empty: the default one.
    pub resource: String,
    pub api_key: ApiKey,
    /// Everything else, as given.
    pub body: Map<String, Value>,
    /// Microseconds since 1970.
    pub created_us: i64,
}

/// A group as a request gives it, not yet stored.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupDraft {
    pub resource: String,
    pub api_key: ApiKey,
    pub body: Map<String, Value>,
}

impl Group {
    pub fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub fn flag(&self, field: &str) -> Option<bool> {
        self.body.get(field).and_then(Value::as_bool)
    }

    /// Whether a device that nobody provisioned may appear.
    pub fn autoprovision(&self) -> bool {
        self.flag("autoprovision").unwrap_or(true)
    }

    /// Between type and device id in default entity names.
    pub fn conjunction(&self) -> &str {
        self.text("defaultEntityNameConjunction").unwrap_or(":")
    }

    /// The group as the north API shows it.
    pub fn to_json(&self) -> Value {
        let mut shown = Map::with_capacity(self.body.len() + 6);
        shown.insert("_id".into(), self.id.as_str().into());
        shown.insert("apikey".into(), self.api_key.expose().into());
        shown.insert("resource".into(), self.resource.as_str().into());
        shown.insert("service".into(), self.scope.tenant.as_str().into());
        shown.insert("subservice".into(), self.scope.path.as_str().into());
        shown.extend(self.body.clone());
        shown.insert("creationDate".into(), crate::measure::iso_millis(self.created_us).into());
        shown.into()
    }
}
