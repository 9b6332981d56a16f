use serde_json::{Map, Value};

use super::attribute::is_plain_entity_id;

/// Expressions of a group or device on which a measure would depend, as places such as `attributes[2].expression`: never
/// their text. They are stored but not evaluated yet.
pub(crate) fn expressions_in(body: &Map<String, Value>) -> Vec<String> {
    let is_text = |field: &str| body.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let mut places = Vec::new();
    for field in ["entityNameExp", "explicitAttrs"] {
        if is_text(field) {
            places.push(field.to_owned());
        }
    }
    for list in ["attributes", "static_attributes"] {
        let items = body.get(list).and_then(Value::as_array);
        for (index, item) in items.into_iter().flatten().enumerate() {
            let fields = expressions_of(item);
            places.extend(fields.into_iter().map(|field| format!("{list}[{index}].{field}")));
        }
    }
    places
}

fn expressions_of(item: &Value) -> Vec<&'static str> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let metadata = item.get("metadata").and_then(Value::as_object);
    let of_metadata =
        metadata.is_some_and(|all| all.values().any(|metadatum| metadatum.get("expression").is_some()));
    let found = [
        ("expression", text("expression").is_some()),
        ("entity_name", text("entity_name").is_some_and(|name| !is_plain_entity_id(name))),
        ("metadata", of_metadata),
    ];
    found.into_iter().filter(|(_, is_there)| *is_there).map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_found_wherever_a_measure_would_depend_on_them() {
        let body = json!({
            "entityNameExp": "'x' + id",
            "explicitAttrs": "['a']",
            "attributes": [
                {"name": "a"},
                {"name": "b", "expression": "b * 2", "entity_name": "'Room:' + id"},
                {"name": "c", "metadata": {"m": {"type": "Number", "expression": "c"}}},
            ],
            "static_attributes": [{"name": "s", "metadata": {"m": {"expression": "a"}}}],
        });
        let expected = [
            "entityNameExp",
            "explicitAttrs",
            "attributes[1].expression",
            "attributes[1].entity_name",
            "attributes[2].metadata",
            "static_attributes[0].metadata",
        ];
        assert_eq!(expressions_in(body.as_object().unwrap()), expected);
    }

    #[test]
    fn plain_names_and_values_are_no_expressions() {
        let body = json!({
            "explicitAttrs": true,
            "attributes": [
                {"name": "a", "entity_name": "Room:1", "expression": "", "metadata": {"unit": {"value": "C"}}},
            ],
            "commands": [{"name": "ping", "expression": "x"}],
        });
        assert!(expressions_in(body.as_object().unwrap()).is_empty());
    }
}
