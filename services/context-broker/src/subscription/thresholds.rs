//! Subscriptions by what their `q` asks of one attribute's value, so that those that it keeps out are not looked at.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
};

use ngsi::query::{Condition, Range, Scalar, StoreTest};
use serde_json::Value;

use super::index::Slot;

/// What a `q` asks of one attribute, as far as it can be looked up: the value is an array, or within one of the ranges.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) attribute: String,
    ranges: Vec<Bounds>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bounds {
    /// Both ends included.
    Numbers {
        low: Option<f64>,
        high: Option<f64>,
    },
    Text(String),
}

impl Filter {
    /// The filter of the first of `conditions` that has one; all of them must hold.
    pub(super) fn of(conditions: Vec<Condition>) -> Option<Self> {
        conditions.into_iter().find_map(|condition| {
            let StoreTest::Within(ranges) = condition.test else { return None };
            let ranges = ranges.into_iter().map(Bounds::of).collect::<Option<_>>()?;
            let [attribute, _value] = <[String; 2]>::try_from(condition.path).ok()?;
            Some(Self { attribute, ranges })
        })
    }
}

impl Bounds {
    fn of(range: Range) -> Option<Self> {
        let number = |scalar| match scalar {
            Some(Scalar::Number(number)) => Some(Some(number)),
            None => Some(None),
            Some(_) => None,
        };
        match (range.low, range.high) {
            (Some(Scalar::Text(low)), Some(Scalar::Text(high))) if low == high => Some(Self::Text(low)),
            (low, high) => Some(Self::Numbers { low: number(low)?, high: number(high)? }),
        }
    }
}

/// Subscriptions that ask something of the same attribute.
#[derive(Debug, Default)]
pub(super) struct Thresholds {
    /// By the low end of their range, if it has one; what is between two ends is looked at here.
    above: BTreeSet<(Ordered, Ordered, Slot)>,
    /// By the high end, where that is the only one.
    below: BTreeSet<(Ordered, Slot)>,
    /// By the one value.
    exactly: BTreeSet<(Ordered, Slot)>,
    /// By the hash of the text: what has the same hash by chance is sorted out by whoever looks at the candidates.
    texts: BTreeSet<(u64, Slot)>,
}

impl Thresholds {
    pub(super) fn add(&mut self, filter: &Filter, slot: Slot, hasher: &RandomState) {
        for bounds in &filter.ranges {
            match Place::of(bounds, hasher) {
                Place::Above(low, high) => self.above.insert((low, high, slot)),
                Place::Below(high) => self.below.insert((high, slot)),
                Place::Exactly(value) => self.exactly.insert((value, slot)),
                Place::Text(hash) => self.texts.insert((hash, slot)),
            };
        }
    }

