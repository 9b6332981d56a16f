use jexl::{Dialect::Agent, transform_names};
use serde_json::{Value, json};

use crate::check;

fn names() -> Value {
    json!({
        "s": "fooxybar", "n": 3.25, "i": 25, "l": [1, 5], "o": {"x": 1, "y": "foo", "z": 1},
        "ts": 1_767_323_045_678_i64, "iso": "2026-01-02T03:04:05.678Z"
    })
}

fn rows(rows: &[(&str, Value)]) {
    check(Agent, &names(), rows);
}

#[test]
fn the_transforms_of_the_contract_are_there() {
    let contract = "jsonparse jsonstringify indexOf length trim substr addreduce lengtharray typeof isarray isnan parseint \
        parsefloat toisodate toisostring timeoffset gettime now tostring urlencode urldecode replacestr replaceregexp \
        replaceallregexp split joinarrtostr concatarr mapper thmapper bitwisemask slice addset removeset touppercase \
        tolowercase floor ceil round tofixed localestring localestringnumber hextostring valuePicker valuePickerMulti hash";
    let mut contract: Vec<&str> = contract.split_whitespace().collect();
    assert_eq!(contract.len(), 45);
    contract.push("replaceallstr"); // named by the manual only
    let mut ours: Vec<&str> = transform_names(Agent).collect();
    contract.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, contract);
}

