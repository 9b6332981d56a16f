use serde_json::Value;

use super::super::{Call, null, or_null};
use crate::{
    evaluate::Evaluated,
    value::{Number, Operand, equal},
};

/// `mapper(values, choices)`: the choice at the place where the text is among the values.
pub(super) fn mapper<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    if call.subject.as_text().is_none() { null() } else { mapped(call, Value::is_string) }
}

/// `nMapper(values, choices)`: as `mapper`, of numbers.
pub(super) fn n_mapper<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    if call.subject.as_number().is_none() { null() } else { mapped(call, Value::is_number) }
}

fn mapped<'a>(call: Call<'_, 'a, '_>, is_good: impl Fn(&Value) -> bool) -> Evaluated<'a> {
    let (Some(values), Some(choices)) = (call.argument(0).as_array(), call.argument(1).as_array()) else {
        return null();
    };
    if values.len() != choices.len() || !values.iter().all(is_good) {
        return null();
    }
    let place = values.iter().position(|value| equal(&Operand::borrowed(value), &call.subject));
    or_null(place.and_then(|place| choices.get(place)).cloned().map(Operand::owned))
}

/// `thMapper(thresholds, choices)`: the choice at the place of the first threshold above the number; the last one if there
/// is none.
pub(super) fn th_mapper<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (Some(number), Some(thresholds), Some(choices)) =
        (call.subject.as_number(), numbers(call.argument(0)), call.argument(1).as_array())
    else {
        return null();
    };
    if choices.len() != thresholds.len() + 1 {
        return null();
    }
    let place = thresholds.iter().position(|limit| number.is_less(*limit)).unwrap_or(thresholds.len());
    or_null(choices.get(place).cloned().map(Operand::owned))
}

pub(super) fn values<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(
        members(&call.subject)
            .map(|members| Value::Array(members.values().cloned().collect()))
            .map(Operand::owned),
    )
}

pub(super) fn keys<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(
        members(&call.subject).map(|members| Value::from_iter(members.keys().cloned())).map(Operand::owned),
    )
}

fn members<'b>(operand: &'b Operand<'_>) -> Option<&'b serde_json::Map<String, Value>> {
    match operand {
        Operand::Json(value) => value.as_object(),
        _ => None,
    }
}

fn numbers(operand: &Operand<'_>) -> Option<Vec<Number>> {
    operand.as_array()?.iter().map(Number::of).collect()
}

/// Of an array of numbers that is not empty.
fn of_numbers<'a>(
    call: &Call<'_, 'a, '_>,
    fold: impl FnOnce(Vec<Number>) -> Option<Number>,
) -> Evaluated<'a> {
    or_null(numbers(&call.subject).filter(|list| !list.is_empty()).and_then(fold).map(Operand::Number))
}

fn total(list: &[Number]) -> Number {
    list.iter().fold(Number::Int(0), |sum, number| sum.plus(*number))
}

fn count(list: &[Number]) -> Number {
    Number::Int(i64::try_from(list.len()).unwrap_or(i64::MAX))
}

pub(super) fn sum<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    of_numbers(&call, |list| Some(total(&list)))
}

pub(super) fn average<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    of_numbers(&call, |list| Some(total(&list).divided(count(&list))))
}

pub(super) fn max<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    of_numbers(&call, |list| list.into_iter().reduce(|a, b| if a.is_less(b) { b } else { a }))
}

pub(super) fn min<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    of_numbers(&call, |list| list.into_iter().reduce(|a, b| if b.is_less(a) { b } else { a }))
}

fn sorted(mut list: Vec<Number>) -> Vec<Number> {
    list.sort_by(|a, b| a.float().total_cmp(&b.float()));
    list
}

/// The one in the middle of the sorted array; of two, their mean.
pub(super) fn median<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    of_numbers(&call, |list| {
        let list = sorted(list);
        let middle = list.get((list.len() - 1) / 2..=list.len() / 2)?;
        Some(total(middle).divided(count(middle)))
    })
}

pub(super) fn sort<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let list = numbers(&call.subject).filter(|list| !list.is_empty()).map(sorted);
    or_null(list.map(|list| Operand::owned(list.into_iter().map(Number::into_value).collect())))
}

/// Of any array.
pub(super) fn reverse<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(call.subject.as_array().map(|items| Operand::owned(items.iter().rev().cloned().collect())))
}
