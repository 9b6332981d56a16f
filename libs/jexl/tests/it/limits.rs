use std::time::{Duration, Instant};

use jexl::{
    BUDGET,
    Dialect::{self, Agent, Broker},
    EvaluationError, Expression, MAX_DEPTH, MAX_EXPRESSION_LEN, MAX_NESTING, MAX_NODES, Problem,
};
use serde_json::{Value, json};

use crate::NOW;

/// Far above what the budget allows, far below what a person would call a hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn problem(text: &str) -> Option<Problem> {
    Expression::parse(text, Broker).err().map(|error| error.problem)
}

#[test]
fn expressions_are_bounded() {
    assert_eq!(problem(&" ".repeat(MAX_EXPRESSION_LEN + 1)), Some(Problem::TooLong));
    assert_eq!(problem(&format!("1{}", " ".repeat(MAX_EXPRESSION_LEN - 1))), None);
    assert_eq!(problem(&format!("[{}]", "1,".repeat(MAX_NODES - 1))), None);
    assert_eq!(problem(&format!("[{}]", "1,".repeat(MAX_NODES))), Some(Problem::TooManyNodes));
    assert_eq!(problem(&format!("1{}", "+1".repeat(MAX_DEPTH - 1))), None);
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{a:", "}"), ("!", ""), ("-", ""), ("1?", ":1"), ("1?1:", ""), ("a[", "]")]
    {
        let text = format!("{}1{}", open.repeat(MAX_NESTING + 1), close.repeat(MAX_NESTING + 1));
        assert_eq!(problem(&text), Some(Problem::TooDeep), "{open}");
    }
    for link in ["+1", "|trim", ".a", "[0]"] {
        assert_eq!(problem(&format!("a{}", link.repeat(MAX_DEPTH))), Some(Problem::TooDeep), "{link}");
    }
}

#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let deep = |open: &str, close: &str| {
        let levels = (1..=MAX_DEPTH)
            .rev()
            .find(|levels| {
                let text = format!("{}1{}", open.repeat(*levels), close.repeat(*levels));
                problem(&text).is_none()
            })
            .unwrap();
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    let texts = [
        deep("[", "]"),
        deep("{a:", "}"),
        deep("(", ")"),
        deep("!", ""),
        deep("-", ""),
        deep("", "+1"),
        deep("", "|toString"),
        deep("1?", ":2"),
        deep("0?1:", ""),
        deep("[{x:1}][.x>", "-1]"),
        deep("2|thMapper([1,2],[0,0,", "])"),
    ];
    let evaluate = move || {
        for text in &texts {
            let expression = Expression::parse(text, Broker).unwrap();
            let result = expression.evaluate(&json!({}), NOW);
            assert_ne!(result, json!("never"), "{text}");
            assert_eq!(Expression::parse(&expression.to_string(), Broker), Ok(expression));
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(evaluate).unwrap().join().unwrap();
}

fn outcome(dialect: Dialect, text: &str, names: &Value) -> Result<Value, EvaluationError> {
    let expression = Expression::parse(text, dialect).unwrap();
    let start = Instant::now();
    let outcome = expression.try_evaluate(names, NOW);
    assert!(start.elapsed() < PATIENCE, "{text} took {:?}", start.elapsed());
    outcome
}

#[test]
fn what_would_take_too_much_fails() {
    let names = json!({
        "t": "x".repeat(60_000), "many": vec![1; 20_000], "texts": vec!["y".repeat(100); 2000],
        "dollars": "$&".repeat(20_000), "spaces": "a ".repeat(20_000)
    });
    for (dialect, text) in [
        (Broker, format!("t{}", "+t".repeat(90))),
        (Broker, "t|replaceStr('x', t)".to_owned()),
        (Broker, "t|replaceStr('', t)".to_owned()),
        (Broker, "t|replaceRegex('x', t)".to_owned()),
        (Broker, "t|replaceRegex('x*', dollars)".to_owned()),
        (Broker, "t|matchRegex('x')".to_owned()),
        (Broker, "t|matchRegex('.*[^x]|x')".to_owned()),
        (Broker, "(t + t)|split('')".to_owned()),
        (Broker, format!("[{}]", "many,".repeat(40))),
        (Broker, format!("({{a: {}}})", ["texts"; 40].join("+'' + "))),
        (Agent, "t|replaceallstr('x', t)".to_owned()),
        (Agent, "t|replaceallregexp('x', dollars)".to_owned()),
        (Agent, "t|replacestr(t, dollars)".to_owned()),
        (Agent, "texts|addreduce".to_owned()),
        (Agent, "many|joinarrtostr(t)".to_owned()),
        (Agent, "spaces|split(' ')|joinarrtostr(t)".to_owned()),
        (Agent, "many|valuePickerMulti(many)".to_owned()),
    ] {
        let found = outcome(dialect, &text, &names);
        let shown = text.get(..text.len().min(60)).unwrap();
        assert_eq!(found.map(|value| value.to_string().len()), Err(EvaluationError::LimitReached), "{shown}");
    }
}

#[test]
fn nested_filters_are_paid_for() {
    let names = json!({"l": vec![json!({"a": 1}); 1000]});
    let text = "l[l[.a == 2] == .a]";
    assert_eq!(outcome(Broker, text, &names), Err(EvaluationError::LimitReached));
    assert_eq!(outcome(Agent, text, &names), Err(EvaluationError::LimitReached));
}

#[test]
fn no_alternative_hides_that_a_limit_was_reached() {
    let names = json!({"t": "x".repeat(60_000)});
    for text in
        ["(t|replaceStr('', t)) || 1", "(t|replaceStr('', t)) ? 1 : 2", "[1][.a == (t|replaceStr('', t))]"]
    {
        assert_eq!(outcome(Broker, text, &names), Err(EvaluationError::LimitReached), "{text}");
    }
}

#[test]
fn large_but_honest_work_is_done() {
    let names = json!({"t": "x".repeat(200_000), "many": vec![1; 5000]});
    assert_eq!(outcome(Broker, "t|len", &names), Ok(json!(200_000)));
    assert_eq!(outcome(Broker, "many|arrSum", &names), Ok(json!(5000)));
    assert_eq!(outcome(Broker, "t|uppercase|len", &names), Ok(json!(200_000)));
    assert_eq!(outcome(Agent, "many|addreduce", &names), Ok(json!(5000)));
    let text = outcome(Broker, "t + t", &names).unwrap();
    assert!(text.as_str().unwrap().len() < BUDGET);
}

#[test]
fn a_pattern_that_is_too_large_is_none() {
    for pattern in ["(x{1000}){1000}", &"x".repeat(2000), "(a(?=b))", r"(a)\1"] {
        let names = json!({"p": pattern, "s": "x"});
        assert_eq!(outcome(Broker, "s|matchRegex(p)", &names), Ok(json!(null)), "{pattern}");
        assert_eq!(
            outcome(Agent, "s|replaceregexp(p, '')", &names),
            Err(EvaluationError::WrongKind),
            "{pattern}"
        );
    }
}
