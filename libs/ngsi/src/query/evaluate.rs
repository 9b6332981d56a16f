//! The simple query language on an entity.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    Expression,
    language::{Item, Path, Test},
    value::{Literal, RightHandSide},
};
use crate::{Entity, time};

impl Expression {
    /// Whether all items hold for `entity`.
    pub fn matches(&self, entity: &Entity) -> bool {
        self.items.iter().all(|item| holds(item, entity))
    }
}

/// A value found at the end of a path; instants are marked.
struct Found<'a> {
    value: std::borrow::Cow<'a, Value>,
    is_date: bool,
}

fn holds(item: &Item, entity: &Entity) -> bool {
    let found = resolve(&item.path, entity);
    match (&item.test, found) {
        (Test::Exists, found) => found.is_some(),
        (Test::NotExists, found) => found.is_none(),
        (_, None) => false,
        (test, Some(found)) => compare(test, &found),
    }
}

fn resolve<'a>(path: &Path, entity: &'a Entity) -> Option<Found<'a>> {
    let date = |micros| {
        Some(Found { value: std::borrow::Cow::Owned(Value::String(time::format_us(micros))), is_date: true })
    };
    let (value, is_date) = match &path.metadata {
        None => match path.attribute.as_str() {
            "dateCreated" => return date(entity.created_us),
            "dateModified" => return date(entity.modified_us),
            "servicePath" => {
                let value = Value::String(entity.path.as_str().to_owned());
                return Some(Found { value: std::borrow::Cow::Owned(value), is_date: false });
            }
            name => {
                let attribute = entity.attributes.get(name)?;
                (&attribute.value, time::is_date_type(&attribute.attribute_type))
            }
        },
        Some(metadata) => {
            let attribute = entity.attributes.get(&path.attribute)?;
            match metadata.as_str() {
                "dateCreated" => return date(attribute.created_us),
                "dateModified" => return date(attribute.modified_us),
                name => {
                    let metadata = attribute.metadata.get(name)?;
                    (&metadata.value, time::is_date_type(&metadata.metadata_type))
                }
            }
        }
    };
    let mut current = value;
    for key in &path.keys {
        current = match current {
            Value::Object(object) => object.get(key)?,
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    let is_date = is_date && path.keys.is_empty();
    Some(Found { value: std::borrow::Cow::Borrowed(current), is_date })
}

fn compare(test: &Test, found: &Found<'_>) -> bool {
    let ordering = |literal: &Literal, accept: fn(Ordering) -> bool| {
        any_element(&found.value, |value| literal.compare(value, found.is_date).is_some_and(accept))
    };
    match test {
        Test::Exists => true,
        Test::NotExists => false,
        Test::Equal(right) => any_element(&found.value, |value| equals(right, value, found.is_date)),
        // A date that is null is no date, and not other than null either.
        Test::NotEqual(right) if found.is_date && found.value.is_null() && right.names_null() => false,
        Test::NotEqual(right) => !any_element(&found.value, |value| equals(right, value, found.is_date)),
        Test::Greater(literal) => ordering(literal, Ordering::is_gt),
        Test::Less(literal) => ordering(literal, Ordering::is_lt),
        Test::GreaterOrEqual(literal) => ordering(literal, Ordering::is_ge),
        Test::LessOrEqual(literal) => ordering(literal, Ordering::is_le),
        // A date is no text.
        Test::Match(_) if found.is_date => false,
        Test::Match(pattern) => {
            any_element(&found.value, |value| value.as_str().is_some_and(|text| pattern.is_match(text)))
        }
    }
}

/// The value itself, or for an array any of its elements.
fn any_element(value: &Value, test: impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(test),
        value => test(value),
    }
}

