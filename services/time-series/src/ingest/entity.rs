//! One entity of a notification, or of the event stream, as a row.

use scope::Scope;
use serde_json::{Map, Value, json};

use super::{
    geo,
    time_index::{Attribute, time_index},
};
use crate::row::{NewAttribute, Row};

/// Most attributes of one entity.
const MAX_ATTRIBUTES: usize = 2_000;
/// Longest entity id, entity type or attribute name, in bytes.
const MAX_NAME: usize = 1_024;

/// Why an entity cannot be stored. `at` is its place in the notification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntityError {
    #[error("'{property}' is a required property - 'data.{at}'")]
    Missing { property: &'static str, at: usize },
    #[error("{found} is not of type '{expected}' - 'data.{at}{}'", property.map(|p| format!(".{p}")).unwrap_or_default())]
    WrongType { found: String, expected: &'static str, at: usize, property: Option<&'static str> },
    #[error("more than {MAX_ATTRIBUTES} attributes - 'data.{at}'")]
    TooManyAttributes { at: usize },
    #[error("a name is longer than {MAX_NAME} bytes - 'data.{at}'")]
    NameTooLong { at: usize },
}

const RESERVED: [&str; 2] = ["time_index", "__original_ngsi_entity__"];

/// Reads one entity in normalized, key-value or NGSI-LD form. `Ok(None)`: it says nothing that could be stored.
pub fn entity_row(
    entity: &Value,
    at: usize,
    scope: Scope,
    time_index_name: Option<&str>,
    arrived_us: i64,
) -> Result<Option<Row>, EntityError> {
    let Some(entity) = entity.as_object() else {
        return Err(EntityError::WrongType {
            found: entity.to_string(),
            expected: "object",
            at,
            property: None,
        });
    };
    // The original's validator names the type first.
    let entity_type = text_of(entity, "type", at)?;
    let entity_id = text_of(entity, "id", at)?;
    if entity.len() > MAX_ATTRIBUTES {
        return Err(EntityError::TooManyAttributes { at });
    }
    if entity_id.len().max(entity_type.len()) > MAX_NAME || entity.keys().any(|name| name.len() > MAX_NAME) {
        return Err(EntityError::NameTooLong { at });
    }
    let bodies: Vec<Attribute<'_>> = entity
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "id" | "type" | "@context"))
        .filter_map(|(name, body)| Some(Attribute { name, body: body.as_object()? }))
        .collect();
    let time_us = time_index(entity, &bodies, time_index_name).unwrap_or(arrived_us);
    let attributes = attributes(entity);
    if attributes.iter().all(|attribute| is_empty(&attribute.value)) {
        return Ok(None);
    }
    let (entity_id, entity_type) = (entity_id.to_owned(), entity_type.to_owned());
    Ok(Some(Row { scope, entity_id, entity_type, time_us, version: None, attributes }))
}

fn text_of<'a>(
    entity: &'a Map<String, Value>,
    property: &'static str,
    at: usize,
) -> Result<&'a str, EntityError> {
    match entity.get(property) {
        None => Err(EntityError::Missing { property, at }),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(EntityError::WrongType {
            found: other.to_string(),
            expected: "string",
            at,
            property: Some(property),
        }),
    }
}

fn attributes(entity: &Map<String, Value>) -> Vec<NewAttribute> {
    let mut attributes: Vec<NewAttribute> = Vec::with_capacity(entity.len());
    for (name, body) in entity {
        if matches!(name.as_str(), "id" | "type" | "@context") || RESERVED.contains(&name.as_str()) {
            continue;
        }
        let Some((declared, value)) = typed_value(name, body) else { continue };
        // Names are matched without case: of two spellings in one entity the first counts.
        if attributes.iter().any(|known| known.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        attributes.push(NewAttribute { name: name.clone(), declared: declared.to_owned(), value });
    }
    add_centroid(&mut attributes);
    attributes
}

/// Declared type and value of an attribute, whichever form it is in; `None` when there is nothing to store.
fn typed_value<'a>(name: &str, body: &'a Value) -> Option<(&'a str, Value)> {
    let Value::Object(object) = body else {
        // Key-values; but plain dates beside an NGSI-LD entity are no attributes.
        let date = matches!(name, "createdAt" | "modifiedAt" | "observedAt" | "@id" | "@type");
        return (!date).then(|| ("", body.clone()));
    };
    let declared = object.get("type").and_then(Value::as_str).unwrap_or_default();
    let value = match (declared, object.get("value"), object.get("object")) {
        ("Relationship", None, Some(target)) => target.clone(),
        (_, Some(value), _) => value.clone(),
        (_, None, _) if object.contains_key("type") => Value::Null,
        _ => return None,
    };
    if declared != "Property" {
        return Some((declared, value));
    }
    match value.get("@value") {
        Some(date) => Some(("DateTime", date.clone())),
        None => Some(("", value)),
    }
}

