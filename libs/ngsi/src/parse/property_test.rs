//! Whatever a client sends: no panic, and what is accepted is shown so that it can be sent back.

use proptest::prelude::*;
use scope::ServicePath;
use serde_json::{Map, Value, json};

use super::{BodyFormat, batch, batch_query, entity, value_from_json, value_from_text};
use crate::{
    Entity, UpdateAction, UpdateOptions, WriteContext, apply,
    render::{Format, Selection, write_entity},
};

fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c:.$-]{0,4}", "[ -~]{0,6}", "\\PC{0,4}", Just("2026-01-31T10:00:00Z".to_owned())]
}

/// Keys that mean something, and others.
fn keys() -> impl Strategy<Value = String> {
    let known = [
        "id",
        "type",
        "value",
        "metadata",
        "$inc",
        "$set",
        "$each",
        "coordinates",
        "geometry",
        "actionType",
        "entities",
        "dateExpires",
        "expression",
        "q",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-c]{1,2}", texts()]
}

fn values() -> impl Strategy<Value = Value> {
    let types = ["DateTime", "geo:json", "geo:point", "TextUnrestricted", "Point", "Feature", "append"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        texts().prop_map(Value::String),
        prop::sample::select(types.to_vec()).prop_map(|name| json!(name)),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Bodies that are accepted more often than not.
fn entities() -> impl Strategy<Value = Value> {
    let attribute = (values(), prop::option::of("[A-Za-z]{1,5}")).prop_map(|(value, name)| match name {
        Some(name) => json!({"value": value, "type": name}),
        None => json!({"value": value, "metadata": {"m": {"value": 1}}}),
    });
    prop::collection::btree_map("[a-d]{1,2}", attribute, 0..5).prop_map(|attributes| {
        let mut body = json!({"id": "E", "type": "T"});
        for (name, attribute) in attributes {
            body[name] = attribute;
        }
        body
    })
}

fn create(body: &[u8], format: BodyFormat) -> Option<Entity> {
    let request = entity(body, format).ok()?;
    let mut slot = None;
    let context = WriteContext { path: &ServicePath::root(), now_us: 1 };
    apply(&mut slot, &request, UpdateAction::Create, UpdateOptions::default(), context).ok()?;
    slot
}

fn shown(entity: &Entity) -> Vec<u8> {
    let mut out = Vec::new();
    write_entity(&mut out, entity, &Selection::default(), Format::Normalized);
    out
}

proptest! {
    #[test]
    fn no_body_makes_a_parser_panic(value in values(), text in texts()) {
        for body in [value.to_string(), text] {
            let body = body.as_bytes();
            for format in [BodyFormat::Normalized, BodyFormat::KeyValues] {
                let _entity = create(body, format);
                let _batch = batch(body, format);
            }
            let _query = batch_query(body);
            let _values = (value_from_json("a", body), value_from_text("a", body));
        }
    }

    #[test]
    fn what_is_shown_can_be_sent_back(body in entities()) {
        if let Some(entity) = create(body.to_string().as_bytes(), BodyFormat::Normalized) {
            let again = create(&shown(&entity), BodyFormat::Normalized);
            prop_assert_eq!(again.map(|e| e.attributes), Some(entity.attributes));
        }
    }

    #[test]
    fn an_attribute_survives_its_stored_form(body in entities()) {
        if let Some(entity) = create(body.to_string().as_bytes(), BodyFormat::Normalized) {
            let stored = serde_json::to_string(&entity.attributes).unwrap();
            prop_assert_eq!(serde_json::from_str::<crate::Attributes>(&stored).unwrap(), entity.attributes);
        }
    }
}
