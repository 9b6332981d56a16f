use jexl::{
    Dialect::{self, Agent, Broker},
    EvaluationError, Expression, Problem, SyntaxError,
};
use serde_json::{Value, json};

use crate::{NOW, check};

fn names() -> Value {
    json!({
        "a": 1, "b": 2, "f": 1.5, "s": "abc", "t": true, "n": null, "big": 9_007_199_254_740_993_i64,
        "l": [{"f": 1, "n": "x"}, {"f": 3, "n": "y"}], "o": {"k": [1, 2], "in": "word"}, "$x_1": "dollar", "é": "accent"
    })
}

/// What both dialects agree on.
fn both(rows: &[(&str, Value)]) {
    check(Broker, &names(), rows);
    check(Agent, &names(), rows);
}

#[test]
fn literals_and_names() {
    both(&[
        ("1", json!(1)),
        ("1.0", json!(1)),
        (".5", json!(0.5)),
        ("1e3", json!(1000)),
        ("-5", json!(-5)),
        ("- 5", json!(-5)),
        ("'it\\'s'", json!("it's")),
        ("\"a'b\"", json!("a'b")),
        (r"'\d\\'", json!(r"\d\")),
        ("'a\\nb'", json!("a\\nb")),
        ("true", json!(true)),
        ("false", json!(false)),
        ("[1, 'a', [true],]", json!([1, "a", [true]])),
        ("[]", json!([])),
        ("{}", json!({})),
        ("{a: 1, 'b c': s, \"d\": {e: [b]},}", json!({"a": 1, "b c": "abc", "d": {"e": [2]}})),
        ("$x_1", json!("dollar")),
        ("é", json!("accent")),
        (" a ", json!(1)),
        ("\t(\na\r\n)", json!(1)),
        ("big", json!(9_007_199_254_740_993_i64)),
        ("big + 1", json!(9_007_199_254_740_994_i64)),
    ]);
}

#[test]
fn arithmetic_keeps_integers() {
    both(&[
        ("1 + 2", json!(3)),
        ("1 - 2", json!(-1)),
        ("a-1", json!(0)),
        ("a -1", json!(0)),
        ("1 - -2", json!(3)),
        ("2 * 3", json!(6)),
        ("6 / 3", json!(2)),
        ("7 / 2", json!(3.5)),
        ("7 // 2", json!(3)),
        ("-7 // 2", json!(-4)),
        ("7.5 // 2", json!(3)),
        ("10 % 4", json!(2)),
        ("-7 % 3", json!(-1)),
        ("2 ^ 10", json!(1024)),
        ("2 ^ -1", json!(0.5)),
        ("f + f", json!(3)),
        ("1.5 * 2", json!(3)),
        ("1 / 0", json!(null)),
        ("0 / 0", json!(null)),
        ("-a", json!(-1)),
        ("-(a + b)", json!(-3)),
        ("9223372036854775807 + 1", json!(9_223_372_036_854_775_808.0)),
    ]);
}

#[test]
fn operators_group_by_precedence_and_from_the_left() {
    both(&[
        ("2 + 3 * 4", json!(14)),
        ("(2 + 3) * 4", json!(20)),
        ("2 * 10 % 4", json!(4)),
        ("10 % 4 * 3", json!(6)),
        ("2 ^ 3 ^ 2", json!(64)),
        ("10 - 3 - 2", json!(5)),
        ("1 || 0 && 0", json!(0)),
        ("1 + 1 == 2 && 3 > 2", json!(true)),
        ("a + b ? 1 : 2", json!(1)),
        ("!a == false", json!(true)),
        ("-2 ^ 2", json!(4)),
        ("1 + 2 in [3]", json!(true)),
    ]);
}

#[test]
fn comparisons() {
    both(&[
        ("a == 1", json!(true)),
        ("a != 1", json!(false)),
        ("a == 1.0", json!(true)),
        ("s == 'abc'", json!(true)),
        ("s != 'abd'", json!(true)),
        ("t == true", json!(true)),
        ("o.k == [1, 2]", json!(true)),
        ("o.k == [1, 3]", json!(false)),
        ("o == {k: [1, 2], in: 'word'}", json!(true)),
        ("null == null", json!(true)),
        ("1 < 2", json!(true)),
        ("2 <= 2", json!(true)),
        ("1 > 2", json!(false)),
        ("2 >= 3", json!(false)),
        ("'b' > 'a'", json!(true)),
        ("'a' <= 'a'", json!(true)),
        ("'b' in s", json!(true)),
        ("'z' in s", json!(false)),
        ("2 in [1, 2]", json!(true)),
        ("'2' in [1, 2]", json!(false)),
        ("{x: 1} in [{x: 1}]", json!(true)),
    ]);
}

#[test]
fn logic_gives_its_operands() {
    both(&[
        ("a && s", json!("abc")),
        ("0 && s", json!(0)),
        ("0 || s", json!("abc")),
        ("'' || 5", json!(5)),
        ("n || 5", json!(5)),
        ("!a", json!(false)),
        ("!0", json!(true)),
        ("!!s", json!(true)),
        ("![]", json!(false)),
        ("t ? a : b", json!(1)),
        ("0 ? a : b", json!(2)),
        ("t ?: 2", json!(true)),
        ("0 ?: 2", json!(2)),
        ("t ? a : b ? 3 : 4", json!(1)),
        ("0 ? a : b ? 3 : 4", json!(3)),
        ("t ? 0 ? 1 : 2 : 3", json!(2)),
        ("a == 1 ? 'one' : 'more'", json!("one")),
    ]);
}

#[test]
fn members_and_filters() {
    both(&[
        ("o.k", json!([1, 2])),
        ("o['k']", json!([1, 2])),
        ("o['' + 'k'][1]", json!(2)),
        ("o.k[0]", json!(1)),
        ("o.in", json!("word")),
        ("l[1].n", json!("y")),
        ("l[.f > 2]", json!([{"f": 3, "n": "y"}])),
        ("l[.f > 2][0].n", json!("y")),
        ("l['y' == .n && .f > a]", json!([{"f": 3, "n": "y"}])),
        ("[{x: 1}, {x: 2}][.x == 2][0].x", json!(2)),
        ("l[.f > 9]", json!([])),
        ("o.missing", json!(null)),
        ("o.k[7]", json!(null)),
        ("{a: 5}.a", json!(5)),
        ("[4, 5][1]", json!(5)),
        ("l[.f > ([{z: 2}][.z > 1][0].z)]", json!([{"f": 3, "n": "y"}])),
    ]);
}

#[test]
fn the_broker_is_strict() {
    check(
        Broker,
        &names(),
        &[
            // an unknown name makes the whole fail, but for || and ? : it is false
            ("missing", json!(null)),
            ("missing + 1", json!(null)),
            ("missing + 's'", json!(null)),
            ("missing || 0", json!(0)),
            ("(missing + 1) || 7", json!(7)),
            ("missing && 1", json!(null)),
            ("(missing == null) ? 0 : missing", json!(null)),
            ("missing != null ? 1 : 0", json!(0)),
            ("!missing", json!(null)),
            ("missing.x", json!(null)),
            ("missing|uppercase", json!(null)),
            ("a|unknown", json!(null)),
            ("(a|unknown) || 3", json!(3)),
            ("[missing]", json!(null)),
            // null
            ("n + 1", json!(null)),
            ("n * 3", json!(null)),
            ("n == null", json!(true)),
            ("n != null", json!(false)),
            ("n + 's'", json!(null)),
            // kinds
            ("1 == '1'", json!(false)),
            ("0 == false", json!(false)),
            ("0.1 + 0.2 == 0.3", json!(true)),
            ("'3' * 2", json!(null)),
            ("1 < '2'", json!(null)),
            ("t + 1", json!(null)),
            ("-s", json!(null)),
            ("'k' in o", json!(true)),
            ("1 in a", json!(null)),
            ("s.length", json!(null)),
            ("l.n", json!(null)),
            ("s[.x > 1]", json!(null)),
            ("l[t]", json!(null)),
            // joined as they are shown
            ("'v=' + a", json!("v=1")),
            ("a + 'x' + f", json!("1x1.5")),
            ("'o=' + o.k", json!("o=[1,2]")),
            ("'t=' + t", json!("t=true")),
        ],
    );
}

#[test]
fn the_agent_is_as_lenient_as_javascript() {
    check(
        Agent,
        &names(),
        &[
            ("missing", json!(null)),
            ("missing + 1", json!(null)),
            ("missing + 's'", json!(null)),
            ("missing || 5", json!(5)),
            ("(missing + 1) || 7", json!(7)),
            ("!missing", json!(true)),
            ("missing == null", json!(true)),
            ("n == null", json!(true)),
            ("null == 0", json!(false)),
            ("missing > 1", json!(false)),
            ("missing.x", json!(null)),
            ("missing[0]", json!(null)),
            ("missing[.x]", json!([])),
            ("missing == undefined", json!(true)),
            ("a == '1'", json!(true)),
            ("t == 1", json!(true)),
            ("[] == 0", json!(true)),
            ("[1] == '1'", json!(true)),
            ("'a' == 0", json!(false)),
            ("0.1 + 0.2 == 0.3", json!(false)),
            ("'10' < '9'", json!(true)),
            ("'10' < 9", json!(false)),
            ("10 >= '9'", json!(true)),
            ("'3' * 2", json!(6)),
            ("'x' * 2", json!(null)),
            ("t + 1", json!(2)),
            ("-'3'", json!(-3)),
            ("'a' + [1, 2]", json!("a1,2")),
            ("'a' + o", json!("a[object Object]")),
            ("1 + [1]", json!("11")),
            ("a + '' + f", json!("11.5")),
            ("1 in '123'", json!(true)),
            ("'k' in o", json!(false)),
            ("s.length", json!(3)),
            ("s[0]", json!("a")),
            ("o.k['length']", json!(2)),
            ("l.n", json!("x")),
            ("l[.f > 2].n", json!("y")),
            ("l[t]", names()["l"].clone()),
            ("l[false]", json!(null)),
            ("o[.k]", json!([names()["o"].clone()])),
            ("a|unknown", json!(null)),
            ("[missing, 1/0]", json!([null, null])),
        ],
    );
}

#[test]
fn transforms_bind_tighter_than_operators() {
    check(
        Broker,
        &names(),
        &[
            ("'a'|uppercase + 'b'", json!("Ab")),
            ("'b' + 'a'|uppercase", json!("bA")),
            ("!s|uppercase", json!(false)),
            ("-5|toString", json!("-5")),
            ("a|toString ? 1 : 2", json!(1)),
            ("'x y'|split(' ')[1]|uppercase", json!("Y")),
            ("a || b|toString", json!(1)),
            ("s | uppercase | lowercase()", json!("abc")),
            ("(s|split('b'))[0]", json!("a")),
        ],
    );
}

#[test]
fn syntax_errors_tell_what_and_where() {
    for (text, at, problem) in [
        ("", 0, Problem::Expected("an operand")),
        ("a +", 3, Problem::Expected("an operand")),
        ("a b", 2, Problem::Expected("an operator or the end")),
        ("1a", 1, Problem::Expected("an operator or the end")),
        ("A[0|uppercase", 13, Problem::Expected("]")),
        ("(a", 2, Problem::Expected(")")),
        ("[1 2]", 3, Problem::Expected("]")),
        ("{a 1}", 3, Problem::Expected(":")),
        ("{1: 2}", 1, Problem::Expected("a name")),
        ("a ? b", 5, Problem::Expected(":")),
        ("a|", 2, Problem::Expected("a name")),
        ("a.", 2, Problem::Expected("a name")),
        ("5.", 2, Problem::Expected("a name")),
        ("in", 0, Problem::Expected("an operand")),
        ("'abc", 0, Problem::OpenText),
        ("a + \"x'", 4, Problem::OpenText),
        ("1e999", 0, Problem::Number),
        ("f(1)", 1, Problem::Function),
        (".x", 0, Problem::Relative),
        ("a @ b", 2, Problem::Expected("an operator or the end")),
    ] {
        for dialect in [Broker, Agent] {
            assert_eq!(Expression::parse(text, dialect), Err(SyntaxError { at, problem }), "{text}");
        }
    }
    assert_eq!(Expression::parse("(a", Broker).unwrap_err().to_string(), ") expected at byte 2");
}

#[test]
fn the_reason_of_a_failure_is_told() {
    let reason = |text: &str, dialect: Dialect| {
        Expression::parse(text, dialect).unwrap().try_evaluate(&names(), NOW).unwrap_err()
    };
    assert_eq!(reason("missing", Broker), EvaluationError::UnknownName);
    assert_eq!(reason("missing", Agent), EvaluationError::UnknownName);
    assert_eq!(reason("missing|trim", Agent), EvaluationError::UnknownName);
    assert_eq!(reason("a|missing", Broker), EvaluationError::UnknownTransform);
    assert_eq!(reason("a * s", Broker), EvaluationError::WrongKind);
}

#[test]
fn an_expression_that_is_but_a_name_is_known_as_such() {
    let name_of = |text: &str| Expression::parse(text, Agent).unwrap().as_name().map(str::to_owned);
    assert_eq!(name_of(" (temperature) "), Some("temperature".to_owned()));
    assert_eq!(name_of("a.b"), None);
    assert_eq!(name_of("true"), None);
}
