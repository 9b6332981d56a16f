use jexl::{Dialect::Broker, transform_names};
use serde_json::{Value, json};

use crate::check;

fn names() -> Value {
    json!({
        "s": "fooxybar", "n": 3.25, "i": 25, "l": [1, 5], "o": {"x": 1, "y": "foo"}, "nil": null,
        "values": ["es", "fr"], "choices": ["Spain", "France"], "t": "2024-07-10T10:22:29+00:00"
    })
}

fn rows(rows: &[(&str, Value)]) {
    check(Broker, &names(), rows);
}

#[test]
fn the_transforms_of_the_contract_are_there() {
    let contract = "uppercase lowercase split indexOf len trim substring includes isNaN parseInt parseFloat typeOf toString \
        toJson floor ceil round toFixed log log10 log2 sqrt replaceStr replaceRegex matchRegex mapper nMapper thMapper \
        values keys arrSum arrAvg arrMax arrMin arrMed arrSort arrReverse now toIsoString getTime";
    let mut contract: Vec<&str> = contract.split_whitespace().collect();
    let mut ours: Vec<&str> = transform_names(Broker).collect();
    contract.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, contract);
}

#[test]
fn texts() {
    rows(&[
        ("'fooBAR'|uppercase", json!("FOOBAR")),
        ("'fooBAR'|lowercase", json!("foobar")),
        ("i|uppercase", json!(null)),
        ("i|lowercase", json!(null)),
        ("'foo,bar,zzz'|split(',')", json!(["foo", "bar", "zzz"])),
        ("'añb'|split('')", json!(["a", "ñ", "b"])),
        ("''|split(',')", json!([""])),
        ("i|split(',')", json!(null)),
        ("s|split", json!(null)),
        ("s|indexOf('xy')", json!(3)),
        ("'ñx'|indexOf('x')", json!(1)),
        ("s|indexOf('q')", json!(null)),
        ("l|indexOf(1)", json!(null)),
        ("'foobar'|len", json!(6)),
        ("'ñ'|len", json!(1)),
        ("l|len", json!(null)),
        ("'  foo  bar  '|trim", json!("foo  bar")),
        ("i|trim", json!(null)),
        ("'foobar'|substring(3,5)", json!("ba")),
        ("'foobar'|substring(0,6)", json!("foobar")),
        ("'foobar'|substring(3,3)", json!("")),
        ("'foobar'|substring(3,7)", json!(null)),
        ("'foobar'|substring(5,3)", json!(null)),
        ("'foobar'|substring(0-1,3)", json!(null)),
        ("'foobar'|substring(3)", json!(null)),
        ("'foobar'|substring(0.5,3)", json!(null)),
        ("i|substring(0,1)", json!(null)),
        ("'foobar'|includes('ba')", json!(true)),
        ("'foobar'|includes('z')", json!(false)),
        ("l|includes(1)", json!(null)),
        ("'foobar'|replaceStr('o','u')", json!("fuubar")),
        ("'foobar'|replaceStr('o')", json!(null)),
        ("i|replaceStr('o','u')", json!(null)),
        (r"'aba1234aba786aba'|replaceRegex('\d+','X')", json!("abaXabaXaba")),
        (r"'a1'|replaceRegex('([a-z])(\d)','$2$1')", json!("1a")),
        ("'a'|replaceRegex('[','X')", json!(null)),
        (r"'abc1234fgh897hyt'|matchRegex('\d+')", json!(["1234", "897"])),
        ("'abc'|matchRegex('[0-9]')", json!([])),
        ("'abc'|matchRegex('[')", json!(null)),
        ("'abc'|matchRegex('' + 'b')", json!(["b"])),
        ("i|matchRegex('2')", json!(null)),
    ]);
}

