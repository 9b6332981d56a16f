use serde_json::Value;

use super::super::{Call, null, or_null};
use crate::{
    evaluate::Evaluated,
    pattern::Style,
    value::{Operand, json_text, text_of},
};

pub(super) fn uppercase<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(call.subject.as_text().map(|text| Operand::text(text.to_uppercase())))
}

pub(super) fn lowercase<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(call.subject.as_text().map(|text| Operand::text(text.to_lowercase())))
}

pub(super) fn trim<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(call.subject.as_text().map(|text| Operand::text(text.trim())))
}

pub(super) fn len<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(call.subject.as_text().map(|text| Operand::count(text.chars().count())))
}

/// `split(separator)`; an empty separator splits between the characters.
pub(super) fn split<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = call.subject.clone();
    let separator = call.argument(0).clone();
    match (subject.as_text(), separator.as_text()) {
        (Some(text), Some("")) => call.texts(text.split_inclusive(|_: char| true)),
        (Some(text), Some(separator)) => call.texts(text.split(separator)),
        _ => null(),
    }
}

/// `indexOf(part)`: characters before the part.
pub(super) fn index_of<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (Some(text), Some(part)) = (call.subject.as_text(), call.argument(0).as_text()) else {
        return null();
    };
    or_null(text.split_once(part).map(|(before, _)| Operand::count(before.chars().count())))
}

/// `substring(from, to)`: without the character at `to`.
pub(super) fn substring<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let place = |at: usize| usize::try_from(call.argument(at).as_number()?.whole()?).ok();
    let (Some(text), Some(from), Some(to)) = (call.subject.as_text(), place(0), place(1)) else {
        return null();
    };
    if from > to || to > text.chars().count() {
        return null();
    }
    Ok(Operand::text(text.chars().skip(from).take(to - from).collect::<String>()))
}

pub(super) fn includes<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (Some(text), Some(part)) = (call.subject.as_text(), call.argument(0).as_text()) else {
        return null();
    };
    Ok(Operand::bool(text.contains(part)))
}

/// `replaceStr(from, to)`: everywhere.
pub(super) fn replace_str<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (subject, from, to) = (call.subject.clone(), call.argument(0).clone(), call.argument(1).clone());
    match (subject.as_text(), from.as_text(), to.as_text()) {
        (Some(text), Some(from), Some(to)) => Ok(Operand::text(call.replace_all_text(text, from, to)?)),
        _ => null(),
    }
}

/// `replaceRegex(pattern, to)`: everywhere.
pub(super) fn replace_regex<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let Some(pattern) = call.compiled()? else { return null() };
    let to = call.argument(1).clone();
    match (call.subject.as_text(), to.as_text()) {
        (Some(text), Some(to)) => {
            let replaced = pattern.replace(text, to, (Style::Broker, true), call.evaluation.budget)?;
            Ok(Operand::text(replaced))
        }
        _ => null(),
    }
}

/// `matchRegex(pattern)`: all that matches.
pub(super) fn match_regex<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let Some(pattern) = call.compiled()? else { return null() };
    let Some(text) = call.subject.as_text() else { return null() };
    let found = pattern.matches(text, call.evaluation.budget)?;
    Ok(Operand::owned(Value::from(found)))
}

/// Texts stay as they are, arrays and objects become JSON.
pub(super) fn to_string<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(match &call.subject {
        Operand::Json(value) if value.is_array() || value.is_object() => json_text(value),
        other => text_of(other).into_owned(),
    }))
}

pub(super) fn to_json<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let Some(text) = call.subject.as_text() else { return null() };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return null() };
    call.evaluation.budget.value(&value)?;
    Ok(Operand::owned(value))
}

pub(super) fn type_of<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(match &call.subject {
        Operand::Number(_) => "Number",
        Operand::Undefined => "Null",
        Operand::Json(value) => match value.as_ref() {
            Value::Null => "Null",
            Value::Bool(_) => "Boolean",
            Value::Number(_) => "Number",
            Value::String(_) => "String",
            Value::Array(_) => "Array",
            Value::Object(_) => "Object",
        },
    }))
}
