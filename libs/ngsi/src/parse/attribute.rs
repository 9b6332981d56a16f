//! One attribute: `{"value":…,"type":…,"metadata":{…}}`, or a bare value.

use serde_json::Value;

use super::{
    Node, geo,
    json::{self, Members},
    names::{IdentifierKind, check_attribute_name, identifier},
    value::{checked, date_metadata_value, date_value, type_of_value},
};
use crate::{
    AttributeUpdate, Error, Metadata, MetadataMap, ValueUpdate,
    model::DATE_EXPIRES,
    time,
    update::{OperatorName, UpdateOperator},
};

const INVALID_VALUE: &str = "Invalid characters in attribute value";

/// The body of `PUT …/attrs/{name}`.
pub fn attribute(name: &str, body: &[u8]) -> Result<AttributeUpdate, Error> {
    check_attribute_name(name)?;
    normalized(name, Node::Object(json::members(body)?))
}

/// The JSON body of `PUT …/value`: an object or an array. Type and metadata stay.
pub fn value_from_json(name: &str, body: &[u8]) -> Result<AttributeUpdate, Error> {
    check_attribute_name(name)?;
    let node = json::node(body)?;
    if matches!(node, Node::Scalar(_)) {
        return Err(Error::bad_request("Neither JSON Object nor JSON Array for attribute::value"));
    }
    Ok(AttributeUpdate { attribute_type: None, value: value_or_operators(node, false)?, metadata: None })
}

/// Reads one attribute of a normalized body.
pub(super) fn normalized(name: &str, node: Node) -> Result<AttributeUpdate, Error> {
    let Node::Object(members) = node else {
        return Err(Error::bad_request("attribute must be a JSON object, unless keyValues option is used"));
    };
    let parts = Parts::split(members)?;
    let metadata = match parts.metadata {
        Some(node) => metadata_map(node)?,
        None => MetadataMap::new(),
    };
    let unrestricted = parts.attribute_type.as_deref() == Some("TextUnrestricted")
        || crate::update::is_flagged(&metadata, "TextUnrestricted");
    let value = match parts.value {
        Some(node) => value_or_operators(node, unrestricted)?,
        None => ValueUpdate::Set(Value::Null),
    };
    finish(name, parts.attribute_type, value, metadata)
}

/// Reads one attribute of a keyValues body.
pub(super) fn key_value(name: &str, node: Node) -> Result<AttributeUpdate, Error> {
    finish(name, None, value_or_operators(node, false)?, MetadataMap::new())
}

/// Derives the type, gives dates their stored form, checks locations.
fn finish(
    name: &str,
    sent_type: Option<String>,
    value: ValueUpdate,
    metadata: MetadataMap,
) -> Result<AttributeUpdate, Error> {
    if name == DATE_EXPIRES {
        return expiry(sent_type.as_deref(), value, metadata);
    }
    let (attribute_type, value) = match value {
        ValueUpdate::Set(value) => {
            let attribute_type = sent_type.unwrap_or_else(|| type_of_value(&value).to_owned());
            let value = if time::is_date_type(&attribute_type) { date_value(value)? } else { value };
            geo::check(&attribute_type, &value, &metadata)?;
            (Some(attribute_type), ValueUpdate::Set(value))
        }
        operators @ ValueUpdate::Operate(_) => (sent_type, operators),
    };
    Ok(AttributeUpdate { attribute_type, value, metadata: Some(metadata) })
}

fn expiry(
    sent_type: Option<&str>,
    value: ValueUpdate,
    metadata: MetadataMap,
) -> Result<AttributeUpdate, Error> {
    let wrong = || Error::bad_request("error processing date expiration attribute, see log traces");
    if sent_type.is_some_and(|name| name != "DateTime") {
        return Err(wrong());
    }
    let ValueUpdate::Set(value) = value else { return Err(wrong()) };
    let value = date_value(value).map_err(|_| wrong())?;
    Ok(AttributeUpdate {
        attribute_type: Some("DateTime".to_owned()),
        value: ValueUpdate::Set(value),
        metadata: Some(metadata),
    })
}

#[derive(Default)]
struct Parts {
    attribute_type: Option<String>,
    value: Option<Node>,
    metadata: Option<Node>,
}

