//! What of a query a store can check by itself.

use serde_json::Number;

use super::{
    Expression,
    language::{Item, Path, Test},
    value::{Literal, RightHandSide},
};
use crate::time;

/// Numbers beyond this are not the same to every store.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Something that holds for every entity for which an item of a query holds, and for others too: what a store finds with
/// it is still to be matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Keys from the attributes' JSON down to the value. None of them holds a quote or a backslash, or is a number.
    pub path: Vec<String>,
    pub test: StoreTest,
}

/// Of the value at the path.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreTest {
    /// There is one.
    Exists,
    /// There is none.
    Missing,
    /// It is an array, or of the kind of the bounds and within one of the ranges.
    Within(Vec<Range>),
}

/// Both ends included; at least one end is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    pub low: Option<Scalar>,
    pub high: Option<Scalar>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Number(f64),
    /// Also an instant, in the form in which instants are stored.
    Text(String),
    Bool(bool),
}

impl Expression {
    /// What a store can check of it.
    pub fn conditions(&self) -> Vec<Condition> {
        self.items.iter().filter_map(condition).collect()
    }
}

fn condition(item: &Item) -> Option<Condition> {
    let path = path(&item.path)?;
    Some(Condition { path, test: test(&item.test) })
}

/// None: a builtin, or a key that stores do not read alike.
fn path(path: &Path) -> Option<Vec<String>> {
    let mut keys = vec![path.attribute.clone()];
    match &path.metadata {
        None if matches!(path.attribute.as_str(), "dateCreated" | "dateModified" | "servicePath") => {
            return None;
        }
        None => {}
        Some(name) if matches!(name.as_str(), "dateCreated" | "dateModified") => return None,
        Some(name) => keys.extend(["metadata".to_owned(), name.clone()]),
    }
    keys.push("value".to_owned());
    keys.extend(path.keys.iter().cloned());
    keys.iter().all(|key| is_plain(key)).then_some(keys)
}

fn is_plain(key: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
    key.bytes().all(known) && !key.bytes().all(|b| b.is_ascii_digit())
}

fn test(test: &Test) -> StoreTest {
    let ranges = match test {
        Test::NotExists => return StoreTest::Missing,
        Test::Exists | Test::NotEqual(_) | Test::Match(_) => None,
        Test::Equal(RightHandSide::Single(one)) => exactly(one).map(|range| vec![range]),
        Test::Equal(RightHandSide::List(list)) => list.iter().map(exactly).collect(),
        Test::Equal(RightHandSide::Range(low, high)) => {
            scalar(low).zip(scalar(high)).map(|(low, high)| vec![Range { low: Some(low), high: Some(high) }])
        }
        Test::Greater(low) | Test::GreaterOrEqual(low) => {
            scalar(low).map(|low| vec![Range { low: Some(low), high: None }])
        }
        Test::Less(high) | Test::LessOrEqual(high) => {
            scalar(high).map(|high| vec![Range { low: None, high: Some(high) }])
        }
    };
    ranges.map_or(StoreTest::Exists, StoreTest::Within)
}

fn exactly(literal: &Literal) -> Option<Range> {
    scalar(literal).map(|value| Range { low: Some(value.clone()), high: Some(value) })
}

fn scalar(literal: &Literal) -> Option<Scalar> {
    match literal {
        Literal::Number(number) => Number::as_f64(number).filter(|n| n.abs() < EXACT).map(Scalar::Number),
        Literal::Date(micros) => Some(Scalar::Text(time::format_us(*micros))),
        Literal::Text(text) => Some(Scalar::Text(text.clone())),
        Literal::Bool(flag) => Some(Scalar::Bool(*flag)),
        Literal::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueryKind;
    use super::*;

    fn conditions(text: &str, kind: QueryKind) -> Vec<Condition> {
        Expression::parse(text, kind).unwrap().conditions()
    }

    #[test]
    fn items_are_weakened_to_what_a_store_can_check() {
        let number = |n| Some(Scalar::Number(n));
        let text = |t: &str| Some(Scalar::Text(t.to_owned()));
        for (query, path, test) in [
            ("a", "a/value", StoreTest::Exists),
            ("!a", "a/value", StoreTest::Missing),
            ("a~=x", "a/value", StoreTest::Exists),
            ("a!=1", "a/value", StoreTest::Exists),
            ("a==null", "a/value", StoreTest::Exists),
            ("a>1", "a/value", StoreTest::Within(vec![Range { low: number(1.0), high: None }])),
            ("a.b<=x", "a/value/b", StoreTest::Within(vec![Range { low: None, high: text("x") }])),
            (
                "'a.b'==1,2",
                "a.b/value",
                StoreTest::Within(vec![
                    Range { low: number(1.0), high: number(1.0) },
                    Range { low: number(2.0), high: number(2.0) },
                ]),
            ),
            (
                "d==2026-01-31..2026-02-01T01+01",
                "d/value",
                StoreTest::Within(vec![Range {
                    low: text("2026-01-31T00:00:00.000Z"),
                    high: text("2026-02-01T00:00:00.000Z"),
                }]),
            ),
        ] {
            let path = path.split('/').map(str::to_owned).collect();
            assert_eq!(conditions(query, QueryKind::Attributes), [Condition { path, test }], "{query}");
        }
        let path = ["a", "metadata", "m", "value", "k"].map(str::to_owned).to_vec();
        assert_eq!(conditions("a.m.k", QueryKind::Metadata), [Condition { path, test: StoreTest::Exists }]);
    }

    #[test]
    fn what_stores_do_not_read_alike_is_left_out() {
        for query in ["dateCreated>2026-01-01", "servicePath==/a", "a.0==1", "a+b==1", "é.x"] {
            assert_eq!(conditions(query, QueryKind::Attributes), [], "{query}");
        }
        assert_eq!(conditions("a.dateModified>2026-01-01", QueryKind::Metadata), []);
        let large = conditions("a==9007199254740993", QueryKind::Attributes);
        assert_eq!(large[0].test, StoreTest::Exists);
    }
}
