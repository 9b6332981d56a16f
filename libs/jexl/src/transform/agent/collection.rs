use std::collections::HashSet;

use serde_json::Value;

use super::super::{Call, or_null};
use crate::{
    EvaluationError,
    evaluate::Evaluated,
    value::{Operand, is_less, joined, json_text, loosely_equal, number_of, same, text_of, units_of},
};

fn array<'c>(operand: &'c Operand<'_>) -> Result<&'c [Value], EvaluationError> {
    operand.as_array().ok_or(EvaluationError::WrongKind)
}

/// The sum of an array, or its texts joined.
pub(super) fn add_reduce<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let mut items = array(&call.subject)?.iter().map(|item| Operand::owned(item.clone()));
    let first = items.next().ok_or(EvaluationError::WrongKind)?;
    items.try_fold(first, |sum, item| call.evaluation.add(&sum, &item))
}

pub(super) fn length_array<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(match call.subject.as_text() {
        Some(text) => Some(Operand::count(units_of(text))),
        None => call.subject.as_array().map(|items| Operand::count(items.len())),
    })
}

pub(super) fn type_of<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(match &call.subject {
        Operand::Undefined => "undefined",
        Operand::Number(_) => "number",
        Operand::Json(value) => match value.as_ref() {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Null | Value::Array(_) | Value::Object(_) => "object",
        },
    }))
}

pub(super) fn is_array<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::bool(call.subject.as_array().is_some()))
}

/// `joinarrtostr(separator)`.
pub(super) fn join<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let items = array(&call.subject)?;
    let separator = match call.arguments.first() {
        None | Some(Operand::Undefined) => ",".into(),
        Some(separator) => text_of(separator),
    };
    call.evaluation.budget.bytes(items.len().saturating_mul(separator.len()))?;
    Ok(Operand::text(joined(items, &separator)))
}

/// `concatarr(array)`; anything else than an array is one element more.
pub(super) fn concat<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let mut items = array(&call.subject)?.to_vec();
    let more = if call.arguments.is_empty() { Operand::Undefined } else { call.arguments.swap_remove(0) };
    match more.into_value() {
        Value::Array(more) => items.extend(more),
        one => items.push(one),
    }
    Ok(Operand::owned(Value::Array(items)))
}

/// `mapper(keys, values)`: the value at the place of the key that is the same.
pub(super) fn mapper<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (keys, values) = (array(call.argument(0))?, array(call.argument(1))?);
    let place = keys.iter().position(|key| same(&Operand::borrowed(key), &call.subject));
    or_null(place.and_then(|place| values.get(place)).cloned().map(Operand::owned))
}

/// `thmapper(limits, values)`: the value at the place of the first limit that is not below the operand.
pub(super) fn th_mapper<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (limits, values) = (array(call.argument(0))?, array(call.argument(1))?);
    let place = limits.iter().position(|limit| {
        let limit = Operand::borrowed(limit);
        is_less(&call.subject, &limit)
            || loosely_equal(&call.subject, &limit)
            || number_of(&call.subject) == number_of(&limit)
    });
    or_null(place.and_then(|place| values.get(place)).cloned().map(Operand::owned))
}

/// `slice(from, to)` of an array or a text; negative places count from the end.
pub(super) fn slice<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let bounds = |size: usize| {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let place = |operand: &Operand<'_>, default: i64| {
            let at = match operand {
                Operand::Undefined => default,
                at => number_of(at).truncated(),
            };
            if at < 0 { size.saturating_add(at).max(0) } else { at.min(size) }
        };
        let (from, to) = (place(call.argument(0), 0), place(call.argument(1), size));
        (usize::try_from(from).unwrap_or_default(), usize::try_from(to.max(from)).unwrap_or_default())
    };
    if let Some(text) = call.subject.as_text() {
        let units: Vec<u16> = text.encode_utf16().collect();
        let (from, to) = bounds(units.len());
        return Ok(Operand::text(String::from_utf16_lossy(units.get(from..to).unwrap_or_default())));
    }
    let items = array(&call.subject)?;
    let (from, to) = bounds(items.len());
    Ok(Operand::owned(Value::Array(items.get(from..to).unwrap_or_default().to_vec())))
}

/// Each value once, in the order of its first place. Arrays and objects are the same when their content is.
fn distinct(items: &[Value]) -> Vec<Value> {
    let mut seen = HashSet::new();
    items.iter().filter(|item| seen.insert(json_text(item))).cloned().collect()
}

/// `addset(element)`.
pub(super) fn add_to_set<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let mut items = array(&call.subject)?.to_vec();
    if !call.arguments.is_empty() {
        items.push(call.arguments.swap_remove(0).into_value());
    }
    Ok(Operand::owned(Value::Array(distinct(&items))))
}

/// `removeset(element)`.
pub(super) fn remove_from_set<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let mut items = distinct(array(&call.subject)?);
    items.retain(|item| !same(&Operand::borrowed(item), call.argument(0)));
    Ok(Operand::owned(Value::Array(items)))
}

/// `valuePicker(value)`: the keys that have it.
pub(super) fn value_picker<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    keys_where(&call, |value| same(value, call.argument(0)))
}

/// `valuePickerMulti(values)`: the keys that have one of them.
pub(super) fn value_picker_multi<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let wanted = array(call.argument(0))?.to_vec();
    for one in &wanted {
        // each is compared with all that the subject has
        call.evaluation.budget.value(one)?;
        call.evaluation.pay_for_reading(&call.subject)?;
    }
    call.arguments.clear();
    keys_where(&call, |value| wanted.iter().any(|one| same(value, &Operand::borrowed(one))))
}

/// The places of an array are its keys; other values have none.
fn keys_where<'a>(call: &Call<'_, 'a, '_>, is_wanted: impl Fn(&Operand<'_>) -> bool) -> Evaluated<'a> {
    let is_wanted = |value: &Value| is_wanted(&Operand::borrowed(value));
    let keys: Vec<String> = match &call.subject {
        Operand::Json(value) => match value.as_ref() {
            Value::Object(members) => {
                members.iter().filter(|(_, value)| is_wanted(value)).map(|(key, _)| key.clone()).collect()
            }
            Value::Array(items) => {
                let places = items.iter().enumerate().filter(|(_, value)| is_wanted(value));
                places.map(|(place, _)| place.to_string()).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    Ok(Operand::owned(Value::from(keys)))
}
