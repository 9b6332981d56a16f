//! What `apply` does, against a map of names to numbers that knows the rules in one line each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use scope::ServicePath;
use serde_json::json;

use super::*;
use crate::{Failed, parse};

const NOW: i64 = 5_000_000;

fn run(slot: &mut Option<Entity>, action: UpdateAction, body: &str) -> Result<Outcome, Error> {
    let attributes = if body == "{}" {
        AttributeUpdates::new()
    } else {
        parse::attributes(body.as_bytes(), parse::BodyFormat::Normalized)?
    };
    let request = EntityUpdate { id: "E".to_owned(), entity_type: Some("T".to_owned()), attributes };
    let context = WriteContext { path: &ServicePath::root(), now_us: NOW };
    apply(slot, &request, action, UpdateOptions::default(), context)
}

fn with(body: &str) -> Option<Entity> {
    let mut slot = None;
    run(&mut slot, UpdateAction::Append, body).unwrap();
    slot
}

fn value(slot: &Option<Entity>, name: &str) -> serde_json::Value {
    slot.as_ref().unwrap().attributes[name].value.clone()
}

#[test]
fn metadata_is_merged_by_name_and_an_empty_object_keeps_it() {
    let mut slot = with(r#"{"a":{"value":1,"metadata":{"m":{"value":1},"n":{"value":2}}}}"#);
    run(&mut slot, UpdateAction::Update, r#"{"a":{"value":1,"metadata":{"m":{"value":5}}}}"#).unwrap();
    run(&mut slot, UpdateAction::Update, r#"{"a":{"value":2,"metadata":{}}}"#).unwrap();
    let metadata = &slot.as_ref().unwrap().attributes["a"].metadata;
    assert_eq!(metadata["m"].value, json!(5));
    assert_eq!(metadata["n"].value, json!(2));
}

#[test]
fn the_type_is_derived_again_unless_sent_but_put_value_keeps_it() {
    let mut slot = with(r#"{"a":{"value":1,"type":"Num"}}"#);
    let kept = parse::value_from_text("a", b"6").unwrap();
    let request = EntityUpdate {
        id: "E".to_owned(),
        entity_type: None,
        attributes: [("a".to_owned(), kept)].into_iter().collect(),
    };
    let context = WriteContext { path: &ServicePath::root(), now_us: NOW };
    apply(&mut slot, &request, UpdateAction::Update, UpdateOptions::default(), context).unwrap();
    assert_eq!(slot.as_ref().unwrap().attributes["a"].attribute_type, "Num");
    run(&mut slot, UpdateAction::Update, r#"{"a":{"value":6}}"#).unwrap();
    assert_eq!(slot.as_ref().unwrap().attributes["a"].attribute_type, "Number");
}

#[test]
fn put_value_keeps_the_type_also_of_what_an_operator_makes() {
    for (before, operator, kept) in [
        (r#"{"a":{"value":0}}"#, r#"{"$max":"x"}"#, "Number"),
        (r#"{"a":{"value":0,"type":"Num"}}"#, r#"{"$max":"x"}"#, "Num"),
    ] {
        let mut slot = with(before);
        let update = parse::value_from_json("a", operator.as_bytes()).unwrap();
        let request = EntityUpdate {
            id: "E".to_owned(),
            entity_type: None,
            attributes: [("a".to_owned(), update)].into_iter().collect(),
        };
        let context = WriteContext { path: &ServicePath::root(), now_us: NOW };
        apply(&mut slot, &request, UpdateAction::Update, UpdateOptions::default(), context).unwrap();
        assert_eq!(slot.unwrap().attributes["a"].attribute_type, kept, "{before} {operator}");
    }
    let mut slot = with(r#"{"a":{"value":0}}"#);
    run(&mut slot, UpdateAction::Update, r#"{"a":{"value":{"$max":"x"}}}"#).unwrap();
    assert_eq!(slot.unwrap().attributes["a"].attribute_type, "Text", "elsewhere it follows the value");
}

#[test]
fn a_patch_of_missing_attributes_is_refused_in_whole_or_in_part() {
    let mut slot = with(r#"{"a":{"value":1}}"#);
    let before = slot.clone();
    let error = run(&mut slot, UpdateAction::Update, r#"{"c":{"value":1},"d":{"value":1}}"#).unwrap_err();
    assert_eq!(error.to_string(), "Unprocessable: do not exist: E/T - [ c, d ]");
    assert_eq!(slot, before);
    let outcome = run(&mut slot, UpdateAction::Update, r#"{"a":{"value":2},"c":{"value":1}}"#).unwrap();
    assert_eq!(outcome.partial.unwrap().to_string(), "PartialUpdate: do not exist: E/T - [ c ]");
    assert_eq!(value(&slot, "a"), json!(2));
}

#[test]
fn a_strict_append_writes_what_is_new() {
    let mut slot = with(r#"{"a":{"value":1}}"#);
    let error = run(&mut slot, UpdateAction::AppendStrict, r#"{"a":{"value":9}}"#).unwrap_err();
    let text = "one or more of the attributes in the request already exist: E/T - [ a ]";
    assert_eq!(error.to_string(), format!("Unprocessable: {text}"));
    let outcome = run(&mut slot, UpdateAction::AppendStrict, r#"{"a":{"value":9},"b":{"value":2}}"#).unwrap();
    assert_eq!(outcome.partial.unwrap().to_string(), format!("PartialUpdate: {text}"));
    assert_eq!((value(&slot, "a"), value(&slot, "b")), (json!(1), json!(2)));
}

#[test]
fn ensure_never_overwrites() {
    let mut slot = with(r#"{"a":{"value":1}}"#);
    let outcome = run(&mut slot, UpdateAction::Ensure, r#"{"a":{"value":9}}"#).unwrap();
    assert_eq!(outcome.alteration, None);
    let outcome = run(&mut slot, UpdateAction::Ensure, r#"{"a":{"value":9},"b":{"value":2}}"#).unwrap();
    assert_eq!((outcome.alteration, outcome.updated), (Some(Alteration::Change), vec!["b".to_owned()]));
    assert_eq!(value(&slot, "a"), json!(1));
}

#[test]
fn replace_leaves_only_what_was_sent_and_says_what_went() {
    let mut slot = with(r#"{"a":{"value":1},"b":{"value":2}}"#);
    let outcome = run(&mut slot, UpdateAction::Replace, r#"{"b":{"value":2},"c":{"value":3}}"#).unwrap();
    assert_eq!(
        (outcome.updated, outcome.changed),
        (vec!["b".to_owned(), "c".to_owned()], vec!["c".to_owned()])
    );
    assert_eq!(outcome.removed, ["a"]);
    assert_eq!(outcome.previous["a"].value, json!(1));
}

#[test]
fn deleting_names_removes_them_and_deleting_nothing_removes_the_entity() {
    let mut slot = with(r#"{"a":{"value":1},"b":{"value":2}}"#);
    let outcome = run(&mut slot, UpdateAction::Delete, r#"{"a":{},"x":{}}"#).unwrap();
    assert_eq!(outcome.removed, ["a"]);
    assert_eq!(outcome.partial.unwrap().failed, Some(Failed::Missing(vec!["x".to_owned()])));
    let outcome = run(&mut slot, UpdateAction::Delete, "{}").unwrap();
    assert_eq!(outcome.alteration, Some(Alteration::Delete));
    assert!(outcome.deleted.is_some() && slot.is_none());
    assert_eq!(run(&mut slot, UpdateAction::Delete, "{}").unwrap_err(), Error::entity_not_found());
}

#[test]
fn a_second_location_is_refused_and_leaves_the_entity_as_it_was() {
    let mut slot = with(r#"{"a":{"type":"geo:point","value":"1,2"}}"#);
    let second = r#"{"b":{"type":"geo:point","value":"1,2"}}"#;
    assert_eq!(run(&mut slot, UpdateAction::Append, second).unwrap_err(), Error::second_location());
    for fine in [
        r#"{"b":{"type":"geo:point","value":null}}"#,
        r#"{"b":{"type":"geo:point","value":"1,2","metadata":{"ignoreType":{"value":true}}}}"#,
        r#"{"a":{"type":"geo:point","value":"3,4"}}"#,
    ] {
        run(&mut slot, UpdateAction::Append, fine).unwrap();
    }
}

#[test]
fn operators_do_what_the_table_says() {
    for (before, operator, expected) in [
        ("1", r#"{"$inc":2}"#, json!(3)),
        ("1.5", r#"{"$inc":1}"#, json!(2.5)),
        ("3", r#"{"$mul":2}"#, json!(6)),
        ("3", r#"{"$min":2}"#, json!(2)),
        ("3", r#"{"$max":2}"#, json!(3)),
        ("\"b\"", r#"{"$max":"c"}"#, json!("c")),
        ("[1]", r#"{"$push":2}"#, json!([1, 2])),
        ("[1,4]", r#"{"$push":{"$each":[2,3],"$position":1}}"#, json!([1, 2, 3, 4])),
        ("[1]", r#"{"$addToSet":1}"#, json!([1])),
        ("[1]", r#"{"$addToSet":2}"#, json!([1, 2])),
        ("[1,2,1]", r#"{"$pull":1}"#, json!([2])),
        ("[1,2,3]", r#"{"$pullAll":[1,3]}"#, json!([2])),
        (r#"{"x":1}"#, r#"{"$set":{"y":2,"z.k":3}}"#, json!({"x":1,"y":2,"z":{"k":3}})),
        (r#"{"x":1,"y":{"k":1,"l":2}}"#, r#"{"$unset":{"x":1,"y.k":1}}"#, json!({"y":{"l":2}})),
        (r#"{"x":1}"#, r#"{"$set":{"y":2},"$unset":{"x":1}}"#, json!({"y":2})),
    ] {
        let mut slot = with(&format!(r#"{{"a":{{"value":{before}}}}}"#));
        run(&mut slot, UpdateAction::Update, &format!(r#"{{"a":{{"value":{operator}}}}}"#)).unwrap();
        assert_eq!(value(&slot, "a"), expected, "{operator}");
    }
}

#[test]
fn operators_at_creation_act_on_their_reference() {
    for (operator, expected) in [
        (r#"{"$inc":2}"#, Some(json!(2))),
        (r#"{"$inc":"k"}"#, Some(json!(0))),
        (r#"{"$mul":2}"#, Some(json!(0))),
        (r#"{"$push":2}"#, Some(json!([2]))),
        (r#"{"$set":{"k":1}}"#, Some(json!({"k":1}))),
        (r#"{"$pull":2}"#, None),
        (r#"{"$unset":{"k":1}}"#, None),
    ] {
        let slot = with(&format!(r#"{{"a":{{"value":{operator}}}}}"#));
        assert_eq!(slot.unwrap().attributes.get("a").map(|a| a.value.clone()), expected, "{operator}");
    }
}

#[test]
fn wrong_operands_on_existing_attributes_are_errors_and_change_nothing() {
    for (before, operator, word) in [
        ("1", r#"{"$inc":"k"}"#, "BadRequest"),
        ("\"s\"", r#"{"$inc":1}"#, "Unprocessable"),
        ("1", r#"{"$push":1}"#, "Unprocessable"),
        (r#"{"k":1}"#, r#"{"$set":{"k":1},"$unset":{"k":1}}"#, "BadRequest"),
    ] {
        let mut slot = with(&format!(r#"{{"a":{{"value":{before}}}}}"#));
        let unchanged = slot.clone();
        let body = format!(r#"{{"a":{{"value":{operator}}}}}"#);
        let error = run(&mut slot, UpdateAction::Update, &body).unwrap_err();
        assert_eq!(error.word.as_str(), word, "{operator}");
        assert_eq!(slot, unchanged);
    }
}

#[test]
fn forced_update_counts_as_a_change() {
    let mut slot = with(r#"{"a":{"value":1}}"#);
    let same = r#"{"a":{"value":1}}"#;
    assert_eq!(run(&mut slot, UpdateAction::Update, same).unwrap().alteration, Some(Alteration::Update));
    let request = EntityUpdate {
        id: "E".to_owned(),
        entity_type: None,
        attributes: parse::attributes(same.as_bytes(), parse::BodyFormat::Normalized).unwrap(),
    };
    let options = UpdateOptions { forced_update: true, ..UpdateOptions::default() };
    let context = WriteContext { path: &ServicePath::root(), now_us: NOW };
    let outcome = apply(&mut slot, &request, UpdateAction::Update, options, context).unwrap();
    assert_eq!((outcome.alteration, outcome.changed.len()), (Some(Alteration::Change), 1));
}

type Model = Option<BTreeMap<String, i64>>;

/// The rules again, on plain maps. Returns whether the request is refused outright.
fn model_apply(model: &mut Model, action: UpdateAction, request: &BTreeMap<String, i64>) -> bool {
    use UpdateAction as A;
    let Some(map) = model else {
        let creates = matches!(action, A::Create | A::Append | A::AppendStrict | A::Ensure);
        if creates {
            *model = Some(request.clone());
        }
        return !creates;
    };
    let known = request.keys().filter(|k| map.contains_key(*k)).count();
    match action {
        A::Create => return true,
        A::Append => map.extend(request.clone()),
        A::AppendStrict if known == request.len() && known > 0 => return true,
        A::AppendStrict | A::Ensure => {
            for (k, v) in request {
                map.entry(k.clone()).or_insert(*v);
            }
        }
        A::Update if known == 0 && !request.is_empty() => return true,
        A::Update => {
            for (k, v) in request {
                map.entry(k.clone()).and_modify(|own| *own = *v);
            }
        }
        A::Replace => *map = request.clone(),
        A::Delete if request.is_empty() => *model = None,
        A::Delete if known == 0 => return true,
        A::Delete => request.keys().for_each(|k| {
            map.remove(k);
        }),
    }
    false
}

fn actions() -> impl Strategy<Value = UpdateAction> {
    use UpdateAction as A;
    prop::sample::select(vec![
        A::Create,
        A::Append,
        A::AppendStrict,
        A::Update,
        A::Replace,
        A::Delete,
        A::Ensure,
    ])
}

fn as_map(slot: &Option<Entity>) -> Model {
    let entity = slot.as_ref()?;
    Some(entity.attributes.iter().map(|(k, a)| (k.clone(), a.value.as_i64().unwrap())).collect())
}

proptest! {
    #[test]
    fn any_history_of_updates_ends_where_the_model_ends(
        steps in prop::collection::vec((actions(), prop::collection::btree_map("[a-d]", 0_i64..3, 0..4)), 1..30)
    ) {
        let mut slot: Option<Entity> = None;
        let mut model: Model = None;
        for (action, request) in steps {
            let body = serde_json::to_string(&request.iter().map(|(k, v)| (k, json!({"value": v}))).collect::<BTreeMap<_, _>>()).unwrap();
            let before = as_map(&slot);
            let result = run(&mut slot, action, &body);
            let refused = model_apply(&mut model, action, &request);
            prop_assert_eq!(result.is_err(), refused);
            prop_assert_eq!(as_map(&slot), model.clone());
            let Ok(outcome) = result else { continue };
            let after = model.clone().unwrap_or_default();
            let before = before.unwrap_or_default();
            for name in outcome.changed.iter().chain(&outcome.removed) {
                prop_assert_ne!(before.get(name), after.get(name));
                let told = outcome.previous.get(name).and_then(|a| a.value.as_i64());
                prop_assert_eq!(told, before.get(name).copied());
            }
            if outcome.deleted.is_none() {
                for name in before.keys().chain(after.keys()) {
                    let told = outcome.changed.contains(name) || outcome.removed.contains(name);
                    prop_assert_eq!(told, before.get(name) != after.get(name), "{}", name);
                }
            }
        }
    }
}
