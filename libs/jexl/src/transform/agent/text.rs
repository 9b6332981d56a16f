use std::fmt::Write;

use serde_json::Value;

use super::super::{Call, null};
use crate::{
    EvaluationError,
    evaluate::Evaluated,
    pattern::{Style, expand},
    value::{Operand, json_text, number_of, text_of, units_of},
};

/// What `encodeURI` leaves as it is beside letters and digits.
const UNESCAPED: &[u8] = b";,/?:@&=+$-_.!~*'()#";
/// What `decodeURI` leaves encoded.
const RESERVED: &[u8] = b";/?:@&=+$,#";

fn text<'c>(operand: &'c Operand<'_>) -> Result<&'c str, EvaluationError> {
    operand.as_text().ok_or(EvaluationError::WrongKind)
}

pub(super) fn json_parse<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let Ok(value) = serde_json::from_str::<Value>(&text_of(&call.subject)) else { return null() };
    call.evaluation.budget.value(&value)?;
    Ok(Operand::owned(value))
}

pub(super) fn json_stringify<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(json_text(&call.subject.into_value())))
}

/// `indexOf(part)`: -1 when it is not there.
pub(super) fn index_of<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (subject, part) = (text_of(&call.subject), text_of(call.argument(0)));
    let place = subject.split_once(part.as_ref()).map(|(before, _)| Operand::count(units_of(before)));
    Ok(place.unwrap_or(Operand::int(-1)))
}

pub(super) fn length<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::count(units_of(&text_of(&call.subject))))
}

pub(super) fn trim<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(text_of(&call.subject).trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')))
}

/// `substr(start, length)`: a negative start counts from the end.
pub(super) fn substr<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = text_of(&call.subject);
    let units: Vec<u16> = subject.encode_utf16().collect();
    let size = i64::try_from(units.len()).unwrap_or(i64::MAX);
    let whole = |operand: &Operand<'_>| number_of(operand).truncated();
    let start = whole(call.argument(0));
    let start = if start < 0 { size.saturating_add(start).max(0) } else { start.min(size) };
    let count = match call.argument(1) {
        Operand::Undefined => size,
        length => whole(length),
    };
    let end = start.saturating_add(count.max(0)).min(size);
    let place = |at: i64| usize::try_from(at).unwrap_or_default();
    let part = units.get(place(start)..place(end)).unwrap_or_default();
    Ok(Operand::text(String::from_utf16_lossy(part)))
}

pub(super) fn to_string<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    if call.subject.is_nothing() {
        return Err(EvaluationError::WrongKind);
    }
    Ok(Operand::text(text_of(&call.subject)))
}

pub(super) fn to_upper_case<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(text_of(&call.subject).to_uppercase()))
}

pub(super) fn to_lower_case<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::text(text_of(&call.subject).to_lowercase()))
}

pub(super) fn url_encode<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = text_of(&call.subject);
    let mut out = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || UNESCAPED.contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string never fails");
        }
    }
    Ok(Operand::text(out))
}

/// Fails on a malformed escape.
pub(super) fn url_decode<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = text_of(&call.subject);
    let mut out = Vec::with_capacity(subject.len());
    let mut rest = subject.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(EvaluationError::WrongKind)?;
        let decoded = hex_byte(digits).filter(|_| digits.len() == 2).ok_or(EvaluationError::WrongKind)?;
        rest = after;
        if RESERVED.contains(&decoded) {
            out.push(b'%');
            out.extend_from_slice(digits);
        } else {
            out.push(decoded);
        }
    }
    String::from_utf8(out).map(Operand::text).map_err(|_| EvaluationError::WrongKind)
}

/// One or two hexadecimal digits.
fn hex_byte(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| {
        let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())?;
        Some(value << 4 | digit)
    })
}

/// `replacestr(from, to)`: the first.
pub(super) fn replace_str<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = text(&call.subject)?;
    let (from, to) = (call.argument(0).clone(), call.argument(1).clone());
    let (from, to) = (text_of(&from), text_of(&to));
    let Some((before, after)) = subject.split_once(from.as_ref()) else { return Ok(Operand::text(subject)) };
    let dollars = to.matches("$&").count();
    call.evaluation.budget.bytes(subject.len() + to.len() + dollars.saturating_mul(from.len()))?;
    let mut out = before.to_owned();
    expand(&mut out, &to, &from, None);
    out.push_str(after);
    Ok(Operand::text(out))
}

/// `replaceallstr(from, to)`: everywhere.
pub(super) fn replace_all_str<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let subject = call.subject.clone();
    let (from, to) = (call.argument(0).clone(), call.argument(1).clone());
    let replaced = call.replace_all_text(text(&subject)?, &text_of(&from), &text_of(&to))?;
    Ok(Operand::text(replaced))
}

/// `replaceregexp(pattern, to)`: the first match.
pub(super) fn replace_regexp<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    replace_matches(call, false)
}

/// `replaceallregexp(pattern, to)`: all matches.
pub(super) fn replace_all_regexp<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    replace_matches(call, true)
}

fn replace_matches<'a>(mut call: Call<'_, 'a, '_>, all: bool) -> Evaluated<'a> {
    let pattern = call.compiled()?.ok_or(EvaluationError::WrongKind)?;
    let subject = text(&call.subject)?;
    let to = call.argument(1).clone();
    let replaced = pattern.replace(subject, &text_of(&to), (Style::Agent, all), call.evaluation.budget)?;
    Ok(Operand::text(replaced))
}

/// `split(separator)`; an empty separator splits between the characters, none not at all.
pub(super) fn split<'a>(mut call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let (subject, separator) = (call.subject.clone(), call.argument(0).clone());
    let subject = text(&subject)?;
    match text_of(&separator).as_ref() {
        "" => call.texts(subject.split_inclusive(|_: char| true)),
        _ if matches!(separator, Operand::Undefined) => call.texts(std::iter::once(subject)),
        separator => call.texts(subject.split(separator)),
    }
}

/// The text whose UTF-8 bytes the hexadecimal digits are; null for other characters.
pub(super) fn hex_to_string<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let Some(digits) = call.subject.as_text().filter(|digits| !digits.is_empty()) else { return null() };
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(hex_byte).collect();
    Ok(bytes.map_or(Operand::NULL, |bytes| Operand::text(String::from_utf8_lossy(&bytes))))
}

/// `h = 31 h + unit` over the UTF-16 units of the text, in 32 bits; the digits of its absolute value.
pub(super) fn hash<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let hash = text_of(&call.subject)
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    Ok(Operand::text(format!("{:08X}", hash.unsigned_abs())))
}
