use indexmap::IndexMap;
use jexl::{Budget, Moment};
use serde_json::{Map, Value};

use crate::device::{Device, MappedAttribute, StaticAttribute};

/// What expressions may name beside the measures: the static attributes, and what the device is.
pub(super) fn constants(device: &Device, statics: &[StaticAttribute]) -> Map<String, Value> {
    let values =
        statics.iter().filter_map(|own| Some((own.name.clone(), own.attribute.get("value")?.clone())));
    let mut names: Map<String, Value> = values.collect();
    for (name, value) in [
        ("id", device.id.as_str()),
        ("type", device.entity_type()),
        ("service", device.scope.tenant.as_str()),
        ("subservice", device.scope.path.as_str()),
        ("entity_name", device.entity_name()),
    ] {
        names.insert(name.to_owned(), value.into());
    }
    names.retain(|_, value| !value.is_null());
    names
}

/// What the expressions of one group of measures see (iot-agent 3): its measures by the names they came with, the constants,
/// and each attribute of the list that was reached.
pub(super) struct Context<'b> {
    names: Map<String, Value>,
    now: Moment,
    /// Shared by all groups of a request.
    budget: &'b mut Budget,
}

impl<'b> Context<'b> {
    pub(super) fn new(
        measures: &IndexMap<String, Value>,
        constants: &Map<String, Value>,
        now_us: i64,
        budget: &'b mut Budget,
    ) -> Self {
        let given = measures.iter().filter(|(_, value)| !value.is_null());
        let mut names: Map<String, Value> =
            given.map(|(name, value)| (name.clone(), value.clone())).collect();
        names.extend(constants.clone());
        Self { names, now: Moment::from_micros(now_us), budget }
    }

    /// The value of the next attribute of the list, which was measured as `raw`; `None` if there is neither measure nor
    /// expression.
    pub(super) fn value_of(&mut self, mapped: &MappedAttribute, raw: Option<&Value>) -> Option<Value> {
        if let Some(raw) = raw {
            self.set(&mapped.name, raw);
        }
        let Some(expression) = &mapped.expression else { return raw.cloned() };
        let value = expression.evaluate(&self.names, self.now, self.budget);
        self.set(&mapped.name, &value);
        Some(value)
    }

    fn set(&mut self, name: &str, value: &Value) {
        if value.is_null() {
            self.names.shift_remove(name);
        } else {
            self.names.insert(name.to_owned(), value.clone());
        }
    }
}
