use scope::{Scope, ServicePath, Tenant};
use serde_json::json;

use super::*;
use crate::{
    device::{ApiKey, Device, Group},
    ultralight::{self, Payload},
};

const ARRIVED: i64 = 1_767_323_045_678_000;

fn scope() -> Scope {
    Scope::new(Tenant::canonical("t").unwrap(), ServicePath::root())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

fn mapping(device: Value, group: Value) -> Mapping {
    let mut body = object(json!({"entity_name": "Room:d1", "entity_type": "Room"}));
    body.extend(object(device));
    let device = Device { scope: scope(), id: "d1".into(), api_key: None, body, created_us: 0 };
    let group = Group {
        id: "g".into(),
        scope: scope(),
        resource: "/iot/d".into(),
        api_key: ApiKey::new("k"),
        body: object(group),
        created_us: 0,
    };
    Mapping::new(&device, Some(&group), Defaults { timestamp: true, explicit: false })
}

fn apply_at(mapping: &Mapping, text: &str, given: Option<&str>) -> Result<Vec<EntityWrite>, BadTimestamp> {
    match ultralight::parse(text, true, ultralight::Limits::default()).unwrap() {
        Payload::Measures(groups) => mapping.apply(groups, Times { given, arrived_us: ARRIVED }),
        other => panic!("{other:?}"),
    }
}

fn attributes(mapping: &Mapping, text: &str) -> Value {
    let mut writes = apply_at(mapping, text, None).unwrap();
    assert_eq!(writes.len(), 1, "{writes:?}");
    writes.remove(0).attributes.into()
}

/// Without times, so that rows stay readable.
fn plain(device: Value, group: Value) -> Mapping {
    let mut group = object(group);
    group.insert("timestamp".into(), false.into());
    mapping(device, group.into())
}

#[test]
fn measures_are_renamed_and_typed_and_the_unmapped_are_text() {
    let mapping = plain(
        json!({"attributes": [{"object_id": "t", "name": "temperature", "type": "Number"}]}),
        json!({}),
    );
    let expected = json!({
        "temperature": {"type": "Number", "value": 21.5},
        "h": {"type": "Text", "value": 40},
    });
    assert_eq!(attributes(&mapping, "t|21.5|h|40"), expected);
}

#[test]
fn a_measure_may_use_the_attributes_own_name() {
    let mapping = plain(
        json!({"attributes": [{"object_id": "t", "name": "temperature", "type": "Number"}]}),
        json!({}),
    );
    assert_eq!(attributes(&mapping, "temperature|3"), json!({"temperature": {"type": "Number", "value": 3}}));
}

#[test]
fn group_attributes_are_added_where_the_object_id_is_free() {
    let mapping = plain(
        json!({"attributes": [{"object_id": "a", "name": "own", "type": "Number"}]}),
        json!({
            "attributes": [{"object_id": "a", "name": "groups", "type": "X"}, {"object_id": "b", "name": "more", "type": "Y"}],
            "static_attributes": [{"name": "owner", "type": "Text", "value": "me"}]
        }),
    );
    let expected = json!({
        "own": {"type": "Number", "value": 1},
        "more": {"type": "Y", "value": 2},
        "owner": {"type": "Text", "value": "me"},
    });
    assert_eq!(attributes(&mapping, "a|1|b|2"), expected);
}

#[test]
fn a_measured_attribute_wins_over_a_static_one() {
    let mapping =
        plain(json!({"static_attributes": [{"name": "s", "type": "Text", "value": "x"}]}), json!({}));
    assert_eq!(attributes(&mapping, "s|1"), json!({"s": {"type": "Text", "value": 1}}));
}

#[test]
fn a_null_of_a_mapped_attribute_is_left_out_and_of_an_unmapped_one_is_sent() {
    let device = json!({"attributes": [{"name": "m", "type": "Number"}, {"name": "z", "type": "Number", "skipValue": 0}]});
    let mapping = plain(device, json!({}));
    assert_eq!(attributes(&mapping, "m|null|z|0|u|null"), json!({"u": {"type": "Text", "value": null}}));
    assert_eq!(attributes(&mapping, "z|null"), json!({"z": {"type": "Number", "value": null}}));
}

#[test]
fn explicit_attrs_keeps_mapped_and_static_ones_only() {
    let device = json!({
        "explicitAttrs": true,
        "attributes": [{"name": "m", "type": "Number"}],
        "static_attributes": [{"name": "s", "type": "Text", "value": "x"}]
    });
    let sent = attributes(&plain(device, json!({})), "m|1|u|2");
    assert_eq!(sent, json!({"m": {"type": "Number", "value": 1}, "s": {"type": "Text", "value": "x"}}));
}

#[test]
fn nothing_left_means_nothing_sent() {
    let mapping = plain(json!({"explicitAttrs": true, "attributes": [{"name": "m"}]}), json!({}));
    assert_eq!(apply_at(&mapping, "u|2", None).unwrap(), []);
}

#[test]
fn id_and_type_are_renamed() {
    let sent = attributes(&plain(json!({}), json!({})), "id|1|type|x");
    assert_eq!(
        sent,
        json!({"measure_id": {"type": "Text", "value": 1}, "measure_type": {"type": "Text", "value": "x"}})
    );
}

#[test]
fn an_attribute_may_go_to_another_entity() {
    let device = json!({"attributes": [
        {"object_id": "a", "name": "v", "type": "Number"},
        {"object_id": "b", "name": "v", "type": "Number", "entity_name": "Other:1", "entity_type": "Other"},
    ]});
    let writes = apply_at(&plain(device, json!({})), "a|1|b|2", None).unwrap();
    let expected = [
        EntityWrite {
            id: "Room:d1".into(),
            entity_type: "Room".into(),
            attributes: object(json!({"v": {"type": "Number", "value": 1}})),
        },
        EntityWrite {
            id: "Other:1".into(),
            entity_type: "Other".into(),
            attributes: object(json!({"v": {"type": "Number", "value": 2}})),
        },
    ];
    assert_eq!(writes, expected);
}

fn time_of(write: &EntityWrite) -> &str {
    write.attributes[TIME_INSTANT]["value"].as_str().unwrap()
}

#[test]
fn time_instant_comes_from_the_best_source() {
    let default = mapping(json!({}), json!({}));
    let zoned = mapping(json!({"timezone": "Asia/Tokyo"}), json!({}));
    let mapped = mapping(
        json!({"attributes": [{"object_id": "ts", "name": "TimeInstant", "type": "DateTime"}]}),
        json!({}),
    );
    for (mapping, text, given, expected) in [
        (&default, "a|1", None, "2026-01-02T03:04:05.678Z"),
        (&zoned, "a|1", None, "2026-01-02T12:04:05.678+09:00"),
        (&default, "2016-06-13T00:35:30Z|a|1", None, "2016-06-13T00:35:30Z"),
        (&zoned, "2016-06-13T00:35:30Z|a|1", None, "2016-06-13T00:35:30Z"),
        (&default, "2016-06-13T00:35:30Z|a|1", Some("2017-01-01T00:00:00Z"), "2017-01-01T00:00:00Z"),
        (&default, "TimeInstant|2018-01-01T00:00:00Z|a|1", None, "2018-01-01T00:00:00Z"),
        (&mapped, "ts|2019-01-01T00:00:00Z|a|1", Some("2017-01-01T00:00:00Z"), "2019-01-01T00:00:00Z"),
    ] {
        let writes = apply_at(mapping, text, given).unwrap();
        assert_eq!(time_of(&writes[0]), expected, "{text}");
        let metadata = &writes[0].attributes["a"]["metadata"][TIME_INSTANT];
        assert_eq!(metadata, &json!({"type": "DateTime", "value": expected}), "{text}");
    }
}

#[test]
fn without_the_flag_only_a_measured_time_is_sent_and_as_attribute_only() {
    let mapping = plain(json!({}), json!({}));
    assert_eq!(attributes(&mapping, "a|1"), json!({"a": {"type": "Text", "value": 1}}));
    let timed = json!({
        "a": {"type": "Text", "value": 1},
        "TimeInstant": {"type": "DateTime", "value": "2016-06-13T00:35:30Z"},
    });
    assert_eq!(attributes(&mapping, "2016-06-13T00:35:30Z|a|1"), timed);
}

#[test]
fn the_devices_flag_wins_over_the_groups() {
    let on = mapping(json!({"timestamp": true}), json!({"timestamp": false}));
    assert!(attributes(&on, "a|1").get(TIME_INSTANT).is_some());
    let off = mapping(json!({"timestamp": false}), json!({"timestamp": true}));
    assert!(attributes(&off, "a|1").get(TIME_INSTANT).is_none());
}

#[test]
fn a_time_that_is_none_is_an_error() {
    let mapping = mapping(json!({}), json!({}));
    for (text, given) in
        [("TimeInstant|yesterday|a|1", None), ("a|1", Some("soon")), ("TimeInstant|5|a|1", None)]
    {
        assert!(apply_at(&mapping, text, given).is_err(), "{text}");
    }
    let error = apply_at(&mapping, "a|1", Some("soon")).unwrap_err().to_string();
    assert_eq!(error, "Invalid ISO8601 timestamp [soon] in [Room:d1]");
}

#[test]
fn groups_are_sorted_by_their_time_when_each_has_one() {
    let late_first = "2016-06-13T00:35:31Z|a|2#2016-06-13T00:35:30Z|a|1";
    let timed = mapping(json!({}), json!({}));
    let writes = apply_at(&timed, late_first, None).unwrap();
    assert_eq!(
        writes.iter().map(time_of).collect::<Vec<_>>(),
        ["2016-06-13T00:35:30Z", "2016-06-13T00:35:31Z"]
    );
    let writes = apply_at(&plain(json!({}), json!({})), "2016-06-13T00:35:31Z|a|2#a|1", None).unwrap();
    assert_eq!(writes[0].attributes["a"]["value"], 2);
}

#[test]
fn a_skeleton_holds_null_attributes_static_values_and_unknown_states_of_commands() {
    let device = json!({
        "attributes": [{"object_id": "f", "name": "foo", "type": "Integer"}],
        "static_attributes": [{"name": "category", "type": "Text", "value": "sensor"}]
    });
    let skeleton = mapping(device, json!({})).skeleton(["ping"].into_iter());
    let expected = json!({
        "foo": {"type": "Integer", "value": null}, "category": {"type": "Text", "value": "sensor"},
        "ping_status": {"type": "commandStatus", "value": "UNKNOWN"},
        "ping_info": {"type": "commandResult", "value": " "},
    });
    assert_eq!(Value::from(skeleton.attributes), expected);
}

/// One attribute `x` with this expression, beside others.
fn evaluated(expression: &str, text: &str) -> Value {
    let device = json!({
        "explicitAttrs": true,
        "attributes": [
            {"object_id": "t", "name": "temperature", "type": "Number"},
            {"object_id": "f", "name": "fahrenheit", "type": "Number", "expression": "t * 1.8 + 32"},
            {"object_id": "o", "name": "x", "type": "Any", "expression": expression},
        ],
        "static_attributes": [{"name": "unit", "type": "Text", "value": "C"}, {"name": "t2", "type": "Text"}]
    });
    attributes(&plain(device, json!({})), text)["x"]["value"].take()
}

#[test]
fn an_expression_sees_measures_statics_the_device_and_the_attributes_before_it() {
    for (expression, text, expected) in [
        ("t + 1", "t|20", json!(21)),
        ("temperature * 2", "t|20", json!(40)),
        ("fahrenheit", "t|20", json!(68)),
        ("t + unit", "t|20", json!("20C")),
        ("id + '/' + type + service + subservice + entity_name", "t|1", json!("d1/Roomt/Room:d1")),
        ("x + 1", "o|4", json!(5)),
        ("o|toisodate", "o|0", json!("1970-01-01T00:00:00.000Z")),
        ("''|now", "t|1", json!(ARRIVED / 1000)),
        ("t > 30 ? 'hot' : 'cold'", "t|20", json!("cold")),
    ] {
        assert_eq!(evaluated(expression, text), expected, "{expression}");
    }
}

#[test]
fn an_expression_that_fails_or_cannot_be_read_sends_nothing_for_its_attribute() {
    for expression in ["t +", "none|trim", "t|nothing", "later + 1"] {
        assert_eq!(evaluated(expression, "t|20|o|7"), Value::Null, "{expression}");
    }
}

#[test]
fn an_attribute_with_an_expression_is_sent_at_every_measure_and_keeps_its_skip_value() {
    let device = json!({"attributes": [
        {"object_id": "a", "name": "double", "type": "Number", "expression": "b * 2", "skipValue": 4},
    ]});
    let mapping = plain(device, json!({}));
    let expected = json!({"double": {"type": "Number", "value": 6}, "b": {"type": "Text", "value": 3}});
    assert_eq!(attributes(&mapping, "b|3"), expected);
    assert_eq!(attributes(&mapping, "b|2"), json!({"b": {"type": "Text", "value": 2}}));
}

#[test]
fn a_request_pays_all_its_expressions_from_one_budget() {
    let costly = json!({"attributes": [
        {"name": "x", "type": "Number", "expression": "(s + s + s + s)|length", "skipValue": "none"},
    ]});
    let mapping = plain(costly, json!({}));
    let long = "s".repeat(100_000);
    let text = vec![format!("s|{long}"); 40].join("#");
    let writes = apply_at(&mapping, &text, None).unwrap();
    let value = |index: usize| writes[index].attributes["x"]["value"].clone();
    assert_eq!((value(0), value(39)), (json!(400_000), Value::Null));
}
