use jexl::{Dialect::Broker, JsonTemplate, MAX_MACROS, Template};
use serde_json::{Value, json};

use crate::NOW;

fn names() -> Value {
    json!({"n": 23, "f": 1.5, "s": "hi", "o": {"k": [1]}, "b": null, "t": true})
}

fn text(template: &str) -> String {
    Template::parse(template, Broker).text(&names(), NOW)
}

#[test]
fn texts_take_values_as_text() {
    for (template, expected) in [
        ("", ""),
        ("no macro", "no macro"),
        ("t=${n} ${s}!", "t=23 hi!"),
        ("${ n }${f}${t}", "231.5true"),
        ("${o}", r#"{"k":[1]}"#),
        ("${missing}${b}", "nullnull"),
        ("${n+1}", "24"),
        ("${n +}", "null"),
        ("${}", "null"),
        ("open ${n", "open ${n"),
        ("a } b $ { ${s}", "a } b $ { hi"),
        ("${{a: n, b: {c: s}}}", r#"{"a":23,"b":{"c":"hi"}}"#),
        ("${'}' + s}", "}hi"),
        ("${'it\\'s}'}", "it's}"),
        ("${it's} ${n}", "null 23"),
        ("$${s}", "$hi"),
    ] {
        assert_eq!(text(template), expected, "{template}");
    }
}

#[test]
fn a_text_that_is_one_macro_keeps_the_type() {
    let value = |template: &str| Template::parse(template, Broker).value(&names(), NOW);
    for (template, expected) in [
        ("${n}", json!(23)),
        ("${o.k}", json!([1])),
        ("${t}", json!(true)),
        ("${b}", json!(null)),
        ("${missing}", json!(null)),
        ("${1 +}", json!(null)),
        ("${n} ", json!("23 ")),
        ("${n}${n}", json!("2323")),
        ("plain", json!("plain")),
    ] {
        assert_eq!(value(template), expected, "{template}");
    }
}

#[test]
fn json_is_filled_in_depth() {
    let template = json!({
        "a": "${n}", "b": ["${o}", "x${n}", {"c": "${missing}"}], "${s}": 1, "fixed": {"d": [1.5, null, "text"]}
    });
    let expected = json!({
        "a": 23, "b": [{"k": [1]}, "x23", {"c": null}], "hi": 1, "fixed": {"d": [1.5, null, "text"]}
    });
    assert_eq!(JsonTemplate::parse(&template, Broker).value(&names(), NOW), expected);
}

#[test]
fn templates_know_whether_they_have_macros() {
    assert!(Template::parse("a${b}", Broker).has_macros());
    assert!(!Template::parse("a${b", Broker).has_macros());
}

#[test]
fn macros_beyond_the_limit_stand_as_they_are() {
    let filled = text(&"${n}".repeat(MAX_MACROS + 1));
    assert_eq!(filled, "23".repeat(MAX_MACROS) + "${n}");
    let array = json!(vec!["${n}"; MAX_MACROS + 1]);
    let filled = JsonTemplate::parse(&array, Broker).value(&names(), NOW);
    assert_eq!(filled[MAX_MACROS - 1], json!(23));
    assert_eq!(filled[MAX_MACROS], json!("${n}"));
}

#[test]
fn all_macros_of_a_template_share_one_budget() {
    let names = json!({"s": "x".repeat(100_000)});
    let filled = Template::parse(&"${s}".repeat(MAX_MACROS), Broker).text(&names, NOW);
    assert!(filled.len() < jexl::BUDGET, "{}", filled.len());
    assert!(filled.ends_with("null"));
}
