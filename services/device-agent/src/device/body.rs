//! Which bodies the north API takes (iot-agent 1.2 to 1.4). Errors are positions and rules, never values.

use serde_json::{Map, Value};

/// Longest device id, API key or resource in bytes.
const MAX_NAME: usize = 256;

const GROUP_TEXTS: [&str; 13] = [
    "apikey",
    "resource",
    "entity_type",
    "cbHost",
    "trust",
    "token",
    "entityNameExp",
    "defaultEntityNameConjunction",
    "payloadType",
    "transport",
    "endpoint",
    "ngsiVersion",
    "cmdMode",
];
const LISTS: [&str; 4] = ["attributes", "lazy", "commands", "static_attributes"];
const DEVICE_TEXTS: [&str; 11] = [
    "device_id",
    "apikey",
    "entity_name",
    "entity_type",
    "timezone",
    "endpoint",
    "transport",
    "protocol",
    "ngsiVersion",
    "payloadType",
    "cmdMode",
];
const DEVICE_FLAGS: [&str; 4] = ["timestamp", "autoprovision", "useCBflowControl", "storeLastMeasure"];
/// What is kept of a device; other fields are accepted and dropped, as the originals do.
const DEVICE_FIELDS: [&str; 22] = [
    "entity_name",
    "entity_type",
    "timezone",
    "timestamp",
    "endpoint",
    "polling",
    "transport",
    "protocol",
    "attributes",
    "lazy",
    "commands",
    "static_attributes",
    "internal_attributes",
    "explicitAttrs",
    "ngsiVersion",
    "payloadType",
    "autoprovision",
    "useCBflowControl",
    "storeLastMeasure",
    "lastMeasure",
    "cmdMode",
    "provisionEntity",
];

const ACTIVE_KEYS: [&str; 8] =
    ["object_id", "name", "type", "expression", "skipValue", "entity_name", "entity_type", "metadata"];
const LAZY_KEYS: [&str; 3] = ["object_id", "name", "type"];
const COMMAND_KEYS: [&str; 9] =
    ["object_id", "name", "type", "value", "expression", "payloadType", "contentType", "headers", "mqtt"];

/// Checks the types of a group's known fields; unknown fields may be anything.
pub(crate) fn check_group(group: &Map<String, Value>) -> Result<(), String> {
    texts(group, &GROUP_TEXTS)?;
    lists(group)?;
    names_are_short(group, &["apikey", "resource"])?;
    explicit_attrs(group)
}

/// Checks a device as given to `POST` or `PUT`; which fields must be there is the caller's.
pub(crate) fn check_device(device: &Map<String, Value>) -> Result<(), String> {
    texts(device, &DEVICE_TEXTS)?;
    flags(device, &DEVICE_FLAGS)?;
    lists(device)?;
    names_are_short(device, &["device_id", "apikey"])?;
    explicit_attrs(device)?;
    attributes(device, "attributes", Some(&ACTIVE_KEYS))?;
    attributes(device, "lazy", Some(&LAZY_KEYS))?;
    attributes(device, "commands", Some(&COMMAND_KEYS))?;
    attributes(device, "static_attributes", None)
}

/// What is stored of a device given to `POST` or `PUT`. Null stands for absent.
pub(crate) fn device_body(given: Map<String, Value>) -> Map<String, Value> {
    given
        .into_iter()
        .filter(|(key, value)| DEVICE_FIELDS.contains(&key.as_str()) && !value.is_null())
        .collect()
}

fn texts(object: &Map<String, Value>, fields: &[&str]) -> Result<(), String> {
    let wrong = fields.iter().find(|field| object.get(**field).is_some_and(|value| !value.is_string()));
    wrong.map_or(Ok(()), |field| Err(format!("{field} must be a string")))
}

fn flags(object: &Map<String, Value>, fields: &[&str]) -> Result<(), String> {
    let wrong = fields.iter().find(|field| object.get(**field).is_some_and(|value| !value.is_boolean()));
    wrong.map_or(Ok(()), |field| Err(format!("{field} must be true or false")))
}

