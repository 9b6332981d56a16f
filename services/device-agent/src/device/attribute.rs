use serde_json::{Map, Value};

use super::AttributeExpression;

/// Type of an attribute that nobody gave one (iot-agent 3.3).
pub(crate) const DEFAULT_ATTRIBUTE_TYPE: &str = "Text";

/// How one measure becomes an attribute (iot-agent 1.4). Of the expressions only that of the value is evaluated yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MappedAttribute {
    /// Name of the measure.
    pub object_id: String,
    pub name: String,
    pub attribute_type: String,
    /// Gives the value, at every measure of the device, instead of the measure of this name.
    pub expression: Option<AttributeExpression>,
    /// Another entity than the device's own, and its type.
    pub entity: Option<(String, Option<String>)>,
    /// A measure of this value is not sent.
    pub skip_value: Value,
    /// `name -> {"type","value"}`.
    pub metadata: Map<String, Value>,
}

impl MappedAttribute {
    /// Reads a provisioned object; `None` if it has neither name nor object id.
    pub(crate) fn read(object: &Value) -> Option<Self> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = text("name").or_else(|| text("object_id"))?;
        let entity = text("entity_name").filter(|name| is_plain_entity_id(name));
        Some(Self {
            object_id: text("object_id").unwrap_or(name).to_owned(),
            name: name.to_owned(),
            attribute_type: text("type").unwrap_or(DEFAULT_ATTRIBUTE_TYPE).to_owned(),
            expression: text("expression").map(AttributeExpression::read),
            entity: entity.map(|name| (name.to_owned(), text("entity_type").map(str::to_owned))),
            skip_value: object.get("skipValue").cloned().unwrap_or_default(),
            metadata: constant_metadata(object),
        })
    }

    /// Reads a list of a device or a group; what cannot be read is left out.
    pub(crate) fn read_list(list: Option<&Value>) -> Vec<Self> {
        objects(list).filter_map(Self::read).collect()
    }
}

/// An attribute that goes with every update of the device's entity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StaticAttribute {
    pub name: String,
    /// `{"type","value","metadata"}` as it is sent.
    pub attribute: Map<String, Value>,
}

impl StaticAttribute {
    pub(crate) fn read_list(list: Option<&Value>) -> Vec<Self> {
        objects(list).filter_map(Self::read).collect()
    }

    fn read(object: &Value) -> Option<Self> {
        let name = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?;
        let attribute_type = object.get("type").and_then(Value::as_str).unwrap_or(DEFAULT_ATTRIBUTE_TYPE);
        let value = object.get("value").cloned().unwrap_or_default();
        let attribute = attribute(attribute_type, value, constant_metadata(object));
        Some(Self { name: name.to_owned(), attribute })
    }
}

/// An attribute as an update holds it.
pub(crate) fn attribute(
    attribute_type: &str,
    value: Value,
    metadata: Map<String, Value>,
) -> Map<String, Value> {
    let mut attribute = Map::with_capacity(3);
    attribute.insert("type".into(), attribute_type.into());
    attribute.insert("value".into(), value);
    if !metadata.is_empty() {
        attribute.insert("metadata".into(), metadata.into());
    }
    attribute
}

fn objects(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten().filter(|object| object.is_object())
}

/// Metadata with a value of their own; those with an expression wait for expressions.
fn constant_metadata(object: &Value) -> Map<String, Value> {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return Map::new() };
    let constant =
        |metadatum: &&Value| metadatum.get("value").is_some() && metadatum.get("expression").is_none();
    let constants = metadata.iter().filter(|(_, metadatum)| constant(metadatum));
    constants.map(|(name, metadatum)| (name.clone(), metadatum.clone())).collect()
}

/// Whether a name can only be plain text: an expression holds at least one of the characters that ids must not.
pub(super) fn is_plain_entity_id(name: &str) -> bool {
    name.len() <= 256
        && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>\"'=;()&?/#|+".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn object_id_and_name_stand_for_each_other() {
        let named = MappedAttribute::read(&json!({"name": "temperature", "type": "Number"})).unwrap();
        assert_eq!((named.object_id.as_str(), named.name.as_str()), ("temperature", "temperature"));
        let by_id = MappedAttribute::read(&json!({"object_id": "t"})).unwrap();
        assert_eq!((by_id.name.as_str(), by_id.attribute_type.as_str()), ("t", "Text"));
        assert_eq!(MappedAttribute::read(&json!({"type": "Number"})), None);
    }

    #[test]
    fn an_entity_name_that_is_an_expression_is_not_taken_as_text() {
        let entity =
            |name: &str| MappedAttribute::read(&json!({"name": "a", "entity_name": name})).unwrap().entity;
        assert_eq!(entity("Room:1"), Some(("Room:1".into(), None)));
        assert_eq!(entity("'Room:' + id"), None);
        assert_eq!(entity("name|trim"), None);
    }

    #[test]
    fn metadata_with_expressions_are_left_out() {
        let read = json!({"name": "a", "metadata": {"unit": {"type": "Text", "value": "C"}, "e": {"expression": "x"}}});
        let metadata = MappedAttribute::read(&read).unwrap().metadata;
        assert_eq!(Value::from(metadata), json!({"unit": {"type": "Text", "value": "C"}}));
    }
}
