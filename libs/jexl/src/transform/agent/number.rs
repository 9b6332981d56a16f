use super::{
    super::{Call, or_null},
    rounding,
};
use crate::{
    EvaluationError,
    evaluate::Evaluated,
    value::{Number, Operand, number_of, text_of},
};

pub(super) fn is_nan<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::bool(number_of(&call.subject).float().is_nan()))
}

/// The decimal digits that the text begins with; null when there are none.
pub(super) fn parse_int<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(leading_int(&text_of(&call.subject)).map(Operand::Number))
}

fn leading_int(text: &str) -> Option<Number> {
    let text = text.trim_start();
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let digits = digits.get(..end).filter(|digits| !digits.is_empty())?;
    let number = match digits.parse() {
        Ok(whole) => Number::Int(whole),
        Err(_) => Number::from_float(digits.parse().ok()?),
    };
    Some(if is_negative { number.negated() } else { number })
}

/// The number that the text begins with; null when there is none.
pub(super) fn parse_float<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(leading_float(&text_of(&call.subject)).map(Operand::float))
}

fn leading_float(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let digits_from = |at: usize| {
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        at + rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let start = usize::from(text.starts_with(['+', '-']));
    let whole = digits_from(start);
    let mut end = whole;
    if text.get(whole..).is_some_and(|rest| rest.starts_with('.')) {
        let fraction = digits_from(whole + 1);
        if whole > start || fraction > whole + 1 {
            end = fraction;
        }
    }
    if end == start {
        return None;
    }
    if text.get(end..).is_some_and(|rest| rest.starts_with(['e', 'E'])) {
        let signed = usize::from(text.get(end + 1..).is_some_and(|rest| rest.starts_with(['+', '-'])));
        let exponent = digits_from(end + 1 + signed);
        if exponent > end + 1 + signed {
            end = exponent;
        }
    }
    text.get(..end)?.parse().ok()
}

pub(super) fn floor<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(whole(&call, f64::floor))
}

pub(super) fn ceil<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(whole(&call, f64::ceil))
}

/// Half goes up, also below zero.
pub(super) fn round<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(whole(&call, |value| {
        let floor = value.floor();
        if value - floor >= 0.5 { floor + 1.0 } else { floor }
    }))
}

fn whole<'a>(call: &Call<'_, 'a, '_>, change: impl FnOnce(f64) -> f64) -> Operand<'a> {
    match number_of(&call.subject) {
        Number::Int(whole) => Operand::int(whole),
        Number::Float(value) => Operand::float(change(value)),
    }
}

/// `tofixed(decimals)`: a text.
pub(super) fn to_fixed<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let decimals = usize::try_from(number_of(call.argument(0)).truncated()).ok().filter(|n| *n <= 100);
    let decimals = decimals.ok_or(EvaluationError::WrongKind)?;
    let value = leading_float(&text_of(&call.subject)).ok_or(EvaluationError::WrongKind)?;
    Ok(Operand::text(rounding::fixed(value, decimals)))
}

/// `bitwisemask(mask, operator, shift)`.
pub(super) fn bitwise_mask<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let value = leading_int(&text_of(&call.subject)).map_or(0, bits);
    let mask = bits(number_of(call.argument(0)));
    let masked = match call.argument(1).as_text() {
        Some("&") => value & mask,
        Some("|") => value | mask,
        Some("^") => value ^ mask,
        _ => bits(number_of(&call.subject)),
    };
    let shift = bits(number_of(call.argument(2))) & 31;
    Ok(Operand::int(i64::from(masked >> shift)))
}

/// The lowest 32 bits of a number, as JavaScript takes them.
#[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
fn bits(number: Number) -> i32 {
    match number {
        Number::Int(whole) => whole as i32,
        Number::Float(value) if value.is_finite() => (value.trunc() % 4_294_967_296.0) as i64 as i32,
        Number::Float(_) => 0,
    }
}
