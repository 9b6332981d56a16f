use jexl::{Budget, Dialect, Expression, Moment};
use serde_json::{Map, Value};

use super::attribute::is_plain_entity_id;

/// Gives an attribute its value (iot-agent 3). One that cannot be read has the value null, as one that fails.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttributeExpression(Option<Expression>);

impl AttributeExpression {
    pub(crate) fn read(text: &str) -> Self {
        Self(Expression::parse(text, Dialect::Agent).ok())
    }

    pub(crate) fn evaluate(&self, names: &Map<String, Value>, now: Moment, budget: &mut Budget) -> Value {
        let value = self.0.as_ref().and_then(|read| read.evaluate_within(names, now, budget).ok());
        value.unwrap_or_default()
    }
}

/// Expressions of a group or device on which a measure would depend but does not, because they stand where none is evaluated
/// yet or cannot be read: as places such as `attributes[2].expression`, never their text.
pub(crate) fn idle_expressions(body: &Map<String, Value>) -> Vec<String> {
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
            let fields = idle_of(item);
            places.extend(fields.into_iter().map(|field| format!("{list}[{index}].{field}")));
        }
    }
    places
}

fn idle_of(item: &Value) -> Vec<&'static str> {
    let text = |field: &str| item.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let metadata = item.get("metadata").and_then(Value::as_object);
    let of_metadata =
        metadata.is_some_and(|all| all.values().any(|metadatum| metadatum.get("expression").is_some()));
    let found = [
        ("expression", text("expression").is_some_and(|text| AttributeExpression::read(text).0.is_none())),
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
    fn expressions_are_found_wherever_none_is_evaluated_and_where_they_cannot_be_read() {
        let body = json!({
            "entityNameExp": "'x' + id",
            "explicitAttrs": "['a']",
            "attributes": [
                {"name": "a"},
                {"name": "b", "expression": "b * ", "entity_name": "'Room:' + id"},
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
        assert_eq!(idle_expressions(body.as_object().unwrap()), expected);
    }

    #[test]
    fn plain_names_and_values_and_expressions_that_can_be_read_are_not_found() {
        let body = json!({
            "explicitAttrs": true,
            "attributes": [
                {"name": "a", "entity_name": "Room:1", "expression": "", "metadata": {"unit": {"value": "C"}}},
                {"name": "b", "expression": "b * 2"},
            ],
            "commands": [{"name": "ping", "expression": "x"}],
        });
        assert!(idle_expressions(body.as_object().unwrap()).is_empty());
    }
}
