//! `${name}` in custom notifications.
//!
//! A macro is the plain name of an attribute, or `id`, `type`, `service`, `servicePath`; attributes win over the last two.
//! Anything else between the braces (an expression, an unknown name) is null: there is no expression language here yet.

use serde_json::{Map, Value};

use super::matching::ChangeView;
use crate::{Entity, render::shown_value};

/// What macros may name.
pub(super) struct Names<'a> {
    entity: &'a Entity,
    tenant: &'a str,
}

impl<'a> Names<'a> {
    pub(super) fn new(change: &ChangeView<'a>, tenant: &'a str) -> Self {
        Self { entity: change.entity, tenant }
    }

    fn get(&self, name: &str) -> Value {
        match name.trim() {
            "id" => Value::String(self.entity.id.clone()),
            "type" => Value::String(self.entity.entity_type.clone()),
            name => match (self.entity.attributes.get(name), name) {
                (Some(attribute), _) => shown_value(attribute).clone(),
                (None, "service") => Value::String(self.tenant.to_owned()),
                (None, "servicePath") => Value::String(self.entity.path.as_str().to_owned()),
                (None, _) => Value::Null,
            },
        }
    }

    /// Replaces the macros of a text: strings stand as they are, other values as JSON, null as `null`.
    pub(super) fn expand_text(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            out.push_str(before);
            match self.get(name) {
                Value::String(text) => out.push_str(&text),
                other => out.push_str(&other.to_string()),
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    /// Replaces the macros in a JSON template. A string that is one macro takes the value with its type.
    pub(super) fn expand_json(&self, template: &Value) -> Value {
        match template {
            Value::String(text) => match single_macro(text) {
                Some(name) => self.get(name),
                None => Value::String(self.expand_text(text)),
            },
            Value::Array(items) => Value::Array(items.iter().map(|item| self.expand_json(item)).collect()),
            Value::Object(object) => Value::Object(
                object
                    .iter()
                    .map(|(key, value)| (self.expand_text(key), self.expand_json(value)))
                    .collect::<Map<_, _>>(),
            ),
            other => other.clone(),
        }
    }
}

fn single_macro(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains('}')).then_some(name)
}

/// Whether a URL gets its scheme from a macro.
pub(super) fn begins_with_macro(text: &str) -> bool {
    text.strip_prefix("${").is_some_and(|rest| rest.contains('}'))
}

#[cfg(test)]
mod tests {
    use super::{
        super::matching::tests::{step, view},
        *,
    };
    use crate::UpdateAction;
    use proptest::prelude::*;
    use serde_json::json;

    fn with_names<T>(test: impl FnOnce(&Names<'_>) -> T) -> T {
        let mut slot = None;
        let body = json!({"n": {"value": 23}, "s": {"value": "hi"}, "o": {"value": {"k": [1]}}, "b": {"value": null}});
        let outcome = step(&mut slot, UpdateAction::Append, &body);
        test(&Names::new(&view(slot.as_ref().unwrap(), &outcome), "acme"))
    }

    #[test]
    fn texts_take_values_as_text() {
        for (template, expected) in [
            ("no macro", "no macro"),
            ("${id}/${type}/${service}${servicePath}", "E/T/acme/"),
            ("t=${n} ${s}", "t=23 hi"),
            ("${o}", r#"{"k":[1]}"#),
            ("${missing}${b}", "nullnull"),
            ("${n+1}", "null"),
            ("open ${n", "open ${n"),
            ("${ n }", "23"),
        ] {
            assert_eq!(with_names(|names| names.expand_text(template)), expected, "{template}");
        }
    }

    #[test]
    fn json_keeps_the_type_of_a_single_macro() {
        let template = json!({"a": "${n}", "b": ["${o}", "x${n}"], "c": "${missing}", "${s}": 1});
        let expected = json!({"a": 23, "b": [{"k": [1]}, "x23"], "c": null, "hi": 1});
        assert_eq!(with_names(|names| names.expand_json(&template)), expected);
    }

    proptest! {
        #[test]
        fn no_template_panics(template in "[${}a-c. ]{0,30}") {
            with_names(|names| {
                names.expand_text(&template);
                names.expand_json(&Value::String(template.clone()));
            });
        }
    }
}
