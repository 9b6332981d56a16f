//! What a notification says about the entity: which attributes, in which format.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Map, Value};

use super::{
    matching::ChangeView,
    model::{AttrsFormat, NotificationSpec, Subscription},
};
use crate::{
    Attribute, MetadataMap,
    model::DATE_EXPIRES,
    render::{
        AttributeExtras, Names, entity_builtin, shown_value, write_attribute, write_string, write_value,
    },
};

/// The attributes of a notification, in the order in which they are sent.
pub(super) type Content<'a> = Vec<(Cow<'a, str>, Cow<'a, Attribute>)>;

impl Subscription {
    /// The attributes that a notification of `change` carries, as a JSON object of normalized attributes.
    pub fn notified_attributes(&self, change: &ChangeView<'_>) -> Map<String, Value> {
        let attributes = select(&self.notification, change);
        attributes
            .into_iter()
            .map(|(name, attribute)| {
                let metadata: Map<String, Value> = attribute
                    .metadata
                    .iter()
                    .map(|(name, m)| {
                        (name.clone(), serde_json::json!({"type": m.metadata_type, "value": m.value}))
                    })
                    .collect();
                let body = serde_json::json!({
                    "type": attribute.attribute_type,
                    "value": shown_value(&attribute),
                    "metadata": metadata,
                });
                (name.into_owned(), body)
            })
            .collect()
    }
}

pub(super) fn select<'a>(spec: &'a NotificationSpec, change: &ChangeView<'a>) -> Content<'a> {
    let changed: HashSet<&str> = if spec.only_changed_attrs {
        change.changed.iter().map(String::as_str).collect()
    } else {
        HashSet::new()
    };
    let sent = |name: &str| !spec.only_changed_attrs || changed.contains(name);
    let user = |name: &str| name != DATE_EXPIRES;
    let all = || change.entity.attributes.iter().filter(|(name, _)| user(name) && sent(name));
    let borrowed = |(name, attribute): (&'a String, &'a Attribute)| {
        (Cow::Borrowed(name.as_str()), Cow::Borrowed(attribute))
    };
    if spec.attrs.is_empty() {
        return all().filter(|(name, _)| !spec.except_attrs.contains(name)).map(borrowed).collect();
    }
    let mut content = Content::with_capacity(spec.attrs.len());
    for name in &spec.attrs {
        if name == "*" {
            content.extend(all().filter(|(name, _)| !spec.attrs.contains(name)).map(borrowed));
            continue;
        }
        let found = change.entity.attributes.get(name);
        match (found, builtin(name, change)) {
            (Some(attribute), _) if sent(name) => content.push(borrowed((name, attribute))),
            (Some(_), _) => {}
            (None, Some(attribute)) => content.push((Cow::Borrowed(name.as_str()), Cow::Owned(attribute))),
            (None, None) if spec.covered => {
                content.push((Cow::Borrowed(name.as_str()), Cow::Owned(nothing())))
            }
            (None, None) => {}
        }
    }
    content
}

fn builtin(name: &str, change: &ChangeView<'_>) -> Option<Attribute> {
    if name != "alterationType" {
        return entity_builtin(change.entity, name);
    }
    Some(Attribute {
        attribute_type: "Text".to_owned(),
        value: Value::String(change.alteration.as_str().to_owned()),
        metadata: MetadataMap::new(),
        created_us: 0,
        modified_us: 0,
    })
}

/// What stands for a covered attribute that the entity lacks.
fn nothing() -> Attribute {
    Attribute {
        attribute_type: "None".to_owned(),
        value: Value::Null,
        metadata: MetadataMap::new(),
        created_us: 0,
        modified_us: 0,
    }
}

/// Whose content it is.
pub(super) struct Heading<'a> {
    pub(super) subscription_id: &'a str,
    pub(super) entity_id: &'a str,
    pub(super) entity_type: &'a str,
}

/// The body of an ordinary notification.
pub(super) fn body(
    heading: &Heading<'_>,
    content: &Content<'_>,
    format: AttrsFormat,
    metadata: &[String],
    change: &ChangeView<'_>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let simplified = matches!(format, AttrsFormat::SimplifiedNormalized | AttrsFormat::SimplifiedKeyValues);
    if !simplified {
        out.extend_from_slice(b"{\"subscriptionId\":");
        write_string(&mut out, heading.subscription_id);
        out.extend_from_slice(b",\"data\":[");
    }
    match format {
        AttrsFormat::Values => values(&mut out, content),
        AttrsFormat::KeyValues | AttrsFormat::SimplifiedKeyValues => {
            entity(&mut out, heading, content, |out, _, attribute| write_value(out, shown_value(attribute)));
        }
        AttrsFormat::Normalized | AttrsFormat::SimplifiedNormalized => {
            let names = Names::listed(metadata.to_vec());
            let told = Told::new(&names, change);
            entity(&mut out, heading, content, |out, name, attribute| {
                write_attribute(out, attribute, &names, told.extras(name, attribute, change));
            });
        }
    }
    if !simplified {
        out.extend_from_slice(b"]}");
    }
    out
}

fn values(out: &mut Vec<u8>, content: &Content<'_>) {
    out.push(b'[');
    for (at, (_, attribute)) in content.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_value(out, shown_value(attribute));
    }
    out.push(b']');
}

