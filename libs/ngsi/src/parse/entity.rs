//! Entities and sets of attributes.

use serde_json::Value;

use super::{
    Node,
    attribute::{key_value, normalized},
    json::{self, Members},
    names::{check_attribute_name, check_entity_id, check_entity_type},
};
use crate::{EntityUpdate, Error, update::AttributeUpdates};

/// How attributes are written in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFormat {
    #[default]
    Normalized,
    KeyValues,
}

/// The body of `POST /v2/entities`.
pub fn entity(body: &[u8], format: BodyFormat) -> Result<EntityUpdate, Error> {
    entity_members(json::members(body)?, format)
}

/// The body of `POST`, `PATCH` and `PUT …/attrs`: attributes only.
pub fn attributes(body: &[u8], format: BodyFormat) -> Result<AttributeUpdates, Error> {
    let members = json::members(body)?;
    if members.is_empty() {
        return Err(Error::bad_request("empty payload"));
    }
    let mut attributes = AttributeUpdates::with_capacity(members.len());
    for (name, node) in members {
        match name.as_str() {
            "id" => return Err(Error::bad_request("entity id specified in payload")),
            "type" => return Err(Error::bad_request("entity type specified in payload")),
            _ => add(&mut attributes, name, node, format)?,
        }
    }
    Ok(attributes)
}

/// Reads an entity out of an object: id, type, attributes.
pub(super) fn entity_members(members: Members, format: BodyFormat) -> Result<EntityUpdate, Error> {
    let mut id = None;
    let mut entity_type = None;
    let mut attributes = AttributeUpdates::with_capacity(members.len().saturating_sub(2));
    for (name, node) in members {
        match name.as_str() {
            "id" => {
                let Node::Scalar(Value::String(text)) = node else {
                    return Err(Error::bad_request("Invalid JSON type for entity id"));
                };
                check_entity_id(&text)?;
                id = Some(text);
            }
            "type" => {
                let Node::Scalar(Value::String(text)) = node else {
                    return Err(Error::bad_request("Invalid JSON type for entity type"));
                };
                check_entity_type(&text)?;
                entity_type = Some(text);
            }
            _ => add(&mut attributes, name, node, format)?,
        }
    }
    let id = id.unwrap_or_default();
    check_entity_id(&id)?;
    Ok(EntityUpdate { id, entity_type, attributes })
}

fn add(attributes: &mut AttributeUpdates, name: String, node: Node, format: BodyFormat) -> Result<(), Error> {
    check_attribute_name(&name)?;
    if attributes.contains_key(&name) {
        return Err(Error::bad_request(format!("duplicated attribute /{name}/")));
    }
    let update = match format {
        BodyFormat::Normalized => normalized(&name, node)?,
        BodyFormat::KeyValues => key_value(&name, node)?,
    };
    attributes.insert(name, update);
    Ok(())
}

/// The `ngsi` template of a custom notification: an entity that may lack its id, whose texts hold macros, so that
/// characters and dates are not checked.
pub(crate) fn template_entity(object: &serde_json::Map<String, Value>) -> Result<EntityUpdate, Error> {
    let mut update = EntityUpdate::default();
    for (name, value) in object {
        match (name.as_str(), value) {
            ("id", Value::String(text)) => update.id.clone_from(text),
            ("type", Value::String(text)) => update.entity_type = Some(text.clone()),
            ("id", _) => return Err(Error::bad_request("Invalid JSON type for entity id")),
            ("type", _) => return Err(Error::bad_request("Invalid JSON type for entity type")),
            _ => {
                check_attribute_name(name)?;
                update.attributes.insert(name.clone(), super::attribute::template(value)?);
            }
        }
    }
    Ok(update)
}
