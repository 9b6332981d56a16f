//! `${expression}` in custom notifications, and `jexlExpression`: JEXL over the changed entity.
//!
//! Names: `id`, `type`, `metadata`, the attributes, then `service`, `servicePath` and `authToken` (attributes win over these
//! three).

use std::borrow::Cow;

use jexl::{Dialect, JsonTemplate, Moment, Template};
use serde_json::{Map, Value, json};

use super::{encoding::percent_decode, matching::ChangeView};
use crate::{Attribute, Entity, render::shown_value, time};

/// A text with macros, beside it as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct MacroText {
    source: String,
    template: Template,
}

impl Default for MacroText {
    fn default() -> Self {
        Self::parse("")
    }
}

impl MacroText {
    pub(super) fn parse(source: &str) -> Self {
        Self { source: source.to_owned(), template: Template::parse(source, Dialect::Broker) }
    }

    /// Forbidden characters come percent-encoded; the template is what they stand for.
    pub(super) fn parse_encoded(source: &str) -> Self {
        let template = Template::parse(&percent_decode(source), Dialect::Broker);
        Self { source: source.to_owned(), template }
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether one of these characters stands in it outside of macros.
    pub(super) fn has_literal(&self, characters: &[char]) -> bool {
        self.template.literals().any(|text| text.contains(characters))
    }

    pub fn has_macros(&self) -> bool {
        self.template.has_macros()
    }

    pub(super) fn text(&self, context: &Context<'_>) -> String {
        self.template.text(context, context.now)
    }
}

/// A JSON value with macros, beside it as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct MacroJson {
    source: Value,
    template: JsonTemplate,
}

impl MacroJson {
    pub(super) fn parse(source: &Value) -> Self {
        Self { source: source.clone(), template: JsonTemplate::parse(source, Dialect::Broker) }
    }

    pub fn source(&self) -> &Value {
        &self.source
    }

    pub(super) fn value(&self, context: &Context<'_>) -> Value {
        self.template.value(context, context.now)
    }
}

/// `condition.jexlExpression`. A text that is no expression is accepted, as the original accepts it, and never true.
#[derive(Clone, Debug, PartialEq)]
pub struct JexlCondition {
    source: String,
    expression: Option<jexl::Expression>,
}

impl JexlCondition {
    pub(super) fn parse(source: &str) -> Self {
        let expression = jexl::Expression::parse(source, Dialect::Broker).ok();
        Self { source: source.to_owned(), expression }
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the text is an expression.
    pub fn is_expression(&self) -> bool {
        self.expression.is_some()
    }

    pub(super) fn holds(&self, change: &ChangeView<'_>) -> bool {
        let context = Context::new(change, "", "");
        let value = self.expression.as_ref().map(|own| own.evaluate(&context, context.now));
        value == Some(Value::Bool(true))
    }
}

/// What expressions see.
pub(super) struct Context<'a> {
    entity: &'a Entity,
    change: ChangeView<'a>,
    tenant: &'a str,
    auth_token: &'a str,
    now: Moment,
}

impl<'a> Context<'a> {
    pub(super) fn new(change: &ChangeView<'a>, tenant: &'a str, auth_token: &'a str) -> Self {
        let now = Moment::from_micros(change.at_us);
        Self { entity: change.entity, change: *change, tenant, auth_token, now }
    }

    fn metadata(&self) -> Value {
        let attributes = self.entity.attributes.iter();
        Value::Object(attributes.map(|(name, one)| (name.clone(), self.metadata_of(name, one))).collect())
    }

    /// The builtin metadata first: a user's own of the same name win.
    fn metadata_of(&self, name: &str, attribute: &Attribute) -> Value {
        let mut all = Map::new();
        if attribute.created_us > 0 {
            all.insert("dateCreated".to_owned(), json!(time::format_us(attribute.created_us)));
            all.insert("dateModified".to_owned(), json!(time::format_us(attribute.modified_us)));
        }
        let is = |names: &[String]| names.iter().any(|own| own == name);
        if is(self.change.updated) {
            let previous = match self.change.previous.get(name) {
                Some(before) => Some(before),
                None if is(self.change.changed) => None,
                None => Some(attribute),
            };
            let action = if previous.is_some() { "update" } else { "append" };
            all.insert("actionType".to_owned(), json!(action));
            if let Some(previous) = previous {
                all.insert("previousValue".to_owned(), shown_value(previous).clone());
            }
        }
        all.extend(attribute.metadata.iter().map(|(name, own)| (name.clone(), own.value.clone())));
        Value::Object(all)
    }
}

