//! The order of results (ngsi-v2.md 7, Order and pages).

use std::cmp::Ordering;

use serde_json::Value;

use crate::{Entity, Error};

const MAX_KEYS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderKey {
    pub token: OrderToken,
    pub descending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderToken {
    Id,
    Type,
    Created,
    Modified,
    Path,
    /// `geo:distance`, in a query about what is near; in others it orders nothing.
    Distance,
    Attribute(String),
}

/// Reads `orderBy`: names separated by commas, `!` before a name for descending order.
pub fn parse_order(text: &str) -> Result<Vec<OrderKey>, Error> {
    let mut keys: Vec<OrderKey> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (name, descending) = match part.strip_prefix('!') {
            Some(name) => (name, true),
            None => (part, false),
        };
        if name.is_empty() {
            return Err(Error::bad_request("Empty right-hand-side for URI param /orderBy/"));
        }
        let token = match name {
            "id" => OrderToken::Id,
            "type" => OrderToken::Type,
            "dateCreated" => OrderToken::Created,
            "dateModified" => OrderToken::Modified,
            "servicePath" => OrderToken::Path,
            "geo:distance" => OrderToken::Distance,
            other => OrderToken::Attribute(other.to_owned()),
        };
        if keys.iter().any(|key| key.token == token) {
            return Err(Error::bad_request("duplicate orderBy token detected"));
        }
        keys.push(OrderKey { token, descending });
    }
    if keys.len() > MAX_KEYS {
        return Err(Error::bad_request(format!("too many orderBy tokens, max: {MAX_KEYS}")));
    }
    Ok(keys)
}

/// Compares by the keys; ties are broken by creation time, then id. `distances`: of `a` and `b`, in metres.
pub(super) fn compare_entities(a: &Entity, b: &Entity, keys: &[OrderKey], distances: (f64, f64)) -> Ordering {
    for key in keys {
        let ordering = match &key.token {
            OrderToken::Id => a.id.cmp(&b.id),
            OrderToken::Type => a.entity_type.cmp(&b.entity_type),
            OrderToken::Created => a.created_us.cmp(&b.created_us),
            OrderToken::Modified => a.modified_us.cmp(&b.modified_us),
            OrderToken::Path => a.path.cmp(&b.path),
            OrderToken::Distance => distances.0.total_cmp(&distances.1),
            OrderToken::Attribute(name) => compare_values(attribute_value(a, name), attribute_value(b, name)),
        };
        let ordering = if key.descending { ordering.reverse() } else { ordering };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    (a.created_us, &a.id, &a.entity_type, &a.path).cmp(&(b.created_us, &b.id, &b.entity_type, &b.path))
}

/// A missing attribute sorts as null.
fn attribute_value<'a>(entity: &'a Entity, name: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    entity.attributes.get(name).map_or(&NULL, |attribute| &attribute.value)
}

/// Total order over values: null, number, string, object, array, boolean.
pub fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or_default().total_cmp(&y.as_f64().unwrap_or_default()),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => {
            let pairs = x.iter().zip(y).map(|(x, y)| compare_values(x, y));
            pairs.into_iter().find(|o| *o != Ordering::Equal).unwrap_or_else(|| x.len().cmp(&y.len()))
        }
        (Value::Object(x), Value::Object(y)) => {
            let pairs = x.iter().zip(y).map(|((k, x), (l, y))| k.cmp(l).then_with(|| compare_values(x, y)));
            pairs.into_iter().find(|o| *o != Ordering::Equal).unwrap_or_else(|| x.len().cmp(&y.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_by_is_read_and_repeats_are_refused() {
        let keys = parse_order("!level,id").unwrap();
        assert_eq!(keys[0], OrderKey { token: OrderToken::Attribute("level".to_owned()), descending: true });
        assert_eq!(keys[1], OrderKey { token: OrderToken::Id, descending: false });
        assert_eq!(parse_order("a,!a").unwrap_err().description, "duplicate orderBy token detected");
        assert!(parse_order("a,,b").is_err());
    }

    #[test]
    fn mixed_types_sort_as_the_contract_says() {
        let mut values =
            vec![json!(true), json!([1]), json!({"a":1}), json!("s"), json!(3), json!(null), json!(-1)];
        values.sort_by(compare_values);
        assert_eq!(
            values,
            [json!(null), json!(-1), json!(3), json!("s"), json!({"a":1}), json!([1]), json!(true)]
        );
    }
}