impl Parts {
    fn split(members: Members) -> Result<Self, Error> {
        let mut parts = Self::default();
        for (key, node) in members {
            match key.as_str() {
                "value" => {
                    if parts.value.replace(node).is_some() {
                        return Err(Error::bad_request("duplicated value key in attribute"));
                    }
                }
                "type" => {
                    let Node::Scalar(Value::String(name)) = node else {
                        return Err(Error::bad_request("invalid JSON type for attribute type"));
                    };
                    identifier(&name, IdentifierKind::AttributeType)?;
                    parts.attribute_type = Some(name);
                }
                "metadata" => parts.metadata = Some(node),
                _ => return Err(Error::bad_request("unrecognized property for context attribute")),
            }
        }
        Ok(parts)
    }
}

fn metadata_map(node: Node) -> Result<MetadataMap, Error> {
    let Node::Object(members) = node else {
        return Err(Error::bad_request("metadata must be a JSON object"));
    };
    let mut map = MetadataMap::with_capacity(members.len());
    for (name, node) in members {
        identifier(&name, IdentifierKind::MetadataName)?;
        let metadata = metadata(node)?;
        map.insert(name, metadata);
    }
    Ok(map)
}

fn metadata(node: Node) -> Result<Metadata, Error> {
    let Node::Object(members) = node else {
        return Err(Error::bad_request("invalid JSON field for attribute metadata"));
    };
    let mut metadata_type = None;
    let mut value = Value::Null;
    for (key, node) in members {
        match key.as_str() {
            "type" => {
                let Node::Scalar(Value::String(name)) = node else {
                    return Err(Error::bad_request("invalid JSON type for attribute metadata type"));
                };
                identifier(&name, IdentifierKind::MetadataType)?;
                metadata_type = Some(name);
            }
            "value" => value = checked(node, false, "Invalid characters in metadata value")?,
            _ => return Err(Error::bad_request("invalid JSON field for attribute metadata")),
        }
    }
    let metadata_type = metadata_type.unwrap_or_else(|| type_of_value(&value).to_owned());
    let value = if time::is_date_type(&metadata_type) { date_metadata_value(value)? } else { value };
    Ok(Metadata { metadata_type, value })
}

/// An object whose first key is an operator is an update, not a value.
fn value_or_operators(node: Node, unrestricted: bool) -> Result<ValueUpdate, Error> {
    let is_update = match &node {
        Node::Object(members) => members.first().is_some_and(|(key, _)| OperatorName::parse(key).is_some()),
        _ => false,
    };
    let Node::Object(members) = node else {
        return Ok(ValueUpdate::Set(checked(node, unrestricted, INVALID_VALUE)?));
    };
    if !is_update {
        return Ok(ValueUpdate::Set(checked(Node::Object(members), unrestricted, INVALID_VALUE)?));
    }
    let mut operators = Vec::with_capacity(members.len());
    for (key, node) in members {
        let Some(name) = OperatorName::parse(&key) else {
            return Err(Error::bad_request("update operators can not be mixed with other keys"));
        };
        operators.push(UpdateOperator { name, operand: checked(node, unrestricted, INVALID_VALUE)? });
    }
    let only_set_and_unset =
        operators.iter().all(|o| matches!(o.name, OperatorName::Set | OperatorName::Unset));
    if operators.len() > 1 && !(only_set_and_unset && operators.len() == 2) {
        return Err(Error::bad_request("only one update operator is allowed in an attribute"));
    }
    Ok(ValueUpdate::Operate(operators))
}

/// One attribute of a template: nothing in it is checked but its shape.
pub(super) fn template(value: &Value) -> Result<AttributeUpdate, Error> {
    let node: Node = serde_json::from_value(value.clone()).map_err(|_| Error::json_syntax())?;
    let Node::Object(members) = node else {
        return Err(Error::bad_request("attribute must be a JSON object, unless keyValues option is used"));
    };
    let parts = Parts::split(members)?;
    let metadata = parts.metadata.map(metadata_map).transpose()?;
    let value = parts.value.map_or(Value::Null, Node::into_value);
    Ok(AttributeUpdate { attribute_type: parts.attribute_type, value: ValueUpdate::Set(value), metadata })
}