fn entity(
    out: &mut Vec<u8>,
    heading: &Heading<'_>,
    content: &Content<'_>,
    mut write: impl FnMut(&mut Vec<u8>, &str, &Attribute),
) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, heading.entity_id);
    out.extend_from_slice(b",\"type\":");
    write_string(out, heading.entity_type);
    for (name, attribute) in content {
        out.push(b',');
        write_string(out, name);
        out.push(b':');
        write(out, name, attribute);
    }
    out.push(b'}');
}

/// The attributes for which `previousValue` and `actionType` can be told; empty when nobody asks.
struct Told<'a> {
    updated: HashSet<&'a str>,
    changed: HashSet<&'a str>,
}

impl<'a> Told<'a> {
    fn new(metadata: &Names, change: &ChangeView<'a>) -> Self {
        let asked = metadata.names_builtin("previousValue") || metadata.names_builtin("actionType");
        let set = |names: &'a [String]| names.iter().filter(|_| asked).map(String::as_str).collect();
        Self { updated: set(change.updated), changed: set(change.changed) }
    }

    fn extras<'b>(
        &self,
        name: &str,
        attribute: &'b Attribute,
        change: &ChangeView<'b>,
    ) -> AttributeExtras<'b> {
        if !self.updated.contains(name) {
            return AttributeExtras::default();
        }
        let previous = match change.previous.get(name) {
            Some(before) => Some(before),
            None if self.changed.contains(name) => None,
            None => Some(attribute),
        };
        AttributeExtras { previous, action_type: Some(if previous.is_some() { "update" } else { "append" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::matching::tests::{step, subscription, view},
        *,
    };
    use crate::UpdateAction;
    use serde_json::json;

    /// The body after `level` went from 3 to 4 while `name` was written unchanged.
    fn sent(notification: Value) -> String {
        let subject = json!({"entities": [{"idPattern": ".*"}]});
        let subscription = subscription(&subject, &notification);
        let mut slot = None;
        step(
            &mut slot,
            UpdateAction::Append,
            &json!({"level": {"value": 3}, "name": {"value": "a"}, "other": {"value": true}}),
        );
        let outcome = step(
            &mut slot,
            UpdateAction::Append,
            &json!({"level": {"value": 4}, "name": {"value": "a"}, "new": {"value": 1}}),
        );
        let change = view(slot.as_ref().unwrap(), &outcome);
        let heading = Heading { subscription_id: "5", entity_id: "E", entity_type: "T" };
        let spec = &subscription.notification;
        let content = select(spec, &change);
        String::from_utf8(body(&heading, &content, spec.attrs_format, &spec.metadata, &change)).unwrap()
    }

    #[test]
    fn the_five_formats() {
        let attrs = json!(["level"]);
        for (format, expected) in [
            (
                "normalized",
                r#"{"subscriptionId":"5","data":[{"id":"E","type":"T","level":{"type":"Number","value":4,"metadata":{}}}]}"#,
            ),
            ("keyValues", r#"{"subscriptionId":"5","data":[{"id":"E","type":"T","level":4}]}"#),
            ("values", r#"{"subscriptionId":"5","data":[[4]]}"#),
            (
                "simplifiedNormalized",
                r#"{"id":"E","type":"T","level":{"type":"Number","value":4,"metadata":{}}}"#,
            ),
            ("simplifiedKeyValues", r#"{"id":"E","type":"T","level":4}"#),
        ] {
            assert_eq!(sent(json!({"attrs": attrs, "attrsFormat": format})), expected);
        }
    }

    #[test]
    fn attributes_are_chosen_as_the_fields_say() {
        for (notification, expected) in [
            (json!({}), r#""level":4,"name":"a","other":true,"new":1"#),
            (json!({"exceptAttrs": ["name", "new"]}), r#""level":4,"other":true"#),
            (json!({"onlyChangedAttrs": true}), r#""level":4,"new":1"#),
            (json!({"attrs": ["name", "level"], "onlyChangedAttrs": true}), r#""level":4"#),
            (json!({"attrs": ["missing", "level"], "covered": true}), r#""missing":null,"level":4"#),
            (
                json!({"attrs": ["alterationType", "dateModified", "name"], "onlyChangedAttrs": true}),
                r#""alterationType":"entityChange","dateModified":"1970-01-01T00:00:01.000Z""#,
            ),
            (json!({"attrs": ["new", "*"]}), r#""new":1,"level":4,"name":"a","other":true"#),
        ] {
            let mut notification = notification;
            notification["attrsFormat"] = json!("simplifiedKeyValues");
            assert_eq!(
                sent(notification.clone()),
                format!(r#"{{"id":"E","type":"T",{expected}}}"#),
                "{notification}"
            );
        }
    }

    #[test]
    fn metadata_tell_what_was_before() {
        let body =
            sent(json!({"metadata": ["previousValue", "actionType"], "attrsFormat": "simplifiedNormalized"}));
        assert_eq!(
            body,
            concat!(
                r#"{"id":"E","type":"T","#,
                r#""level":{"type":"Number","value":4,"metadata":{"previousValue":{"type":"Number","value":3},"actionType":{"type":"Text","value":"update"}}},"#,
                r#""name":{"type":"Text","value":"a","metadata":{"previousValue":{"type":"Text","value":"a"},"actionType":{"type":"Text","value":"update"}}},"#,
                r#""other":{"type":"Boolean","value":true,"metadata":{}},"#,
                r#""new":{"type":"Number","value":1,"metadata":{"actionType":{"type":"Text","value":"append"}}}}"#
            )
        );
    }
}
