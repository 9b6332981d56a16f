use proptest::prelude::*;
use serde_json::json;

use super::*;

fn groups(text: &str) -> Vec<MeasureGroup> {
    match parse(text, true, Limits::default()) {
        Ok(Payload::Measures(groups)) => groups,
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> ParseError {
    parse(text, true, Limits::default()).unwrap_err()
}

fn group(time: Option<&str>, measures: &[(&str, Value)]) -> MeasureGroup {
    MeasureGroup {
        time: time.map(str::to_owned),
        measures: measures.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

#[test]
fn names_and_values_alternate() {
    assert_eq!(groups("a|1|b|x"), [group(None, &[("a", json!(1)), ("b", json!("x"))])]);
}

#[test]
fn a_leading_bar_is_dropped_in_each_group() {
    assert_eq!(groups("|a|1#|b|2"), [group(None, &[("a", json!(1))]), group(None, &[("b", json!(2))])]);
}

#[test]
fn a_time_may_stand_before_the_measures_of_a_group() {
    let expected =
        [group(Some("2016-06-13T00:35:30Z"), &[("t", json!(100))]), group(None, &[("t", json!(2))])];
    assert_eq!(groups("2016-06-13T00:35:30Z|t|100#t|2"), expected);
}

#[test]
fn values_that_are_json_become_native_and_others_stay_text() {
    for (text, value) in [
        ("15", json!(15)),
        ("1.5", json!(1.5)),
        ("-3", json!(-3)),
        ("true", json!(true)),
        ("null", json!(null)),
        ("[1,2]", json!([1, 2])),
        (r#"{"x":1}"#, json!({"x": 1})),
        ("007", json!("007")),
        ("12/34", json!("12/34")),
        ("'x'", json!("'x'")),
        ("truely", json!("truely")),
        ("1e999", json!("1e999")),
        ("é", json!("é")),
    ] {
        assert_eq!(groups(&format!("a|{text}")), [group(None, &[("a", value)])], "{text}");
    }
}

#[test]
fn without_autocast_every_value_is_text() {
    let parsed = parse("a|15", false, Limits::default()).unwrap();
    assert_eq!(parsed, Payload::Measures(vec![group(None, &[("a", json!("15"))])]));
}

#[test]
fn an_empty_payload_holds_nothing() {
    assert_eq!(groups(""), []);
}

#[test]
fn odd_fields_and_empty_fields_are_errors() {
    for text in ["a", "a|1|b", "x|a|1", "2016-06-13T00:35:30Z"] {
        assert!(matches!(error(text), ParseError::Unpaired { group: 1, .. }), "{text}");
    }
    for text in ["|", "a|", "a||b|1", "||a|1", "a|1|", "#", "a|1#"] {
        assert!(matches!(error(text), ParseError::EmptyField { .. }), "{text}: {:?}", error(text));
    }
    assert_eq!(error("a|1#b"), ParseError::Unpaired { group: 2, fields: 1 });
}

#[test]
fn a_command_result_is_told_from_measures() {
    let expected =
        Payload::CommandResult { device_id: "dev".into(), command: "ping".into(), result: "pong".into() };
    assert_eq!(parse("dev@ping|pong", true, Limits::default()), Ok(expected));
    assert!(matches!(parse("a|x@y", true, Limits::default()), Ok(Payload::Measures(_))));
}

#[test]
fn limits_bound_groups_and_measures() {
    let limits = Limits { groups: 2, measures: 3 };
    assert!(parse("a|1#a|2", true, limits).is_ok());
    assert_eq!(parse("a|1#a|2#a|3", true, limits), Err(ParseError::TooManyGroups(2)));
    assert_eq!(parse("a|1|b|2#a|3|b|4", true, limits), Err(ParseError::TooManyMeasures(3)));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_within_the_limits(text in ".{0,200}") {
        let limits = Limits { groups: 3, measures: 5 };
        if let Ok(Payload::Measures(groups)) = parse(&text, true, limits) {
            prop_assert!(groups.len() <= 3);
            prop_assert!(groups.iter().map(|group| group.measures.len()).sum::<usize>() <= 5);
        }
    }

    #[test]
    fn what_is_written_as_ultralight_is_read_back(
        measures in proptest::collection::vec(("[a-z]{1,8}", "[A-Za-z_ /]{1,8}"), 1..20)
    ) {
        let text: Vec<String> = measures.iter().map(|(name, value)| format!("{name}|{value}")).collect();
        let parsed = parse(&text.join("|"), false, Limits::default());
        let expected = measures.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        prop_assert_eq!(parsed, Ok(Payload::Measures(vec![MeasureGroup { time: None, measures: expected }])));
    }

    #[test]
    fn a_cast_number_is_written_as_the_same_number(number in any::<i64>()) {
        prop_assert_eq!(cast(&number.to_string()), Value::from(number));
    }
}