fn lists(object: &Map<String, Value>) -> Result<(), String> {
    let is_list = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_object));
    let wrong = LISTS.iter().find(|field| object.get(**field).is_some_and(|value| !is_list(value)));
    wrong.map_or(Ok(()), |field| Err(format!("{field} must be an array of objects")))
}

fn names_are_short(object: &Map<String, Value>, fields: &[&str]) -> Result<(), String> {
    for field in fields {
        let Some(text) = object.get(*field).and_then(Value::as_str) else { continue };
        if text.len() > MAX_NAME || text.chars().any(char::is_control) {
            return Err(format!("{field} must have at most {MAX_NAME} bytes and no control characters"));
        }
    }
    Ok(())
}

fn explicit_attrs(object: &Map<String, Value>) -> Result<(), String> {
    match object.get("explicitAttrs") {
        None | Some(Value::Bool(_) | Value::String(_)) => Ok(()),
        Some(_) => Err("explicitAttrs must be true, false or an expression".into()),
    }
}

fn attributes(device: &Map<String, Value>, list: &str, keys: Option<&[&str]>) -> Result<(), String> {
    let items = device.get(list).and_then(Value::as_array);
    for (index, item) in items.into_iter().flatten().filter_map(Value::as_object).enumerate() {
        let place = || format!("{list}[{index}]");
        if let Some(key) = keys.and_then(|keys| item.keys().find(|key| !keys.contains(&key.as_str()))) {
            return Err(format!("{}: unknown field {key:?}", place()));
        }
        for (field, forbidden) in [
            ("object_id", "<>();'=\""),
            ("name", "<>();'=\""),
            ("type", "<>();'=\""),
            ("entity_type", "<>;'=\""),
        ] {
            match item.get(field) {
                None => {}
                Some(Value::String(text)) if !text.contains(|c| forbidden.contains(c)) => {}
                Some(Value::String(_)) => {
                    return Err(format!("{}: {field} must not contain any of {forbidden}", place()));
                }
                Some(_) => return Err(format!("{}: {field} must be a string", place())),
            }
        }
        texts(item, &["expression", "entity_name"]).map_err(|error| format!("{}: {error}", place()))?;
        if list == "attributes" && item.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
            return Err(format!("{}: metadata must be an object", place()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device(value: Value) -> Result<(), String> {
        check_device(value.as_object().unwrap())
    }

    #[test]
    fn attribute_objects_hold_only_their_own_keys() {
        assert!(
            device(
                json!({"attributes": [{"object_id": "t", "name": "x", "type": "Number", "skipValue": 0}]})
            )
            .is_ok()
        );
        let error = device(json!({"attributes": [{"name": "a"}, {"name": "x", "reverse": []}]})).unwrap_err();
        assert_eq!(error, "attributes[1]: unknown field \"reverse\"");
        assert!(device(json!({"lazy": [{"name": "x", "expression": "y"}]})).is_err());
        assert!(device(json!({"static_attributes": [{"name": "x", "anything": 1}]})).is_ok());
    }

    #[test]
    fn forbidden_characters_are_refused() {
        for bad in ["a<", "a(", "a;", "a'", "a=", "a\""] {
            assert!(device(json!({"attributes": [{"name": bad}]})).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_types_are_refused() {
        for bad in [
            json!({"device_id": 1}),
            json!({"timestamp": "yes"}),
            json!({"attributes": {}}),
            json!({"attributes": [1]}),
            json!({"explicitAttrs": 1}),
            json!({"device_id": "a".repeat(257)}),
            json!({"device_id": "a\nb"}),
        ] {
            assert!(device(bad.clone()).is_err(), "{bad}");
        }
        assert!(check_group(json!({"apikey": "k", "resource": 5}).as_object().unwrap()).is_err());
        assert!(
            check_group(json!({"anything": [1], "cbroker": "http://orion:1026"}).as_object().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn only_known_fields_of_a_device_are_kept() {
        let given = json!({"device_id": "d", "service": "x", "timezone": "Europe/Zurich", "foo": 1, "endpoint": null});
        let body = device_body(given.as_object().unwrap().clone());
        assert_eq!(Value::from(body), json!({"timezone": "Europe/Zurich"}));
    }
}