#[test]
fn kinds() {
    rows(&[
        ("i|typeOf", json!("Number")),
        ("1 + 1|typeOf", json!("1Number")),
        ("(1 + 1)|typeOf", json!("Number")),
        ("s|typeOf", json!("String")),
        ("true|typeOf", json!("Boolean")),
        ("l|typeOf", json!("Array")),
        ("o|typeOf", json!("Object")),
        ("nil|typeOf", json!("Null")),
        ("23|toString", json!("23")),
        ("1.50|toString", json!("1.5")),
        ("s|toString", json!("fooxybar")),
        ("o|toString", json!(r#"{"x":1,"y":"foo"}"#)),
        ("true|toString", json!("true")),
        ("'[1,2]'|toJson", json!([1, 2])),
        ("'{'|toJson", json!(null)),
        ("i|toJson", json!(null)),
        ("s|isNaN", json!(true)),
        ("i|isNaN", json!(false)),
        ("'25'|parseInt", json!(25)),
        ("'25.33'|parseInt", json!(null)),
        ("'x'|parseInt", json!(null)),
        ("'-1'|parseInt", json!(-1)),
        ("25.9|parseInt", json!(25)),
        ("l|parseInt", json!(null)),
        ("'25.33'|parseFloat", json!(25.33)),
        ("'25.0'|parseFloat", json!(25)),
        ("'x'|parseFloat", json!(null)),
        ("'inf'|parseFloat", json!(null)),
    ]);
}

#[test]
fn numbers() {
    rows(&[
        ("n|floor", json!(3)),
        ("-3.14|floor", json!(-4)),
        ("n|ceil", json!(4)),
        ("n|round", json!(3)),
        ("2.5|round", json!(3)),
        ("-2.5|round", json!(-3)),
        ("i|round", json!(25)),
        ("s|round", json!(null)),
        ("3.18|toFixed(1)", json!(3.2)),
        ("3.18|toFixed(0)", json!(3)),
        ("3.18|toFixed", json!(null)),
        ("3.18|toFixed(0-1)", json!(null)),
        ("3.18|toFixed(21)", json!(null)),
        ("3.14|log", json!(1.144_222_799_920_162)),
        ("3.14|log10", json!(0.496_929_648_073_214_94)),
        ("3.14|log2", json!(1.650_764_559_116_902_5)),
        ("3.14|sqrt", json!(1.772_004_514_666_935)),
        ("16|sqrt", json!(4)),
        ("0|log", json!(null)),
        ("(0-1)|sqrt", json!(null)),
        ("s|sqrt", json!(null)),
    ]);
}

#[test]
fn maps() {
    rows(&[
        ("'fr'|mapper(values,choices)", json!("France")),
        ("'de'|mapper(values,choices)", json!(null)),
        ("1|mapper([1],['x'])", json!(null)),
        ("'fr'|mapper(values,['one'])", json!(null)),
        ("'fr'|mapper(values)", json!(null)),
        ("2|nMapper([1,2],['a','b'])", json!("b")),
        ("3|nMapper([1,2],['a','b'])", json!(null)),
        ("'2'|nMapper([1,2],['a','b'])", json!(null)),
        ("2|nMapper(['1',2],['a','b'])", json!(null)),
        ("0.5|thMapper([-1,1],['low','medium','high'])", json!("medium")),
        ("-1|thMapper([-1,1],['low','medium','high'])", json!("medium")),
        ("-2|thMapper([-1,1],['low','medium','high'])", json!("low")),
        ("1|thMapper([-1,1],['low','medium','high'])", json!("high")),
        ("0|thMapper([-1,1],['low','medium'])", json!(null)),
        ("0|thMapper([-1,'1'],['low','medium','high'])", json!(null)),
        ("s|thMapper([-1,1],['low','medium','high'])", json!(null)),
        ("o|values", json!([1, "foo"])),
        ("o|keys", json!(["x", "y"])),
        ("l|values", json!(null)),
        ("s|keys", json!(null)),
    ]);
}

#[test]
fn arrays() {
    rows(&[
        ("l|arrSum", json!(6)),
        ("[1.5, 1.5]|arrSum", json!(3)),
        ("l|arrAvg", json!(3)),
        ("[1, 2]|arrAvg", json!(1.5)),
        ("[3, 9, 1]|arrMax", json!(9)),
        ("[3, 9, 1]|arrMin", json!(1)),
        ("[3, 9, 1]|arrMed", json!(3)),
        ("[3, 9, 1, 5]|arrMed", json!(4)),
        ("[3, 9, 1.5]|arrSort", json!([1.5, 3, 9])),
        ("[3, 'a', 1]|arrReverse", json!([1, "a", 3])),
        ("[]|arrSum", json!(null)),
        ("[]|arrAvg", json!(null)),
        ("[]|arrMax", json!(null)),
        ("[]|arrMin", json!(null)),
        ("[]|arrMed", json!(null)),
        ("[]|arrSort", json!(null)),
        ("[1, 'a']|arrSum", json!(null)),
        ("[1, 'a']|arrSort", json!(null)),
        ("i|arrMed", json!(null)),
        ("s|arrReverse", json!(null)),
    ]);
}

#[test]
fn times() {
    rows(&[
        ("0|now", json!(1_769_853_600)),
        ("60|now", json!(1_769_853_660)),
        ("s|now", json!(null)),
        ("1720606949|toIsoString", json!("2024-07-10T10:22:29+00:00")),
        ("0|now|toIsoString", json!("2026-01-31T10:00:00+00:00")),
        ("0.5|toIsoString", json!("1970-01-01T00:00:00.500+00:00")),
        ("s|toIsoString", json!(null)),
        ("1e300|toIsoString", json!(null)),
        ("t|getTime", json!(1_720_606_949)),
        ("'1969-12-31T23:59:59.5Z'|getTime", json!(-1)),
        ("s|getTime", json!(null)),
        ("i|getTime", json!(null)),
    ]);
}

#[test]
fn the_example_of_the_manual() {
    let names =
        json!({"speed": "10 m/s", "count": {"count": 5, "sum": 100}, "code": null, "value": 14, "max": 50});
    check(
        Broker,
        &names,
        &[
            ("(speed|split(' '))[0]|parseInt", json!(10)),
            ("count.sum/count.count", json!(20)),
            ("code||'invalid'", json!("invalid")),
            ("(value>max)?'nok':'ok'", json!("ok")),
            (
                "{count:count.count+1, sum:count.sum+((speed|split(' '))[0]|parseInt)}",
                json!({"count": 6, "sum": 110}),
            ),
        ],
    );
}