#[test]
fn texts() {
    rows(&[
        (r#"'{"a":[1,2.5]}'|jsonparse"#, json!({"a": [1, 2.5]})),
        ("'{'|jsonparse", json!(null)),
        ("o|jsonstringify", json!(r#"{"x":1,"y":"foo","z":1}"#)),
        ("s|jsonstringify", json!(r#""fooxybar""#)),
        ("1.50|jsonstringify", json!("1.5")),
        ("s|indexOf('xy')", json!(3)),
        ("s|indexOf('q')", json!(-1)),
        ("i|indexOf(5)", json!(1)),
        ("s|length", json!(8)),
        ("i|length", json!(2)),
        ("'ñ😀'|length", json!(3)),
        ("'  foo  bar '|trim", json!("foo  bar")),
        ("'abcdef'|substr(1,3)", json!("bcd")),
        ("'abcdef'|substr(2)", json!("cdef")),
        ("'abcdef'|substr(-3,2)", json!("de")),
        ("'abc'|substr(5)", json!("")),
        ("'abc'|substr(0,-1)", json!("")),
        ("12345|substr(1,2)", json!("23")),
        ("i|tostring", json!("25")),
        ("l|tostring", json!("1,5")),
        ("o|tostring", json!("[object Object]")),
        ("1e21|tostring", json!("1e+21")),
        ("'a b/é?%&=+#[]'|urlencode", json!("a%20b/%C3%A9?%25&=+#%5B%5D")),
        ("'%2F%20%C3%A9%23%41'|urldecode", json!("%2F é%23A")),
        ("'%'|urldecode", json!(null)),
        ("'%zz'|urldecode", json!(null)),
        ("'%FF'|urldecode", json!(null)),
        ("'foobar'|replacestr('o','u')", json!("fuobar")),
        ("'foobar'|replacestr('z','u')", json!("foobar")),
        ("'x1y'|replacestr('1','[$&$$$x]')", json!("x[1$$x]y")),
        ("i|replacestr('2','u')", json!(null)),
        ("'foobar'|replaceallstr('o','u')", json!("fuubar")),
        (r"'a1b22'|replaceregexp('\d+','X')", json!("aXb22")),
        (r"'a1b22'|replaceallregexp('\d+','X')", json!("aXbX")),
        (r"'ab12'|replaceregexp('([a-z])(\d)','$2$1$3$10')", json!("a1b$3b02")),
        ("'a'|replaceregexp('[','X')", json!(null)),
        ("i|replaceallregexp('2','X')", json!(null)),
        ("'a,b'|split(',')", json!(["a", "b"])),
        ("'abc'|split('')", json!(["a", "b", "c"])),
        ("'a,b'|split", json!(["a,b"])),
        ("i|split(',')", json!(null)),
        ("'aBc'|touppercase", json!("ABC")),
        ("i|touppercase", json!("25")),
        ("'aBc'|tolowercase", json!("abc")),
        ("'48656c6c6f'|hextostring", json!("Hello")),
        ("'c3a9'|hextostring", json!("é")),
        ("'xyz'|hextostring", json!(null)),
        ("i|hextostring", json!(null)),
        ("'hello'|hash", json!("05E918D2")),
        ("''|hash", json!("00000000")),
        ("'a much longer text'|hash", json!("3E3AFEF0")),
    ]);
}

#[test]
fn kinds() {
    rows(&[
        ("s|typeof", json!("string")),
        ("i|typeof", json!("number")),
        ("(1+1)|typeof", json!("number")),
        ("true|typeof", json!("boolean")),
        ("l|typeof", json!("object")),
        ("o|typeof", json!("object")),
        ("missing|typeof", json!("undefined")),
        ("l|isarray", json!(true)),
        ("o|isarray", json!(false)),
        ("missing|isarray", json!(false)),
        ("s|isnan", json!(true)),
        ("'25'|isnan", json!(false)),
        ("missing|isnan", json!(true)),
        ("missing|length", json!(null)),
        ("missing|touppercase", json!(null)),
    ]);
}

#[test]
fn numbers() {
    rows(&[
        ("'25.9kg'|parseint", json!(25)),
        ("' -7'|parseint", json!(-7)),
        ("'0x1f'|parseint", json!(0)),
        ("'kg'|parseint", json!(null)),
        ("25.9|parseint", json!(25)),
        ("'25.9kg'|parsefloat", json!(25.9)),
        ("'1.5e2xyz'|parsefloat", json!(150)),
        ("'.5.5'|parsefloat", json!(0.5)),
        ("'5.'|parsefloat", json!(5)),
        ("'1e'|parsefloat", json!(1)),
        ("'.'|parsefloat", json!(null)),
        ("'-'|parsefloat", json!(null)),
        ("n|floor", json!(3)),
        ("'3.7'|floor", json!(3)),
        ("n|ceil", json!(4)),
        ("2.5|round", json!(3)),
        ("-2.5|round", json!(-2)),
        ("0.49999999999999994|round", json!(0)),
        ("s|round", json!(null)),
        ("1.005|tofixed(2)", json!("1.00")),
        ("2.5|tofixed(0)", json!("3")),
        ("-2.5|tofixed(0)", json!("-3")),
        ("n|tofixed(3)", json!("3.250")),
        ("'3.18kg'|tofixed(1)", json!("3.2")),
        ("n|tofixed(101)", json!(null)),
        ("n|tofixed", json!("3")),
        ("12|bitwisemask(10,'&',0)", json!(8)),
        ("12|bitwisemask(10,'|',1)", json!(7)),
        ("12|bitwisemask(10,'^',0)", json!(6)),
        ("-1|bitwisemask(255,'&',4)", json!(15)),
        ("4294967297|bitwisemask(3,'&',0)", json!(1)),
        ("12|bitwisemask(10,'?',2)", json!(3)),
    ]);
}

#[test]
fn collections() {
    rows(&[
        ("[1,2,3]|addreduce", json!(6)),
        ("['a','b',1]|addreduce", json!("ab1")),
        ("[7]|addreduce", json!(7)),
        ("[]|addreduce", json!(null)),
        ("i|addreduce", json!(null)),
        ("l|lengtharray", json!(2)),
        ("s|lengtharray", json!(8)),
        ("i|lengtharray", json!(null)),
        ("l|joinarrtostr('-')", json!("1-5")),
        ("[1,[2,3],null]|joinarrtostr(';')", json!("1;2,3;")),
        ("l|joinarrtostr", json!("1,5")),
        ("s|joinarrtostr('-')", json!(null)),
        ("l|concatarr([7])", json!([1, 5, 7])),
        ("l|concatarr(7)", json!([1, 5, 7])),
        ("s|concatarr([7])", json!(null)),
        ("'b'|mapper(['a','b'],[1,2])", json!(2)),
        ("2|mapper(['1','2'],['a','b'])", json!(null)),
        ("'c'|mapper(['a','b'],[1,2])", json!(null)),
        ("'b'|mapper('ab',[1,2])", json!(null)),
        ("5|thmapper([1,5,9],['low','mid','high'])", json!("mid")),
        ("6|thmapper([1,5,9],['low','mid','high'])", json!("high")),
        ("0|thmapper([1,5,9],['low','mid','high'])", json!("low")),
        ("10|thmapper([1,5,9],['low','mid','high'])", json!(null)),
        ("[1,2,3,4]|slice(1,3)", json!([2, 3])),
        ("[1,2,3]|slice(-2)", json!([2, 3])),
        ("[1,2,3]|slice(1,-1)", json!([2])),
        ("[1,2,3]|slice(2,1)", json!([])),
        ("'abcd'|slice(1,3)", json!("bc")),
        ("i|slice(1,3)", json!(null)),
        ("[1,2,1]|addset(3)", json!([1, 2, 3])),
        ("[1,2]|addset(2)", json!([1, 2])),
        ("[1,'1']|addset('1')", json!([1, "1"])),
        ("[1,2,1]|removeset(1)", json!([2])),
        ("[1,2]|removeset('1')", json!([1, 2])),
        ("o|valuePicker(1)", json!(["x", "z"])),
        ("o|valuePicker('1')", json!([])),
        ("o|valuePickerMulti([1,'foo'])", json!(["x", "y", "z"])),
        ("o|valuePickerMulti(1)", json!(null)),
        ("i|valuePicker(1)", json!([])),
        ("l|valuePicker(5)", json!(["1"])),
    ]);
}

#[test]
fn dates() {
    rows(&[
        ("ts|toisodate", json!("2026-01-02T03:04:05.678Z")),
        ("ts|toisostring", json!("2026-01-02T03:04:05.678Z")),
        ("iso|toisodate", json!("2026-01-02T03:04:05.678Z")),
        ("'2026-01-02T03:04:05+02:00'|toisostring", json!("2026-01-02T01:04:05.000Z")),
        ("'yesterday'|toisodate", json!(null)),
        ("9e15|toisodate", json!(null)),
        ("iso|gettime", json!(1_767_323_045_678_i64)),
        ("'yesterday'|gettime", json!(null)),
        ("iso|timeoffset", json!(0)),
        ("''|now", json!(1_769_853_600_250_i64)),
        ("iso|localestring('en-US',{timeZone:'Europe/Madrid'})", json!("1/2/2026, 4:04:05 AM")),
        ("iso|localestring('en-US',{timeZone:'Asia/Tokyo'})", json!("1/2/2026, 12:04:05 PM")),
        ("iso|localestring('es-ES',{timeZone:'Europe/Madrid'})", json!("2/1/2026, 4:04:05")),
        ("iso|localestring('de-DE',{timeZone:'Europe/Madrid'})", json!("2.1.2026, 04:04:05")),
        ("iso|localestring('en-GB',{timeZone:'Europe/Madrid'})", json!("02/01/2026, 04:04:05")),
        ("iso|localestring('fr-FR',{timeZone:'Europe/Madrid'})", json!("02/01/2026 04:04:05")),
        ("iso|localestring('en-US',{timeZone:'UTC',hour12:false})", json!("1/2/2026, 03:04:05")),
        ("iso|localestring('en-US',{timeZone:'Mars/Base'})", json!(null)),
        ("'yesterday'|localestring('en-US')", json!(null)),
        ("1234567.5|localestringnumber('en-US')", json!("1,234,567.5")),
        ("1234567.5678|localestringnumber('de-DE')", json!("1.234.567,568")),
        ("1234.5|localestringnumber('es-ES')", json!("1234,5")),
        ("-0.5|localestringnumber('de')", json!("-0,5")),
        ("1234.5|localestringnumber('en-US',{minimumFractionDigits:2,useGrouping:false})", json!("1234.50")),
        ("2.5|localestringnumber('en-US',{maximumFractionDigits:0})", json!("3")),
        ("25|localestringnumber('en-US',{minimumFractionDigits:2})", json!("25.00")),
        ("s|localestringnumber('en-US')", json!(null)),
    ]);
}
