//! Does a change trigger a subscription?

use super::model::{Condition, SubjectEntity, Subscription};
use crate::{Alteration, Attributes, Entity};

/// A committed change, as an event tells it.
#[derive(Clone, Copy, Debug)]
pub struct ChangeView<'a> {
    /// After the change; before it, for a delete.
    pub entity: &'a Entity,
    pub alteration: Alteration,
    /// Attributes that the request wrote.
    pub updated: &'a [String],
    /// Those of them that differ.
    pub changed: &'a [String],
    pub removed: &'a [String],
    /// What changed and removed attributes were.
    pub previous: &'a Attributes,
    /// When it was committed, microseconds since 1970.
    pub at_us: i64,
}

impl Subscription {
    /// Whether `change` triggers it. Status, expiry and the service path are the caller's business.
    pub fn matches(&self, change: &ChangeView<'_>) -> bool {
        let entity = change.entity;
        let condition = &self.subject.condition;
        self.subject.entities.iter().any(|own| own.matches(&entity.id, &entity.entity_type))
            && condition.is_triggered(change)
            && condition.q.as_ref().is_none_or(|q| q.matches(entity))
            && condition.mq.as_ref().is_none_or(|mq| mq.matches(entity))
            && condition.geo.as_ref().is_none_or(|geo| geo.query.matches(entity))
            && condition.jexl.as_ref().is_none_or(|jexl| jexl.holds(change))
    }
}

impl SubjectEntity {
    pub fn matches(&self, id: &str, entity_type: &str) -> bool {
        self.id.as_deref().is_none_or(|own| own == id)
            && self.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
            && self.entity_type.as_deref().is_none_or(|own| own == entity_type)
            && self.type_pattern.as_ref().is_none_or(|pattern| pattern.is_match(entity_type))
    }
}

impl Condition {
    fn is_triggered(&self, change: &ChangeView<'_>) -> bool {
        let wants = |kind| match &self.alteration_types {
            Some(kinds) => kinds.contains(&kind),
            None => matches!(kind, Alteration::Create | Alteration::Change),
        };
        match change.alteration {
            Alteration::Delete => wants(Alteration::Delete),
            Alteration::Create => wants(Alteration::Create) && self.names_any(change.updated.iter()),
            Alteration::Change | Alteration::Update => {
                let on_update =
                    wants(Alteration::Update) && self.names_any(change.updated.iter().chain(change.removed));
                on_update || (wants(Alteration::Change) && self.has_change(change))
            }
        }
    }

    fn has_change(&self, change: &ChangeView<'_>) -> bool {
        let counts =
            |name: &&String| self.notify_on_metadata_change || !differs_in_metadata_only(change, name);
        let mut changed = change.changed.iter().filter(counts).chain(change.removed).peekable();
        changed.peek().is_some() && self.names_any(changed)
    }

    /// Whether one of `names` is a trigger; without a list of triggers anything is, also nothing.
    fn names_any<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        self.attrs.is_empty() || names.any(|name| self.attrs.contains(name))
    }
}