impl jexl::Names for Context<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, Value>> {
        let text = |text: &str| Some(Cow::Owned(Value::String(text.to_owned())));
        match name {
            "id" => text(&self.entity.id),
            "type" => text(&self.entity.entity_type),
            "metadata" => Some(Cow::Owned(self.metadata())),
            name => match (self.entity.attributes.get(name), name) {
                (Some(attribute), _) => Some(Cow::Borrowed(shown_value(attribute))),
                (None, "service") => text(self.tenant),
                (None, "servicePath") => text(self.entity.path.as_str()),
                (None, "authToken") => text(self.auth_token),
                (None, _) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::matching::tests::{step, view},
        *,
    };
    use crate::UpdateAction;
    use proptest::prelude::*;

    fn with_context<T>(test: impl FnOnce(&Context<'_>) -> T) -> T {
        let mut slot = None;
        step(&mut slot, UpdateAction::Append, &json!({"n": {"value": 22}}));
        let body = json!({
            "n": {"value": 23, "metadata": {"unit": {"value": "C"}}}, "s": {"value": "hi"},
            "o": {"value": {"k": [1]}}, "b": {"value": null}, "service": {"value": "own"}
        });
        let outcome = step(&mut slot, UpdateAction::Append, &body);
        test(&Context::new(&view(slot.as_ref().unwrap(), &outcome), "acme", "secret"))
    }

    #[test]
    fn texts_take_the_values_of_expressions() {
        for (template, expected) in [
            ("no macro", "no macro"),
            ("${id}/${type}/${service}${servicePath}/${authToken}", "E/T/own//secret"),
            ("t=${n} ${s}", "t=23 hi"),
            ("${o}", r#"{"k":[1]}"#),
            ("${missing}${b}", "nullnull"),
            ("${n+1} ${s|uppercase} ${missing||0}", "24 HI 0"),
            ("${metadata.n.previousValue} ${metadata.n.unit} ${metadata.n.actionType}", "22 C update"),
            ("${metadata.s.actionType} ${metadata.s.previousValue}", "append null"),
            ("open ${n", "open ${n"),
            ("${ n }", "23"),
        ] {
            let text = with_context(|context| MacroText::parse(template).text(context));
            assert_eq!(text, expected, "{template}");
        }
    }

    #[test]
    fn json_keeps_the_type_of_a_single_macro() {
        let template =
            MacroJson::parse(&json!({"a": "${n}", "b": ["${o}", "x${n}"], "c": "${missing}", "${s}": 1}));
        let expected = json!({"a": 23, "b": [{"k": [1]}, "x23"], "c": null, "hi": 1});
        assert_eq!(with_context(|context| template.value(context)), expected);
    }

    #[test]
    fn encoded_texts_are_decoded_before_their_macros_are_read() {
        let text = MacroText::parse_encoded("%24{s|substring%280,1%29}%22");
        assert_eq!(with_context(|context| text.text(context)), "h\"");
        assert_eq!(text.as_str(), "%24{s|substring%280,1%29}%22");
    }

    #[test]
    fn a_condition_holds_only_when_it_is_true() {
        let mut slot = None;
        step(&mut slot, UpdateAction::Append, &json!({"n": {"value": 1}}));
        let outcome = step(&mut slot, UpdateAction::Append, &json!({"n": {"value": 5}}));
        let change = view(slot.as_ref().unwrap(), &outcome);
        for (condition, expected) in [
            ("n > 3", true),
            ("n > 5", false),
            ("n - metadata.n.previousValue > 3", true),
            ("id == 'E' && type == 'T'", true),
            ("n", false),
            ("missing > 1", false),
            ("((", false),
        ] {
            assert_eq!(JexlCondition::parse(condition).holds(&change), expected, "{condition}");
        }
    }

    proptest! {
        #[test]
        fn no_template_panics(template in "[${}a-c.|()'%2 ]{0,30}") {
            with_context(|context| {
                MacroText::parse_encoded(&template).text(context);
                MacroJson::parse(&Value::String(template.clone())).value(context);
            });
        }
    }
}