/// `location` is always stored with its centroid beside it (contract section 5).
fn add_centroid(attributes: &mut Vec<NewAttribute>) {
    let place = attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case("location"));
    let centroid = place.and_then(|place| geo::centroid(&geo::to_geojson(&place.value)?));
    let known = attributes.iter().any(|attribute| attribute.name.eq_ignore_ascii_case("location_centroid"));
    if let (Some([lat, lon]), false) = (centroid, known) {
        attributes.push(NewAttribute {
            name: "location_centroid".into(),
            declared: "geo:point".into(),
            value: json!(format!("{lat}, {lon}")),
        });
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scope::{ServicePath, Tenant};

    use super::*;

    fn read(entity: Value) -> Result<Option<Row>, EntityError> {
        entity_row(&entity, 0, Scope::new(Tenant::default(), ServicePath::root()), None, 77)
    }

    fn attribute(name: &str, declared: &str, value: Value) -> NewAttribute {
        NewAttribute { name: name.into(), declared: declared.into(), value }
    }

    #[test]
    fn id_and_type_are_required() {
        let texts = [
            (json!({"id": "a"}), "'type' is a required property - 'data.0'"),
            (json!({"type": "a"}), "'id' is a required property - 'data.0'"),
            (json!({"type": "a", "id": 5}), "5 is not of type 'string' - 'data.0.id'"),
            (json!(5), "5 is not of type 'object' - 'data.0'"),
        ];
        for (entity, text) in texts {
            assert_eq!(read(entity).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn an_entity_of_empty_values_is_dropped_but_zero_and_false_count() {
        for (value, stored) in [
            (Value::Null, false),
            (json!(""), false),
            (json!({}), false),
            (json!([]), false),
            (json!(0), true),
            (json!(0.0), true),
            (json!(false), true),
        ] {
            let row = read(json!({"id": "a", "type": "T", "x": {"type": "Number", "value": value}})).unwrap();
            assert_eq!(row.is_some(), stored, "{value}");
        }
        assert_eq!(read(json!({"id": "a", "type": "T"})).unwrap(), None);
    }

    #[test]
    fn attributes_without_type_and_value_and_reserved_names_are_left_out() {
        let row =
            read(json!({"id": "a", "type": "T", "@context": ["x"], "bare": {}, "time_index": {"value": 1},
            "x": {"value": 1}, "X": {"value": 2}}));
        assert_eq!(row.unwrap().unwrap().attributes, [attribute("x", "", json!(1))]);
    }

    #[test]
    fn key_values_and_linked_data_are_read() {
        let row = read(json!({"id": "a", "type": "T", "n": 1.5, "createdAt": "2030-01-01",
            "p": {"type": "Property", "value": 5, "observedAt": "2031-01-01T00:00:00Z"},
            "d": {"type": "Property", "value": {"@type": "DateTime", "@value": "2030-01-01"}},
            "r": {"type": "Relationship", "object": "urn:x"}}));
        let row = row.unwrap().unwrap();
        assert_eq!(
            row.attributes,
            [
                attribute("n", "", json!(1.5)),
                attribute("p", "", json!(5)),
                attribute("d", "DateTime", json!("2030-01-01")),
                attribute("r", "Relationship", json!("urn:x")),
            ]
        );
        assert_eq!(row.time_us, crate::time::parse_iso("2031-01-01").unwrap());
    }

    #[test]
    fn a_location_gets_a_centroid() {
        let row =
            read(json!({"id": "a", "type": "T", "location": {"type": "geo:point", "value": "45.2, 9.1"}}));
        let attributes = row.unwrap().unwrap().attributes;
        assert_eq!(attributes[1], attribute("location_centroid", "geo:point", json!("45.2, 9.1")));
    }

    #[test]
    fn arrival_is_the_last_resort() {
        assert_eq!(read(json!({"id": "a", "type": "T", "n": 1})).unwrap().unwrap().time_us, 77);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("(id|type|value|metadata|location|object|[a-c])", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(document in json_value()) {
            if let Ok(Some(row)) = read(document) {
                prop_assert!(!row.attributes.is_empty());
            }
        }
    }
}
