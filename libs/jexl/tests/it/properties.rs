use jexl::{
    Dialect::{self, Agent, Broker},
    Expression, JsonTemplate, Template, transform_names,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::NOW;

fn names() -> Value {
    json!({"a": 1, "b": -2.5, "s": "text", "l": [1, "x", {"k": 2}, [3]], "o": {"k": {"k": 1}}, "t": true, "n": null})
}

/// Texts of expressions that mostly parse.
fn expression() -> impl Strategy<Value = String> {
    let transforms: Vec<&'static str> = transform_names(Broker).chain(transform_names(Agent)).collect();
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "a", "b", "s", "l", "o", "t", "n", "missing", "true", "null", "[]", "{}", ".k", "-1"
        ])
        .prop_map(str::to_owned),
        (-1000_i32..1000).prop_map(|n| n.to_string()),
        any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "[a-z \\\\\"$0-9.*+]{0,8}".prop_map(|text| format!("'{text}'")),
    ];
    leaf.prop_recursive(5, 60, 4, move |inner| {
        let operators =
            vec!["+", "-", "*", "/", "//", "%", "^", "==", "!=", "<", "<=", ">", ">=", " in ", "&&", "||"];
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            (pair.clone(), prop::sample::select(operators)).prop_map(|((a, b), o)| format!("{a}{o}{b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("-{a}")),
            (pair.clone(), inner.clone()).prop_map(|((a, b), c)| format!("{a}?{b}:{c}")),
            pair.clone().prop_map(|(a, b)| format!("{a}?:{b}")),
            pair.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            pair.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            pair.prop_map(|(a, b)| format!("{{k: {a}, 'b c': {b}}}")),
            inner.clone().prop_map(|a| format!("{a}.k")),
            (inner.clone(), prop::sample::select(transforms.clone()), prop::collection::vec(inner, 0..4))
                .prop_map(|(a, name, arguments)| format!("({a})|{name}({})", arguments.join(","))),
        ]
    })
}

/// Runs it if it is an expression; what it prints must be the same expression, with the same result.
fn try_out(text: &str, dialect: Dialect) -> Result<(), TestCaseError> {
    if let Ok(parsed) = Expression::parse(text, dialect) {
        let printed = parsed.to_string();
        let again = Expression::parse(&printed, dialect);
        prop_assert_eq!(again.as_ref(), Ok(&parsed), "{} printed as {}", text, printed);
        let result = parsed.evaluate(&names(), NOW);
        prop_assert_eq!(&again.unwrap().evaluate(&names(), NOW), &result);
        prop_assert!(serde_json::to_string(&result).unwrap().len() < 8 * jexl::BUDGET);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_parsed_prints_and_parses_to_the_same(text in expression()) {
        try_out(&text, Broker)?;
        try_out(&text, Agent)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}", own in "[a-c1-3.,:!<>=|()\\[\\]{}?'\"&*/%^+ \\\\-]{0,40}") {
        for dialect in [Broker, Agent] {
            try_out(&text, dialect)?;
            try_out(&own, dialect)?;
        }
    }

    #[test]
    fn no_template_makes_it_panic(template in "[${}a-c.'\" |+]{0,40}") {
        let text = Template::parse(&template, Broker).text(&names(), NOW);
        let value = JsonTemplate::parse(&json!({"x": [template]}), Broker).value(&names(), NOW);
        prop_assert!(value["x"][0].as_str().is_none_or(|own| own == text));
    }

    #[test]
    fn whole_numbers_survive(n in any::<i64>()) {
        let names = json!({"n": n});
        for dialect in [Broker, Agent] {
            prop_assert_eq!(Expression::parse("n", dialect).unwrap().evaluate(&names, NOW), json!(n));
            if n > i64::MIN {
                prop_assert_eq!(Expression::parse(&n.to_string(), dialect).unwrap().evaluate(&names, NOW), json!(n));
            }
        }
    }
}

#[test]
fn most_generated_texts_are_expressions() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = expression();
    let good = (0..300)
        .filter(|_| Expression::parse(&strategy.new_tree(&mut runner).unwrap().current(), Broker).is_ok())
        .count();
    assert!(good > 150, "{good} of 300");
}
