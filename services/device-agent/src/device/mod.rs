//! What is provisioned: groups and devices. Both keep their wire form (a JSON object) beside what identifies them, so
//! that fields of features that are not there yet (commands, lazy attributes, expressions) are stored and shown.

mod attribute;
mod body;
mod expressions;
mod group;

pub(crate) use attribute::{DEFAULT_ATTRIBUTE_TYPE, MappedAttribute, StaticAttribute, attribute};
pub(crate) use body::{check_device, check_group, device_body};
pub(crate) use expressions::{AttributeExpression, idle_expressions};
pub(crate) use group::{Group, GroupDraft};

use std::fmt;

use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};

/// A secret that a group's devices show. Compared and stored, never logged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKey(std::sync::Arc<str>);

impl ApiKey {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the store and the north API's answers.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// One device, for queues and flags: order is kept per key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey {
    pub tenant: Tenant,
    pub path: ServicePath,
    pub device_id: std::sync::Arc<str>,
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.tenant, self.path, self.device_id)
    }
}

/// A provisioned device. Identity: scope, id and API key; one without a key stands for any key.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub scope: Scope,
    pub id: String,
    /// `None` until its first measure, unless provisioned with one.
    pub api_key: Option<ApiKey>,
    /// Everything else, as the north API shows it.
    pub body: Map<String, Value>,
    /// Microseconds since 1970.
    pub created_us: i64,
}

impl Device {
    pub fn key(&self) -> DeviceKey {
        DeviceKey {
            tenant: self.scope.tenant.clone(),
            path: self.scope.path.clone(),
            device_id: self.id.as_str().into(),
        }
    }

    pub fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub fn flag(&self, field: &str) -> Option<bool> {
        self.body.get(field).and_then(Value::as_bool)
    }

    pub fn entity_name(&self) -> &str {
        self.text("entity_name").unwrap_or(&self.id)
    }

    pub fn entity_type(&self) -> &str {
        self.text("entity_type").unwrap_or_default()
    }

    /// Whether a device of the same scope and id and of this key would be the same device.
    pub fn is_same_with(&self, key: Option<&ApiKey>) -> bool {
        match (&self.api_key, key) {
            (Some(own), Some(key)) => own == key,
            _ => true,
        }
    }

    pub fn command_names(&self) -> impl Iterator<Item = &str> {
        let commands = self.body.get("commands").and_then(Value::as_array);
        let name = |command| Value::get(command, "name").and_then(Value::as_str);
        commands.into_iter().flatten().filter_map(name).filter(|name| !name.is_empty())
    }

    pub fn has_command(&self, name: &str) -> bool {
        self.command_names().any(|own| own == name)
    }

    /// The device as the north API shows it.
    pub fn to_json(&self) -> Value {
        let mut shown = Map::with_capacity(self.body.len() + 4);
        shown.insert("device_id".into(), self.id.as_str().into());
        if let Some(key) = &self.api_key {
            shown.insert("apikey".into(), key.expose().into());
        }
        shown.insert("service".into(), self.scope.tenant.as_str().into());
        shown.insert("service_path".into(), self.scope.path.as_str().into());
        shown.extend(self.body.clone());
        shown.into()
    }
}