    pub(super) fn remove(&mut self, filter: &Filter, slot: Slot, hasher: &RandomState) {
        for bounds in &filter.ranges {
            match Place::of(bounds, hasher) {
                Place::Above(low, high) => self.above.remove(&(low, high, slot)),
                Place::Below(high) => self.below.remove(&(high, slot)),
                Place::Exactly(value) => self.exactly.remove(&(value, slot)),
                Place::Text(hash) => self.texts.remove(&(hash, slot)),
            };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.above.is_empty() && self.below.is_empty() && self.exactly.is_empty() && self.texts.is_empty()
    }

    /// Adds those to `found` that may let `value` through.
    pub(super) fn find(&self, value: &Value, hasher: &RandomState, found: &mut Vec<Slot>) {
        match value {
            // Any element may do.
            Value::Array(_) => {
                found.extend(self.above.iter().map(|(_, _, slot)| slot));
                found.extend(self.below.iter().chain(&self.exactly).map(|(_, slot)| slot));
                found.extend(self.texts.iter().map(|(_, slot)| slot));
            }
            Value::Number(number) => {
                let value = Ordered::from(number.as_f64().unwrap_or_default());
                let above = self.above.range(..=(value, Ordered::MAX, Slot::MAX));
                found.extend(above.filter(|(_, high, _)| *high >= value).map(|(_, _, slot)| slot));
                found.extend(self.below.range((value, 0)..).map(|(_, slot)| slot));
                found.extend(self.exactly.range((value, 0)..=(value, Slot::MAX)).map(|(_, slot)| slot));
            }
            Value::String(text) => {
                let hash = hasher.hash_one(text.as_str());
                found.extend(self.texts.range((hash, 0)..=(hash, Slot::MAX)).map(|(_, slot)| slot));
            }
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
    }
}

/// Where bounds are kept.
enum Place {
    Above(Ordered, Ordered),
    Below(Ordered),
    Exactly(Ordered),
    Text(u64),
}

impl Place {
    fn of(bounds: &Bounds, hasher: &RandomState) -> Self {
        match bounds {
            Bounds::Text(text) => Self::Text(hasher.hash_one(text.as_str())),
            Bounds::Numbers { low: None, high } => Self::Below(high.map_or(Ordered::MAX, Ordered::from)),
            Bounds::Numbers { low: Some(low), high: None } => Self::Above((*low).into(), Ordered::MAX),
            Bounds::Numbers { low: Some(low), high: Some(high) } if low == high => {
                Self::Exactly((*low).into())
            }
            Bounds::Numbers { low: Some(low), high: Some(high) } => {
                Self::Above((*low).into(), (*high).into())
            }
        }
    }
}

/// A number whose bits sort as it does. Both zeros are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ordered(u64);

impl Ordered {
    const MAX: Self = Self(u64::MAX);
}

impl From<f64> for Ordered {
    fn from(number: f64) -> Self {
        let bits = if number == 0.0 { 0.0_f64.to_bits() } else { number.to_bits() };
        Self(if bits >> 63 == 0 { bits | 1 << 63 } else { !bits })
    }
}

#[cfg(test)]
mod tests {
    use ngsi::query::{Expression, QueryKind};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn filter(q: &str) -> Option<Filter> {
        Filter::of(Expression::parse(q, QueryKind::Attributes).unwrap().conditions())
    }

    #[test]
    fn what_can_not_be_looked_up_has_no_filter() {
        for q in ["a", "!a", "a!=1", "a~=x", "a>x", "a.k>1", "dateCreated>2026-01-01", "a==true", "a==1,true"]
        {
            assert_eq!(filter(q), None, "{q}");
        }
        assert_eq!(filter("b;a>1;c==2"), filter("a>1"));
    }

    #[test]
    fn numbers_sort_as_they_are() {
        let numbers = [f64::MIN, -2.5, -0.001, 0.0, 0.001, 2.5, 1e300];
        assert!(numbers.map(Ordered::from).is_sorted());
        assert_eq!(Ordered::from(0.0), Ordered::from(-0.0));
    }

    fn queries() -> impl Strategy<Value = String> {
        let number = || (-3_i32..4).prop_map(|n| format!("{}", f64::from(n) / 2.0));
        let text = || "[xyz]{1,2}";
        prop_oneof![
            (prop_oneof!["<", ">", "<=", ">=", "=="].prop_map(String::from), number())
                .prop_map(|(op, n)| format!("a{op}{n}")),
            (number(), number()).prop_map(|(low, high)| format!("a=={low}..{high}")),
            (number(), text()).prop_map(|(n, t)| format!("a=={n},{t}")),
            text().prop_map(|t| format!("a=={t}")),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = || {
            prop_oneof![
                (-6_i32..8).prop_map(|n| json!(f64::from(n) / 4.0)),
                (-2_i32..3).prop_map(|n| json!(n)),
                "[xyz]{1,2}".prop_map(|t| json!(t)),
                Just(json!(-0.0)),
                Just(json!(null)),
                Just(json!(true)),
            ]
        };
        prop_oneof![scalar(), prop::collection::vec(scalar(), 0..3).prop_map(Value::from)]
    }

    proptest! {
        #[test]
        fn whatever_a_query_lets_through_is_found(
            all in prop::collection::vec(queries(), 1..20),
            value in values(),
            gone in 0_usize..20,
        ) {
            let (hasher, mut thresholds) = (RandomState::new(), Thresholds::default());
            for (slot, q) in (0..).zip(&all) {
                thresholds.add(&filter(q).unwrap(), slot, &hasher);
            }
            if let Some(q) = all.get(gone) {
                thresholds.remove(&filter(q).unwrap(), Slot::try_from(gone).unwrap(), &hasher);
            }
            let mut found = Vec::new();
            thresholds.find(&value, &hasher, &mut found);
            let attributes = json!({"a": {"type": "T", "value": value}});
            let entity = ngsi::Entity {
                id: "e".to_owned(),
                entity_type: "T".to_owned(),
                path: scope::ServicePath::root(),
                attributes: serde_json::from_value(attributes).unwrap(),
                created_us: 0,
                modified_us: 0,
                version: 1,
            };
            for (slot, q) in (0..).zip(&all) {
                let lets_through = Expression::parse(q, QueryKind::Attributes).unwrap().matches(&entity);
                let is_there = slot as usize != gone;
                prop_assert!(!lets_through || !is_there || found.contains(&slot), "{q} lets {value} through");
                prop_assert!(is_there || !found.contains(&slot), "{q} is gone");
            }
            for (slot, q) in (0..).zip(&all) {
                thresholds.remove(&filter(q).unwrap(), slot, &hasher);
            }
            prop_assert!(thresholds.is_empty());
        }
    }
}