fn equals(right: &RightHandSide, value: &Value, is_date: bool) -> bool {
    let is = |literal: &Literal| literal.compare(value, is_date) == Some(Ordering::Equal);
    match right {
        RightHandSide::Single(literal) => is(literal),
        RightHandSide::List(list) => list.iter().any(is),
        RightHandSide::Range(from, to) => {
            from.compare(value, is_date).is_some_and(Ordering::is_ge)
                && to.compare(value, is_date).is_some_and(Ordering::is_le)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueryKind;
    use super::*;
    use serde_json::json;

    fn entity() -> Entity {
        let attributes = json!({
            "n": {"type": "Number", "value": 20, "metadata": {"acc": {"type": "Number", "value": 0.5}}},
            "s": {"type": "Text", "value": "warm day"},
            "digits": {"type": "Text", "value": "20"},
            "b": {"type": "Boolean", "value": true},
            "z": {"type": "None", "value": null},
            "list": {"type": "StructuredValue", "value": [1, 2, "x"]},
            "o": {"type": "StructuredValue", "value": {"k": {"x.y": 7}}},
            "a.b": {"type": "Number", "value": 1},
            "d": {"type": "DateTime", "value": "2026-01-31T10:00:00.000Z"},
            "dz": {"type": "DateTime", "value": null}
        });
        Entity {
            id: "E".to_owned(),
            entity_type: "T".to_owned(),
            path: scope::ServicePath::parse("/a").unwrap(),
            attributes: serde_json::from_value(attributes).unwrap(),
            created_us: 1_000_000,
            modified_us: 2_000_000,
            version: 1,
        }
    }

    #[test]
    fn q_selects_as_the_contract_says() {
        for (text, expected) in [
            ("n", true),
            ("missing", false),
            ("!missing", true),
            ("!n", false),
            ("n==20", true),
            ("n:20", true),
            ("n==20.0", true),
            ("n=='20'", false),
            ("digits==20", false),
            ("digits=='20'", true),
            ("n!=20", false),
            ("n!=21", true),
            ("missing!=1", false),
            ("n!=19,20", false),
            ("n==19,20", true),
            ("n==10..20", true),
            ("n==21..30", false),
            ("n!=21..30", true),
            ("n>19;n<21", true),
            ("n>19;n<20", false),
            ("n>=20;n<=20;", true),
            ("s>a", true),
            ("s>5", false),
            ("s==warm day", true),
            (" s == warm day ", true),
            ("s~=rm d", true),
            ("s~=^d", false),
            ("n~=2", false),
            ("b==true", true),
            ("b==false", false),
            ("z==null", true),
            ("n==null", false),
            ("list==2", true),
            ("list==x", true),
            ("list==9,x", true),
            ("list!=2", false),
            ("o.k.'x.y'==7", true),
            ("o.k.x==7", false),
            ("'a.b'==1", true),
            ("a.b==1", false),
            ("d==2026-01-31T10:00:00Z", true),
            ("d>2026-01-31", true),
            ("d==2026-01-31..2026-02-01", true),
            ("d<2026-01-31T12:00:00+02:00", false),
            ("dz>2026-01-31", false),
            ("dz==null", false),
            ("dateCreated<1970-01-02", true),
            ("dateModified>1970-01-02", false),
            ("servicePath==/a", true),
        ] {
            let expression = Expression::parse(text, QueryKind::Attributes).unwrap();
            assert_eq!(expression.matches(&entity()), expected, "{text}");
        }
    }

    #[test]
    fn mq_selects_by_metadata() {
        for (text, expected) in [
            ("n.acc", true),
            ("s.acc", false),
            ("!s.acc", true),
            ("n.acc<1", true),
            ("n.acc>1", false),
            ("n.dateCreated<1971-01-01", true),
        ] {
            let expression = Expression::parse(text, QueryKind::Metadata).unwrap();
            assert_eq!(expression.matches(&entity()), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn comparisons_of_numbers_are_those_of_numbers(stored in -50_i32..50, operand in -50_i32..50, half in proptest::bool::ANY) {
            let operand = f64::from(operand) + if half { 0.5 } else { 0.0 };
            let stored = f64::from(stored);
            let mut entity = entity();
            entity.attributes["n"].value = crate::parse::canonical_number(serde_json::Number::from_f64(stored).unwrap());
            for (operator, expected) in [
                ("==", stored == operand),
                ("!=", stored != operand),
                (">", stored > operand),
                ("<", stored < operand),
                (">=", stored >= operand),
                ("<=", stored <= operand),
            ] {
                let expression = Expression::parse(&format!("n{operator}{operand}"), QueryKind::Attributes).unwrap();
                proptest::prop_assert_eq!(expression.matches(&entity), expected, "{} {} {}", stored, operator, operand);
            }
        }
    }
}