fn differs_in_metadata_only(change: &ChangeView<'_>, name: &str) -> bool {
    let (Some(before), Some(after)) = (change.previous.get(name), change.entity.attributes.get(name)) else {
        return false;
    };
    before.value == after.value
        && before.attribute_type == after.attribute_type
        && before.metadata != after.metadata
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{AttributeUpdates, EntityUpdate, Outcome, UpdateAction, UpdateOptions, WriteContext, parse};
    use serde_json::{Value, json};

    pub(in super::super) fn subscription(subject: &Value, notification: &Value) -> Subscription {
        let mut notification = notification.clone();
        let custom = ["httpCustom", "mqtt", "mqttCustom", "kafka", "kafkaCustom"];
        if !custom.iter().any(|name| notification.get(name).is_some()) {
            notification["http"] = json!({"url": "http://sink/in"});
        }
        let body = json!({"subject": subject, "notification": notification});
        Subscription::parse(&serde_json::to_vec(&body).unwrap()).unwrap()
    }

    pub(in super::super) fn step(slot: &mut Option<Entity>, action: UpdateAction, body: &Value) -> Outcome {
        let attributes = match body.as_object() {
            Some(object) if !object.is_empty() => {
                parse::attributes(&serde_json::to_vec(body).unwrap(), parse::BodyFormat::Normalized).unwrap()
            }
            _ => AttributeUpdates::new(),
        };
        let request = EntityUpdate { id: "E".to_owned(), entity_type: Some("T".to_owned()), attributes };
        let context = WriteContext { path: &scope::ServicePath::root(), now_us: 1_000_000 };
        crate::apply(slot, &request, action, UpdateOptions::default(), context).unwrap()
    }

    pub(in super::super) fn view<'a>(entity: &'a Entity, outcome: &'a Outcome) -> ChangeView<'a> {
        ChangeView {
            entity,
            alteration: outcome.alteration.unwrap(),
            updated: &outcome.updated,
            changed: &outcome.changed,
            removed: &outcome.removed,
            previous: &outcome.previous,
            at_us: 1_000_000,
        }
    }

    /// Which of create, change, update without change, change of metadata, delete trigger it.
    fn triggers(subject: &Value) -> String {
        let subscription = subscription(subject, &json!({}));
        let mut slot = None;
        let mut fired = String::new();
        for (letter, action, body) in [
            ('C', UpdateAction::Append, json!({"a": {"value": 1}, "b": {"value": 1}})),
            ('c', UpdateAction::Update, json!({"a": {"value": 2}})),
            ('u', UpdateAction::Update, json!({"a": {"value": 2}})),
            ('m', UpdateAction::Update, json!({"a": {"value": 2, "metadata": {"m": {"value": 1}}}})),
            ('r', UpdateAction::Delete, json!({"a": {}})),
            ('D', UpdateAction::Delete, json!({})),
        ] {
            let mut outcome = step(&mut slot, action, &body);
            let deleted = outcome.deleted.take();
            let entity = slot.as_ref().or(deleted.as_ref()).unwrap();
            if subscription.matches(&view(entity, &outcome)) {
                fired.push(letter);
            }
        }
        fired
    }

    #[test]
    fn alteration_types_and_attributes_decide() {
        let entities = json!([{"idPattern": ".*"}]);
        for (condition, expected) in [
            (None, "Ccmr"),
            (Some(json!({"attrs": ["a"]})), "Ccmr"),
            (Some(json!({"attrs": ["b"]})), "C"),
            (Some(json!({"attrs": ["zzz"]})), ""),
            (Some(json!({"alterationTypes": ["entityCreate"]})), "C"),
            (Some(json!({"alterationTypes": ["entityChange"]})), "cmr"),
            (Some(json!({"alterationTypes": ["entityUpdate"]})), "cumr"),
            (Some(json!({"alterationTypes": ["entityDelete"], "attrs": ["zzz"]})), "D"),
            (Some(json!({"notifyOnMetadataChange": false})), "Ccr"),
            (Some(json!({"expression": {"q": "a==1"}})), "C"),
            (Some(json!({"expression": {"mq": "a.m==1"}})), "m"),
            (Some(json!({"jexlExpression": "a == 1 && b == 1"})), "C"),
            (Some(json!({"jexlExpression": "metadata.a.previousValue == 1"})), "c"),
        ] {
            let subject = match &condition {
                Some(condition) => json!({"entities": entities, "condition": condition}),
                None => json!({"entities": entities}),
            };
            assert_eq!(triggers(&subject), expected, "{condition:?}");
        }
    }

    #[test]
    fn entities_match_by_id_type_and_pattern() {
        for (entity, expected) in [
            (json!({"id": "E"}), true),
            (json!({"id": "F"}), false),
            (json!({"idPattern": "^E"}), true),
            (json!({"idPattern": ".*", "type": "T"}), true),
            (json!({"idPattern": ".*", "type": "U"}), false),
            (json!({"idPattern": ".*", "typePattern": "^[ST]$"}), true),
        ] {
            let subscription = subscription(&json!({"entities": [entity]}), &json!({}));
            let mut slot = None;
            let outcome = step(&mut slot, UpdateAction::Append, &json!({"a": {"value": 1}}));
            assert_eq!(subscription.matches(&view(slot.as_ref().unwrap(), &outcome)), expected, "{entity}");
        }
    }
}
