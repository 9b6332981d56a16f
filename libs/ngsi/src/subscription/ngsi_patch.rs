//! The `ngsi` template of a custom notification: a partial entity that is merged over the notified one.

use serde_json::{Map, Value};

use super::macros::{Context, MacroJson, MacroText};
use super::matching::ChangeView;
use crate::{Attribute, Entity, Error, MetadataMap, ValueUpdate, parse};

const DEFAULT_PRIORITY: u64 = 100_000;
const MAX_PRIORITY: u64 = 100_000;

/// A parsed template, beside it as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct NgsiPatch {
    source: Value,
    id: Option<MacroText>,
    entity_type: Option<MacroText>,
    /// In the order of evaluation.
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    name: String,
    /// None: by the value.
    attribute_type: Option<String>,
    value: MacroJson,
    priority: u64,
}

fn priority(value: &Value) -> Result<u64, Error> {
    let wrong =
        || Error::bad_request(format!("evalPriority must be a whole number from 1 to {MAX_PRIORITY}"));
    value.as_u64().filter(|priority| (1..=MAX_PRIORITY).contains(priority)).ok_or_else(wrong)
}

impl NgsiPatch {
    pub(super) fn parse(object: &Map<String, Value>) -> Result<Self, Error> {
        let update = parse::template_entity(object)?;
        let mut steps = Vec::with_capacity(update.attributes.len());
        for (name, attribute) in update.attributes {
            let metadata = attribute.metadata.unwrap_or_default();
            if metadata.keys().any(|name| name != "evalPriority") {
                return Err(Error::bad_request(
                    "only evalPriority metadata is allowed in ngsi field in custom notifications",
                ));
            }
            let priority = metadata.get("evalPriority").map(|own| priority(&own.value)).transpose()?;
            let value = match &attribute.value {
                ValueUpdate::Set(template) => MacroJson::parse(template),
                _ => MacroJson::parse(&Value::Null),
            };
            let attribute_type = attribute.attribute_type;
            steps.push(Step { name, attribute_type, value, priority: priority.unwrap_or(DEFAULT_PRIORITY) });
        }
        // Stable: what has the same priority keeps its order.
        steps.sort_by_key(|step| step.priority);
        let text = |text: &str| (!text.is_empty()).then(|| MacroText::parse(text));
        Ok(Self {
            source: Value::Object(object.clone()),
            id: text(&update.id),
            entity_type: update.entity_type.as_deref().and_then(text),
            steps,
        })
    }

    pub fn source(&self) -> &Value {
        &self.source
    }

    /// The notified entity with the template merged over it: results join what later templates see, id and type come last.
    pub(super) fn merged(&self, change: &ChangeView<'_>, tenant: &str, auth_token: &str) -> Entity {
        let mut entity = change.entity.clone();
        for step in &self.steps {
            let value = {
                let so_far = ChangeView { entity: &entity, ..*change };
                step.value.value(&Context::new(&so_far, tenant, auth_token))
            };
            let by_value = || parse::type_of_value(&value).to_owned();
            let attribute_type = step.attribute_type.clone().unwrap_or_else(by_value);
            let before = entity.attributes.get(&step.name);
            let metadata = before.map_or_else(MetadataMap::new, |own| own.metadata.clone());
            let attribute = Attribute { attribute_type, value, metadata, created_us: 0, modified_us: 0 };
            entity.attributes.insert(step.name.clone(), attribute);
        }
        let text = |template: &Option<MacroText>| {
            let patched = ChangeView { entity: &entity, ..*change };
            template.as_ref().map(|own| own.text(&Context::new(&patched, tenant, auth_token)))
        };
        let (id, entity_type) = (text(&self.id), text(&self.entity_type));
        if let Some(id) = id {
            entity.id = id;
        }
        if let Some(entity_type) = entity_type {
            entity.entity_type = entity_type;
        }
        entity
    }
}
