use super::super::{Call, null, or_null};
use crate::{
    evaluate::Evaluated,
    time,
    value::{Number, Operand},
};

/// Most decimals that `toFixed` keeps.
const MAX_DECIMALS: i64 = 20;

/// Whether the value is anything but a number.
pub(super) fn is_nan<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::bool(call.subject.as_number().is_none_or(|number| number.float().is_nan())))
}

/// The whole number that a text is; of a number its whole part.
pub(super) fn parse_int<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let whole = match call.subject.as_text() {
        Some(text) => text.trim().parse().ok(),
        None => call.subject.as_number().map(Number::truncated),
    };
    or_null(whole.map(Operand::int))
}

pub(super) fn parse_float<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let number = match call.subject.as_text() {
        Some(text) => text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Number::from_float),
        None => call.subject.as_number(),
    };
    or_null(number.map(Operand::Number))
}

/// Of a number; null when the result is not finite.
fn rounded<'a>(call: &Call<'_, 'a, '_>, change: impl FnOnce(f64) -> f64) -> Evaluated<'a> {
    Ok(match call.subject.as_number() {
        Some(Number::Int(whole)) => Operand::int(whole),
        Some(Number::Float(value)) => Operand::float(change(value)),
        None => Operand::NULL,
    })
}

fn computed<'a>(call: &Call<'_, 'a, '_>, change: impl FnOnce(f64) -> f64) -> Evaluated<'a> {
    let result = call.subject.as_number().map(|number| change(number.float()));
    or_null(result.filter(|value| value.is_finite()).map(Operand::float))
}

pub(super) fn floor<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    rounded(&call, f64::floor)
}

pub(super) fn ceil<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    rounded(&call, f64::ceil)
}

pub(super) fn round<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    rounded(&call, f64::round)
}

/// `toFixed(decimals)`: a number, rounded.
pub(super) fn to_fixed<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let decimals = call.argument(0).as_number().and_then(Number::whole);
    let Some(decimals) = decimals.filter(|n| (0..=MAX_DECIMALS).contains(n)) else { return null() };
    let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or_default());
    rounded(&call, |value| {
        let scaled = value * scale;
        if scaled.is_finite() { scaled.round() / scale } else { value }
    })
}

pub(super) fn log<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    computed(&call, f64::ln)
}

pub(super) fn log10<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    computed(&call, f64::log10)
}

pub(super) fn log2<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    computed(&call, f64::log2)
}

pub(super) fn sqrt<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    computed(&call, f64::sqrt)
}

/// `0|now`: seconds since 1970, and as many more as the number says.
pub(super) fn now<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let seconds = Number::Int(call.evaluation.now.micros.div_euclid(1_000_000));
    or_null(call.subject.as_number().map(|more| Operand::Number(seconds.plus(more))))
}

/// Of seconds since 1970.
pub(super) fn to_iso_string<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let millis = call.subject.as_number().map(|seconds| seconds.times(Number::Int(1000)).truncated());
    or_null(millis.filter(|millis| time::is_in_range(*millis)).and_then(time::with_offset).map(Operand::text))
}

/// Seconds since 1970.
pub(super) fn get_time<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let micros = call.subject.as_text().and_then(time::parse_micros);
    or_null(micros.map(|micros| Operand::int(micros.div_euclid(1_000_000))))
}
